"""`gatling domains …`: the names under which an app is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatling.cli.common import app_argument, as_json, opened
from gatling.ui.output import echo, print_json

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.state.apps import App


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
    """List the domains of APP; the first one other than APP.localhost is its PHX_HOST.

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
def add_command(app: str, domain: str) -> None:
    """Serve APP under DOMAIN, too; in force at once. The first one added is its PHX_HOST.

    \b
    Example:
      gatling domains add shop www.shop.example
    """
    from gatling import names
    from gatling.operations import changes
    from gatling.state import apps, audit

    name = names.domain(domain)
    with opened(app) as gatling:
        found = apps.get(gatling.db, app)
        if not apps.add_domain(gatling.db, app, name):
            echo(f"{app} has {name} already.")
            return
        changes.apply(
            [gatling.configure_router], lambda: apps.take_domains(gatling.db, app, [name])
        )
        audit.record(gatling.db, gatling.actor, app, "domains add", name)
        echo(f"{app} is served under {name}.")
        _tell_host(gatling, found)


@domains_command.command("remove")
@app_argument
@click.argument("domain")
def remove_command(app: str, domain: str) -> None:
    """Serve APP no longer under DOMAIN; in force at once.

    \b
    Example:
      gatling domains remove shop shop.localhost
    """
    from gatling import names
    from gatling.operations import changes
    from gatling.state import apps, audit

    name = names.domain(domain)
    with opened(app) as gatling:
        before = apps.get(gatling.db, app)
        put_back = apps.remove_domain(gatling.db, app, name)
        changes.apply([gatling.configure_router], put_back)
        audit.record(gatling.db, gatling.actor, app, "domains remove", name)
        echo(f"{app} is no longer served under {name}.")
        _tell_host(gatling, before)


def _tell_host(gatling: Gatling, before: App) -> None:
    """Say what has become of PHX_HOST, and what to do."""
    from gatling.deploy import project_domains
    from gatling.state import apps

    if told := project_domains.host_told(gatling, before, apps.get(gatling.db, before.name)):
        echo(told)
