"""`gatling certificates …`: with what an app's domains are served over HTTPS."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gatling.cli import ca
from gatling.cli.common import CERTIFICATES, app_argument, as_json, confirm, confirm_option, opened
from gatling.cli.groups import Group
from gatling.errors import Exit, InvalidInput
from gatling.ui.output import echo, print_json, table

if TYPE_CHECKING:
    from gatling.operations.certificates import Kept

MAX_READ = 1 << 20


@click.group("certificates", cls=Group)
def certificates_command() -> None:
    """Manage the certificates with which an app's domains are served over HTTPS.

    \b
    Examples:
      gatling certificates show shop
      cat fullchain.pem privkey.pem | gatling certificates add shop
    """


for _one in (ca.account_command, ca.authority_command, ca.dns_command):
    certificates_command.add_command(_one)


@certificates_command.command("show")
@app_argument
@as_json
def show_command(app: str, as_json: bool) -> None:
    """Show how APP is served over HTTPS: its certificates, the next renewal, the last error.

    \b
    Example:
      gatling certificates show shop
    """
    from gatling.operations import https

    with opened() as gatling:
        found = https.shown(gatling, app)
    if as_json:
        print_json(found)
        return
    for one in found.certificates:
        serves = ", ".join(one.domains) or "not in use"
        echo(f"{one.id[:8]}  {serves}: until {_until(one)}, from {one.issuer}, {one.key}")
    if not found.certificates:
        echo(f"{app} has no certificate: its domains are served over HTTP.")
    elif found.without:
        echo(f"Served over HTTP: {', '.join(found.without)}.")
    for problem in found.problems:
        echo(problem)
    if found.unverifiable:
        echo(
            f"Gatling cannot obtain a certificate for {', '.join(found.unverifiable)}:"
            f" give one with `gatling certificates add {app}`."
        )
        if any(one.startswith("*.") for one in found.unverifiable):
            echo(
                "For a `*`, it can also write records in the DNS: `gatling help certificates dns`."
            )
    if found.renew_at:
        echo(f"Renewal: {found.renew_at[:16].replace('T', ' ')} UTC, or soon after.")
    if found.error:
        echo(f"The last attempt failed. {found.error}")
        echo(*filter(None, [found.hint]))
        if found.retry_at:
            echo(f"Next attempt: {found.retry_at[:16].replace('T', ' ')} UTC.")


@certificates_command.command("issue")
@app_argument
@as_json
def issue_command(app: str, as_json: bool) -> None:
    """Obtain a certificate for the domains of APP now, even if none is needed.

    The certificate that serves is replaced when the new one serves. Domains with a certificate of
    your own are left out. CAs limit how many certificates they issue in a week.

    \b
    Example:
      gatling certificates issue shop
    """
    from gatling.operations import issuing

    with opened(app, instead=CERTIFICATES) as gatling:
        done = issuing.issue(gatling, app)
    if as_json:
        print_json(done)
        return
    echo(f"{', '.join(done.domains)}: served over HTTPS.")
    if done.error:
        echo(*filter(None, [done.error, done.hint]))


@certificates_command.command("renew")
@click.argument("app", metavar="[APP]", required=False)
@click.option("--scheduled", is_flag=True, hidden=True, help="Do nothing without an account.")
@as_json
@click.pass_context
def renew_command(context: click.Context, app: str | None, scheduled: bool, as_json: bool) -> None:
    """Obtain the certificates that APP, or any app, lacks or that are due.

    A systemd timer runs this twice a day. An app whose last attempt failed waits for its next one.

    \b
    Examples:
      gatling certificates renew
      gatling certificates renew shop
    """
    from gatling.operations import issuing

    with opened() as gatling:
        done = issuing.renew(gatling, app, scheduled=scheduled)
    if as_json:
        print_json(done)
    for one in done if not as_json else ():
        if one.domains:
            echo(f"{one.app}: {', '.join(one.domains)} served over HTTPS.")
        if one.error:
            echo(f"{one.app}: {one.error}", *filter(None, [one.hint]), err=True)
    if any(one.error for one in done):
        context.exit(int(Exit.HOST))


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
    with opened(app, instead=CERTIFICATES) as gatling:
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

    with opened(app, instead=CERTIFICATES) as gatling:
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
