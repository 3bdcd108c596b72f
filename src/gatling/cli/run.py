"""`gatling run`, `gatling console`: one-off commands of the live release."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click
from msgspec import structs

from gatling import names
from gatling.cli.common import app_argument, opened
from gatling.errors import InvalidInput
from gatling.ui.output import echo_text

if TYPE_CHECKING:
    from typing import NoReturn


@click.command("run", context_settings={"ignore_unknown_options": True})
@app_argument
@click.option("--release", metavar="RELEASE", help="Use this release instead of the live one.")
@click.argument("arguments", metavar="-- ARGS...", nargs=-1, required=True, type=click.UNPROCESSED)
def run_command(app: str, release: str | None, arguments: tuple[str, ...]) -> None:
    """Run a one-off command with the code and config of the live or another release.

    ARGS start with a program in the release's bin/ (migrate) or a command of its main script
    (eval, rpc).

    \b
    Examples:
      gatling run shop -- eval 'Shop.Release.migrate()'
      gatling run shop -- rpc 'IO.inspect(node())'
      gatling run shop -- migrate
      gatling run shop --release v7 -- migrate
    """
    number = names.release_number(release) if release is not None else None
    if release is not None and number is None:
        raise InvalidInput(f"{release!r} is not a release.", hint="For example v7.")
    _run(app, arguments, number)


@click.command("console")
@app_argument
def console_command(app: str) -> None:
    """Open a remote shell on the running node of APP. Press Ctrl-C twice to leave it.

    \b
    Example:
      gatling console shop
    """
    if not os.isatty(0):
        raise _no_terminal(app)
    _run(app, ("remote",), None)


def _run(app: str, arguments: tuple[str, ...], wish: int | None) -> NoReturn:
    """Replace this process by the command, so that its terminal, signals and status are its own.

    On a cluster, this process stands for it instead.
    """
    from gatling.operations import one_off
    from gatling.state import apps

    with opened(app, clusters=True) as gatling:
        if apps.get(gatling.db, app).platform is not None:
            from gatling.operations import cluster_runs

            if arguments[0] in cluster_runs.WITH_TERMINAL and not os.isatty(0):
                raise _no_terminal(app)
            sys.exit(cluster_runs.run(gatling, app, arguments, wish, _show))
        task = one_off.prepare(gatling, app, arguments, wish)
    terminal = {name: os.environ[name] for name in ("TERM", "COLUMNS") if name in os.environ}
    gatling.tasks.become(structs.replace(task, env=task.env | terminal))


def _no_terminal(app: str) -> InvalidInput:
    return InvalidInput("A remote shell needs a terminal.", hint=f"`gatling run {app} -- rpc …`")


def _show(line: str) -> None:
    echo_text(f"{line}\n")
