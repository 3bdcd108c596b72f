"""`gatling maintenance on | off`: a page instead of the app, while deployments go on behind it."""

from __future__ import annotations

import click

from gatling.cli.common import app_argument, opened, progress
from gatling.cli.groups import Group
from gatling.ui.output import echo


@click.group("maintenance", cls=Group)
def maintenance_command() -> None:
    """Show a maintenance page (status 503) instead of an app, which keeps running.

    \b
    Example:
      gatling maintenance on shop
    """


@maintenance_command.command("on")
@app_argument
@click.option(
    "--message", metavar="TEXT", default="",
    help="Text for Gatling's page. Default: the project's page (proxy.maintenance_page).",
)  # fmt: skip
def on_command(app: str, message: str) -> None:
    """Show the maintenance page instead of APP, until you switch it off.

    \b
    Examples:
      gatling maintenance on shop
      gatling maintenance on shop --message "Back at 14:00 UTC."
    """
    _switch(app, message.strip())
    echo(f"{app} is in maintenance. `gatling maintenance off {app}` ends it.")


@maintenance_command.command("off")
@app_argument
def off_command(app: str) -> None:
    """End maintenance immediately.

    \b
    Example:
      gatling maintenance off shop
    """
    _switch(app, None)
    echo(f"{app} is no longer in maintenance.")


def _switch(app: str, message: str | None) -> None:
    from gatling.operations import maintenance

    with opened(app, clusters=True) as gatling:
        maintenance.switch(gatling, app, message, progress().say)
