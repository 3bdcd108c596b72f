"""`gatling auth …`: passwords for an app's domains (basic authentication, by nginx)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gatling.cli.common import app_argument, as_json, opened
from gatling.errors import InvalidInput, NotFound
from gatling.ui.output import echo, print_json, table

if TYPE_CHECKING:
    from gatling.platform.open import Gatling

MAX_PASSWORD = 128

domain_argument = click.argument("domain", metavar="DOMAIN|'*'")


@click.group("auth")
def auth_command() -> None:
    """Passwords for an app's domains: whoever has none does not reach the app.

    Health checks do not need one; a push goes on as without.

    \b
    Example:
      gatling auth add shop staging.example.com ann < password
    """


@auth_command.command("list")
@app_argument
@as_json
def list_command(app: str, as_json: bool) -> None:
    """List who may enter which domains of APP; a domain that is not listed is open to all.

    \b
    Example:
      gatling auth list shop
    """
    from gatling.state import apps

    with opened() as gatling:
        passwords = apps.get(gatling.db, app).passwords
    rows = [(domain, user) for domain, users in passwords.items() for user in users]
    if as_json:
        print_json([{"domain": domain, "user": user} for domain, user in rows])
    else:
        table(("domain", "user"), rows)


@auth_command.command("add")
@app_argument
@domain_argument
@click.argument("user")
def add_command(app: str, domain: str, user: str) -> None:
    """Let USER into DOMAIN of APP, or into all of them ('*'), by a password; in force at once.

    The password is asked for, or is the first line of standard input. A user who is there already
    gets the new one.

    \b
    Examples:
      gatling auth add shop '*' ann
      gatling auth add shop staging.example.com ci < password
    """
    from gatling.project import proxy
    from gatling.state import apps, audit, passwords

    proxy.user(user)
    with opened(app) as gatling:
        found = apps.get(gatling.db, app)
        name = _domain(domain)
        if name != proxy.EVERYWHERE and name not in found.domains:
            raise NotFound(
                f"{app} has no domain {name}.", hint=f"See `gatling domains list {app}`."
            )
        passwords.put(gatling.db, app, name, user, _hashed(_asked(user)))
        _apply(gatling, app, name, user, found.passwords)
        audit.record(gatling.db, gatling.actor, app, "auth add", f"{name} {user}")
    echo(f"{user} may enter {'all domains' if name == proxy.EVERYWHERE else name} of {app}.")


@auth_command.command("remove")
@app_argument
@domain_argument
@click.argument("user")
def remove_command(app: str, domain: str, user: str) -> None:
    """Let USER in no longer; with its last user a domain is open to all.

    \b
    Example:
      gatling auth remove shop '*' ann
    """
    from gatling.state import apps, audit, passwords

    with opened(app) as gatling:
        before = apps.get(gatling.db, app).passwords
        name = _domain(domain)
        passwords.remove(gatling.db, app, name, user)
        _apply(gatling, app, name, user, before)
        audit.record(gatling.db, gatling.actor, app, "auth remove", f"{name} {user}")
        left = apps.get(gatling.db, app).passwords
    echo(f"{user} was removed.")
    if name not in left:
        open_ = "Domains without users of their own are" if name == "*" else f"{name} is"
        if name == "*" or "*" not in left:
            echo(f"{open_} open to all now.")


def _apply(
    gatling: Gatling, app: str, domain: str, user: str, before: dict[str, dict[str, str]]
) -> None:
    """Let nginx ask for the passwords as recorded, or give this user the one from before."""
    from gatling.operations import changes
    from gatling.state import passwords

    hashed = before.get(domain, {}).get(user)

    def take_back() -> None:
        if hashed is None:
            passwords.remove(gatling.db, app, domain, user)
        else:
            passwords.put(gatling.db, app, domain, user, hashed)

    changes.apply([gatling.configure_router], take_back)


def _domain(text: str) -> str:
    from gatling import names
    from gatling.project import proxy

    return text if text == proxy.EVERYWHERE else names.domain(text)


def _asked(user: str) -> str:
    """The password; never an argument, which everybody on the machine could read."""
    if sys.stdin.isatty():
        password = str(
            click.prompt(f"Password of {user}", hide_input=True, confirmation_prompt=True, err=True)
        )
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not 0 < len(password) <= MAX_PASSWORD or not password.isprintable():
        raise InvalidInput(f"A password has 1 to {MAX_PASSWORD} characters, none of them control.")
    return password


def _hashed(password: str) -> str:
    """As crypt(5) has it (SHA-512), which nginx asks the C library to compare with."""
    from gatling import process

    return process.output(["openssl", "passwd", "-6", "-stdin"], stdin=password + "\n").strip()
