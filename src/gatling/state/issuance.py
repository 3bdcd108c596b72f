"""The account with a CA, and for each app how its certificates were last obtained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, structs

from gatling import decoding
from gatling.state import home_settings

if TYPE_CHECKING:
    from gatling.state.database import Database

ACCOUNT, DNS = "acme-account", "acme-dns"


class Account(Struct, frozen=True, kw_only=True):
    """An account with a CA that speaks ACME. It is a secret."""

    email: str
    directory: str
    """The URL of the CA's directory (RFC 8555, section 7.1.1)."""
    key: str
    """PEM. Its owner can use the account, and the verifications of domains that it holds."""
    uri: str
    """The URL by which the CA knows the account."""
    profile: str = ""
    """The profile of certificates that the CA is asked for, by its name; empty: its default."""
    trusted: str = ""
    """The certificates (PEM) with which the CA's server is checked; empty: those of the system."""


class Dns(Struct, frozen=True, kw_only=True):
    """How records get into the DNS: by updates or by a program. It is a secret."""

    server: str = ""
    """The primary server of the zones: a name or an address."""
    port: int = 53
    key: str = ""
    """The name of the key (TSIG) that signs updates."""
    algorithm: str = ""
    secret: str = ""
    """The key itself, in base64."""
    program: str = ""
    """The path of the program; empty: updates."""


class Issuance(Struct, frozen=True, kw_only=True):
    """The state of an app's certificates; times are Unix times, 0 for none."""

    app: str
    certificate: str = ""
    """The id of the certificate that `renew_at` is about."""
    renew_at: float = 0
    """The time that the CA proposed for its renewal (RFC 9773)."""
    ask_at: float = 0
    """The time before which the CA is not asked for that again."""
    failures: int = 0
    """Attempts for `domains` that failed, since one succeeded."""
    error: str = ""
    hint: str = ""
    domains: str = ""
    """The domains of the attempt that failed, separated by blanks."""
    retry_at: float = 0
    """The time of the next attempt after a failure."""
    blocked_until: float = 0
    """The time before which the CA wants no request at all (Retry-After)."""
    early_at: float = 0
    """The last time when a certificate was replaced soon after it had been issued."""


def account(db: Database) -> Account | None:
    """The account of this home, if there is one."""
    stored = home_settings.get(db, ACCOUNT)
    return decoding.from_json(stored, Account) if stored else None


def put_account(db: Database, given: Account) -> None:
    """Use an account from now on."""
    home_settings.put(db, ACCOUNT, msgspec.json.encode(given).decode())


def dns(db: Database) -> Dns | None:
    """How this home writes records of challenges, if it can."""
    stored = home_settings.get(db, DNS)
    return decoding.from_json(stored, Dns) if stored else None


def put_dns(db: Database, given: Dns | None) -> None:
    """Write records in this way from now on; None: not at all."""
    home_settings.put(db, DNS, msgspec.json.encode(given).decode() if given else "")


def of_app(db: Database, app: str) -> Issuance:
    """The state of an app's certificates."""
    row = db.row("SELECT * FROM issuance WHERE app = ?", app)
    return Issuance(**dict(row)) if row else Issuance(app=app)


def put(db: Database, state: Issuance) -> None:
    """Record a state, unless its app has been removed."""
    values = structs.asdict(state)
    with db.transaction(durable=True):
        if db.row("SELECT 1 FROM apps WHERE name = ?", state.app):
            db.execute(
                f"INSERT OR REPLACE INTO issuance ({', '.join(values)})"  # noqa: S608
                f" VALUES ({', '.join('?' * len(values))})",
                *values.values(),
            )


def wait_no_longer(db: Database) -> None:
    """Let the next attempt of each app be made as soon as its CA allows it."""
    with db.transaction(durable=True):
        db.execute("UPDATE issuance SET retry_at = 0")


def forget_times(db: Database) -> None:
    """Forget what was found out on another machine, or for certificates that are not there."""
    with db.transaction(durable=True):
        db.execute("DELETE FROM issuance")
