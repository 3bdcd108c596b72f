"""`gatling domains …`: the names under which an app is reached."""

from __future__ import annotations

import click

from gatling.cli.common import app_argument, as_json, opened
from gatling.ui.output import print_json


@click.group("domains")
def domains_command() -> None:
    """The names under which an app is reached.

    \b
    Example:
      gatling domains add shop shop.example.com
    """


@domains_command.command("list")
@app_argument
@as_json
def list_command(app: str, as_json: bool) -> None:
    """List the domains of APP; the first one is its PHX_HOST.

    \b
    Example:
      gatling domains list shop
    """
    from gatling.state import apps

    with opened() as engine:
        found = apps.get(engine.db, app).domains
    if as_json:
        print_json(list(found))
    else:
        click.echo("\n".join(found))


@domains_command.command("add")
@app_argument
@click.argument("domain")
def add_command(app: str, domain: str) -> None:
    """Serve APP under DOMAIN, too; in force at once.

    \b
    Example:
      gatling domains add shop www.shop.example
    """
    from gatling.project import names
    from gatling.state import apps, audit

    name = names.domain(domain)
    with opened() as engine:
        found = apps.get(engine.db, app)
        if not apps.add_domain(engine.db, app, name):
            click.echo(f"{app} has {name} already.")
            return
        try:
            engine.configure_router()
        except BaseException:
            apps.remove_domain(engine.db, app, name)
            raise
        audit.record(engine.db, engine.actor, app, "domains add", name)
        click.echo(f"{app} is served under {name}.")
        click.echo(
            f"PHX_HOST stays {found.domain}. Phoenix refuses websockets from other hosts unless"
            " its endpoint's check_origin allows them."
        )


@domains_command.command("remove")
@app_argument
@click.argument("domain")
def remove_command(app: str, domain: str) -> None:
    """Serve APP no longer under DOMAIN; in force at once.

    \b
    Example:
      gatling domains remove shop shop.localhost
    """
    from gatling.project import names
    from gatling.state import apps, audit

    name = names.domain(domain)
    with opened() as engine:
        before = apps.get(engine.db, app).domains
        apps.remove_domain(engine.db, app, name)
        try:
            engine.configure_router()
        except BaseException:
            apps.replace_domains(engine.db, app, before)
            raise
        audit.record(engine.db, engine.actor, app, "domains remove", name)
        click.echo(f"{app} is no longer served under {name}.")
