"""`gatling whoami`."""

from __future__ import annotations

import os

import click

from gatling.cli.common import as_json, opened
from gatling.ui.output import ago, echo, print_json


@click.command("whoami")
@as_json
def whoami_command(as_json: bool) -> None:
    """Show who you are to Gatling: name, role, apps, host.

    \b
    Example:
      gatling whoami
    """
    from gatling.operations import identity

    with opened() as gatling:
        found = identity.who(gatling, by_key="GATLING_ROLE" in os.environ)
    if as_json:
        print_json(found)
        return
    apps = "all" if "*" in found.apps else ", ".join(sorted(found.apps))
    key = f"{found.fingerprint}, added {ago(found.added_at)}" if found.added_at else "none needed"
    for label, value in (
        ("name", found.name), ("role", found.role), ("apps", apps), ("key", key),
        ("host", found.host), ("home", found.home),
    ):  # fmt: skip
        echo(f"{label:<8} {value}")
