"""`gatling run`, `gatling console`: one-off commands of the live release."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from gatling.cli.common import app_argument, opened
from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from typing import NoReturn


@click.command("run", context_settings={"ignore_unknown_options": True})
@app_argument
@click.argument("arguments", metavar="-- ARGS...", nargs=-1, required=True, type=click.UNPROCESSED)
def run_command(app: str, arguments: tuple[str, ...]) -> None:
    """Run a one-off command with the live release's code and config.

    ARGS begin with a program of its bin/ (migrate) or a command of its main script (eval, rpc).

    \b
    Examples:
      gatling run shop -- eval 'Shop.Release.migrate()'
      gatling run shop -- rpc 'IO.inspect(node())'
      gatling run shop -- migrate
    """
    _become(app, arguments)


@click.command("console")
@app_argument
def console_command(app: str) -> None:
    """Open a remote shell on the running node of APP (leave it with Ctrl-C twice).

    \b
    Example:
      gatling console shop
    """
    _become(app, ("remote",))


def _become(app: str, arguments: tuple[str, ...]) -> NoReturn:
    """Replace this process by the command, so that its terminal, signals and status are its own."""
    from gatling.deploy import instances
    from gatling.state import apps, audit, releases

    with opened() as engine:
        found = apps.get(engine.db, app)
        if found.live_release is None or found.live_slot is None:
            raise InvalidInput(f"Nothing of {app} has been deployed yet.")
        running = (
            engine.supervisor.status(app, found.live_slot).up if _needs_node(arguments) else True
        )
        if not running:
            raise InvalidInput(
                f"{app} is not running; {arguments[0]} needs its node.",
                hint=f"`gatling start {app}`, or `gatling up` for all apps.",
            )
        release = releases.kept(engine.db, app, found.live_release)
        argv, env = instances.one_off(
            engine.home.app(app), found, release, found.live_slot, arguments
        )
        audit.record(engine.db, engine.actor, app, "run", arguments[0])
    terminal = {name: os.environ[name] for name in ("TERM", "COLUMNS") if name in os.environ}
    os.execve(argv[0], argv, env | terminal)  # noqa: S606


def _needs_node(arguments: tuple[str, ...]) -> bool:
    return arguments[0] in ("rpc", "remote", "pid", "stop", "restart")
