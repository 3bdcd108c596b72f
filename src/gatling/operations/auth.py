"""Passwords for the domains of an app (basic authentication)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import names, process
from gatling.errors import InvalidInput, NotFound
from gatling.operations import changes
from gatling.project import proxy
from gatling.state import apps, moves, passwords

if TYPE_CHECKING:
    from gatling.platform.open import Gatling

MAX_PASSWORD = 128


class DomainUser(Struct, frozen=True):
    """A user who may enter a domain."""

    domain: str
    """`*` stands for all domains of the app."""
    user: str


def every(gatling: Gatling, app: str) -> list[DomainUser]:
    """List the users with a password for an app's domains; raises NotFound."""
    known = apps.get(gatling.db, app).passwords
    return [DomainUser(domain, user) for domain, users in known.items() for user in users]


def domain_of(text: str) -> str:
    """A domain, or `*` for all domains of the app; raises InvalidInput."""
    return text if text == proxy.EVERYWHERE else names.domain(text)


def find(gatling: Gatling, app: str, domain: str, user: str) -> str:
    """Check the app, the domain and the user's name before a password is asked for; the domain.

    Raises InvalidInput and NotFound.
    """
    proxy.user(user)
    found = apps.get(gatling.db, app)
    name = domain_of(domain)
    if name != proxy.EVERYWHERE and name not in found.domains:
        raise NotFound(f"{app} has no domain {name}.", hint=f"See `gatling domains list {app}`.")
    return name


def add(gatling: Gatling, app: str, domain: str, user: str, password: str) -> str:
    """Let a user in, or give the user another password; the domain. Applied immediately.

    Raises InvalidInput, NotFound, and ProxyRefused with everything as before.
    """
    name = find(gatling, app, domain, user)
    if not 0 < len(password) <= MAX_PASSWORD or not password.isprintable():
        raise InvalidInput(
            f"A password has 1 to {MAX_PASSWORD} characters and no control characters."
        )
    moves.need_one(gatling.db, app)
    before = apps.get(gatling.db, app).passwords
    passwords.put(gatling.db, app, name, user, _hashed(password))
    _apply(gatling, app, name, user, before, "auth add")
    return name


def remove(gatling: Gatling, app: str, domain: str, user: str) -> str:
    """Let a user in no longer; which domains are open to everyone now, as a sentence, or nothing.

    Raises NotFound, and ProxyRefused with everything as before.
    """
    before = apps.get(gatling.db, app).passwords
    name = domain_of(domain)
    passwords.remove(gatling.db, app, name, user)
    _apply(gatling, app, name, user, before, "auth remove")
    left = apps.get(gatling.db, app).passwords
    if name in left:
        return ""
    if name == proxy.EVERYWHERE:
        return "Domains without their own users are public now."
    return f"{name} is public now." if proxy.EVERYWHERE not in left else ""


def _apply(
    gatling: Gatling,
    app: str,
    domain: str,
    user: str,
    before: dict[str, dict[str, str]],
    action: str,
) -> None:
    """Let nginx ask for the passwords as recorded, or give this user the one from before."""
    hashed = before.get(domain, {}).get(user)

    def take_back() -> None:
        if hashed is None:
            passwords.remove(gatling.db, app, domain, user)
        else:
            passwords.put(gatling.db, app, domain, user, hashed)

    changes.change(
        gatling, app, action, f"{domain} {user}",
        steps=[gatling.configure_router], take_back=take_back,
    )  # fmt: skip


def _hashed(password: str) -> str:
    """As crypt(5) has it (SHA-512), which nginx asks the C library to compare with."""
    return process.output(["openssl", "passwd", "-6", "-stdin"], stdin=password + "\n").strip()
