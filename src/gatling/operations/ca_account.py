"""The account of this server with a CA."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from gatling.errors import InvalidInput, NotFound
from gatling.runtime import obtaining
from gatling.state import apps, audit, issuance
from gatling.state.issuance import Account

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.platform.open import Gatling

_BASE64URL = re.compile(r"[A-Za-z0-9_-]{16,1000}\Z")
HOW = "`gatling certificates account --email ADDRESS` creates one with Let's Encrypt."


class AccountShown(Struct, frozen=True):
    """The account with a CA, without its key."""

    email: str
    directory: str
    uri: str
    profile: str
    """The profile of certificates; empty: the CA's default."""
    own_trust: bool
    """Whether the CA's server is checked with certificates that were given."""


def shown(gatling: Gatling) -> AccountShown:
    """The account of this server; raises NotFound."""
    found = issuance.account(gatling.db)
    if found is None:
        raise NotFound("This server has no account with a CA.", hint=HOW)
    return AccountShown(
        found.email, found.directory, found.uri, found.profile, own_trust=bool(found.trusted)
    )


def challenges(gatling: Gatling) -> Path:
    """The directory of answers to challenges; raises InvalidInput where no CA could read them."""
    directory = gatling.certificates.challenges()
    if directory is None:
        raise InvalidInput(
            "No CA reaches an embedded home: its local authority makes the certificates.",
            hint="`gatling up --tls` serves HTTPS with them. `gatling certificates authority` shows"
            " how to trust them.",
        )
    return directory


def used(gatling: Gatling) -> Account:
    """The account of this server with its key; raises InvalidInput without one."""
    challenges(gatling)
    found = issuance.account(gatling.db)
    if found is None:
        raise InvalidInput("This server has no account with a CA.", hint=HOW)
    return found


def use(
    gatling: Gatling,
    email: str,
    directory: str,
    trusted: str,
    *,
    profile: str | None = None,
    new_key: bool = False,
    binding: tuple[str, str] | None = None,
) -> AccountShown:
    """Create an account with the CA of a directory, whose terms are accepted, and use it.

    With the same CA the account stays, with another address, unless it has a `new_key`. With
    another one, all certificates become due. None leaves the profile as it is. `binding` is the
    name of the key with which a CA's customer opens accounts, and the key; neither is kept. Raises
    InvalidInput, CertificateFailed.
    """
    challenges(gatling)
    from gatling.proxy import authority

    bound = None if binding is None else authority.Binding(_kid(binding[0]), _mac_key(binding[1]))
    before = issuance.account(gatling.db)
    url = authority.checked_directory(
        directory or (before.directory if before else authority.LETS_ENCRYPT)
    )
    same = before is not None and before.directory == url
    wanted = Account(
        email=_email(email),
        directory=url,
        key=before.key if before and same and not new_key else authority.new_key(),
        uri="",
        profile=profile if profile is not None else (before.profile if before and same else ""),
        trusted=trusted or (before.trusted if before and same else ""),
    )
    ca = authority.Authority(wanted)
    ca.check_profile()
    uri = ca.register(wanted.email, bound)
    issuance.put_account(gatling.db, structs.replace(wanted, uri=uri))
    if same:
        issuance.wait_no_longer(gatling.db)
    elif before:
        _replace_all(gatling)
    audit.record(gatling.db, gatling.actor, None, "certificates account", f"{email} {url}")
    return shown(gatling)


def _replace_all(gatling: Gatling) -> None:
    """Let all certificates be due, and forget what another CA has said."""
    soon = time.time() + obtaining.DAY
    for app in apps.every(gatling.db):
        current = obtaining.newest(gatling.certificates.of(app.name))
        state = issuance.Issuance(app=app.name)
        if current is not None:  # the CA of now has nothing to say of it
            state = structs.replace(state, certificate=current.id, renew_at=1, ask_at=soon)
        issuance.put(gatling.db, state)


def _kid(text: str) -> str:
    if not text or len(text) > 500 or not text.isascii() or not text.isprintable():
        raise InvalidInput(f"{text[:80]!r} is not the name of a key.")
    return text


def _mac_key(text: str) -> str:
    """The key without padding; raises InvalidInput, which never shows a part of it."""
    key = text.strip().rstrip("=").translate(str.maketrans("+/", "-_"))
    if not _BASE64URL.match(key) or len(key) % 4 == 1:
        raise InvalidInput(
            "The key of --eab-key-file is not in base64url.",
            hint="Give it as the CA shows it, as the only text of the file.",
        )
    return key


def _email(text: str) -> str:
    local, _, host = text.partition("@")
    if not local or not host or len(text) > 254 or not text.isascii() or not text.isprintable():
        raise InvalidInput(f"{text!r} is not an e-mail address.")
    if any(character in text for character in " ,;<>\"'?&"):
        raise InvalidInput(f"{text!r} is not an e-mail address.")
    return text
