"""`gatling certificates …`: with what an app's domains are served over HTTPS."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gatling.cli.common import app_argument, as_json, confirm, confirm_option, opened
from gatling.cli.groups import Group
from gatling.errors import InvalidInput
from gatling.ui.output import echo, print_json, table

if TYPE_CHECKING:
    from gatling.operations.certificates import Kept

MAX_READ = 1 << 20


@click.group("certificates", cls=Group)
def certificates_command() -> None:
    """Manage the certificates with which an app's domains are served over HTTPS.

    \b
    Example:
      cat fullchain.pem privkey.pem | gatling certificates add shop
    """


@certificates_command.command("list")
@app_argument
@as_json
def list_command(app: str, as_json: bool) -> None:
    """List the certificates of APP: which domains they serve, and until when.

    \b
    Example:
      gatling certificates list shop
    """
    from gatling.operations import certificates

    with opened() as gatling:
        found = certificates.of(gatling, app)
    if as_json:
        print_json(found)
        return
    if not found:
        echo(f"{app} has no certificate: its domains are served over HTTP.")
        return
    rows = [
        (one.id[:8], ", ".join(one.domains) or "not in use", _until(one),
         one.issuer, one.key)
        for one in found
    ]  # fmt: skip
    table(("certificate", "serves", "expires", "issuer", "key"), rows)


@certificates_command.command("add")
@app_argument
def add_command(app: str) -> None:
    """Serve APP over HTTPS with a certificate of your own, read from stdin.

    Give the certificate, its chain and its private key as PEM, in any order. It takes effect
    immediately, for those of APP's domains that it is for. If a domain has several, the one
    added last is used.

    \b
    Example:
      cat fullchain.pem privkey.pem | gatling certificates add shop
    """
    from gatling.operations import certificates

    pem = _pem()
    with opened(app) as gatling:
        done = certificates.add(gatling, app, pem)
    one = done.certificate
    if not done.changed:
        echo(f"{app} has this certificate already ({one.id[:8]}).")
        return
    echo(f"{', '.join(one.domains)}: served over HTTPS until {_until(one)}.")
    if done.without:
        echo(f"Without a certificate: {', '.join(done.without)}.")
    if one.self_signed:
        echo("Nobody but its maker vouches for it (self-signed): browsers will warn of it.")
    elif done.alone:
        echo(
            "It came without the certificate of its issuer. Clients that do not know that one will"
            " refuse the connection; a CA calls the file with both fullchain.pem."
        )


@certificates_command.command("remove")
@app_argument
@click.argument("certificate")
@confirm_option
def remove_command(app: str, certificate: str, given: str | None) -> None:
    """Remove CERTIFICATE and its private key from the host.

    CERTIFICATE is its id, or the beginning of that, as `gatling certificates list` shows it.

    \b
    Example:
      gatling certificates remove shop 5e2b9d10 --confirm shop
    """
    from gatling.operations import certificates

    with opened(app) as gatling:
        found = certificates.find(gatling, app, certificate)
        if found.domains:
            confirm(
                app, given, f"This removes the certificate that serves {', '.join(found.domains)}."
            )
        done = certificates.remove(gatling, app, found.id)
    echo(f"The certificate {done.id[:8]} of {app} was removed, and its key.")
    if done.without:
        echo(f"Served over HTTP from now on: {', '.join(done.without)}.")


def _until(one: Kept) -> str:
    days = one.days_left
    if days < 0:
        left = "expired"
    else:
        left = "today" if days == 0 else f"in {days} day{'' if days == 1 else 's'}"
    return f"{one.not_after} ({left})"


def _pem() -> str:
    """Certificate and key: never an argument, which everybody on the machine could read."""
    if sys.stdin.isatty():
        raise InvalidInput(
            "Certificate and key are read from stdin.",
            hint="For example `cat fullchain.pem privkey.pem | gatling certificates add shop`.",
        )
    data = sys.stdin.buffer.read(MAX_READ)
    return data.decode("utf-8", "replace")
