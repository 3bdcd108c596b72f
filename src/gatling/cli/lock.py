"""`gatling lock`, `unlock`."""

from __future__ import annotations

import click

from gatling.cli.common import app_argument, opened
from gatling.ui.output import ago, echo


@click.command("lock")
@app_argument
@click.option(
    "-m", "--message", metavar="TEXT", default="",
    help="The reason, which everyone reads whose deployment is refused.",
)  # fmt: skip
def lock_command(app: str, message: str) -> None:
    """Refuse deployments of APP until `gatling unlock`, for example during a release freeze.

    A push, `deploy`, `rollback` and a change of config that restarts APP are refused. `restart`,
    `stop`, `start` and `maintenance` are not. A deployment in progress is not stopped.

    \b
    Example:
      gatling lock shop --message "Release freeze until Monday"
    """
    from gatling.operations import locks

    with opened(app, clusters=True) as gatling:
        locks.lock(gatling, app, message.strip())
    echo(f"{app} is locked. `gatling unlock {app}` allows deployments again.")


@click.command("unlock")
@app_argument
def unlock_command(app: str) -> None:
    """Allow deployments of APP again.

    \b
    Example:
      gatling unlock shop
    """
    from gatling.operations import locks

    with opened(app, clusters=True) as gatling:
        held = locks.unlock(gatling, app)
    echo(f"{app} takes deployments again. {held.actor} had locked it {ago(held.at)}.")
