"""`gatling domains …`: the names under which an app is reached."""

from __future__ import annotations

import click

from gatling.cli.common import app_argument, as_json, opened
from gatling.cli.groups import Group
from gatling.ui.output import echo, print_json


@click.group("domains", cls=Group)
def domains_command() -> None:
    """Manage the domains of an app.

    \b
    Example:
      gatling domains add shop shop.example.com
    """


@domains_command.command("list")
@app_argument
@as_json
def list_command(app: str, as_json: bool) -> None:
    """List the domains of APP. The first one other than APP.localhost is its PHX_HOST.

    \b
    Example:
      gatling domains list shop
    """
    from gatling.state import apps

    with opened() as gatling:
        found = apps.get(gatling.db, app).domains
    if as_json:
        print_json(list(found))
    else:
        echo(*found)


@domains_command.command("add")
@app_argument
@click.argument("domain")
@click.option(
    "--from", "other_app", metavar="OTHER",
    help="Take the domain from the app OTHER. No request in between is lost.",
)  # fmt: skip
def add_command(app: str, domain: str, other_app: str | None) -> None:
    """Add DOMAIN to APP immediately. The first added domain becomes its PHX_HOST.

    \b
    Examples:
      gatling domains add shop www.shop.example
      gatling domains add store shop.example.com --from shop
      gatling domains add shop 2001:db8::5
    """
    from gatling.operations import domains

    with opened(app, clusters=True) as gatling:
        if other_app is None:
            done = domains.add(gatling, app, domain)
        else:
            done = domains.move(gatling, app, domain, other_app)
    if not done.changed:
        echo(f"{app} already has {done.domain}.")
        return
    echo(f"{app} is served under {done.domain}.")
    for note in done.notes:
        echo(note)


@domains_command.command("remove")
@app_argument
@click.argument("domain")
def remove_command(app: str, domain: str) -> None:
    """Remove DOMAIN from APP immediately.

    \b
    Example:
      gatling domains remove shop shop.localhost
    """
    from gatling.operations import domains

    with opened(app, clusters=True) as gatling:
        done = domains.remove(gatling, app, domain)
    echo(f"{app} is no longer served under {done.domain}.")
    if done.phx_host:
        echo(done.phx_host)
