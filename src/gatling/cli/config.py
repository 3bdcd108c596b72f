"""`gatling config …`: the environment variables of an app."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gatling.cli.common import app_argument, as_json, opened, progress
from gatling.cli.groups import Group
from gatling.errors import InvalidInput, NotFound
from gatling.text import counted
from gatling.ui.output import echo, echo_exactly, print_json, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import IO

no_restart = click.option(
    "--no-restart",
    is_flag=True,
    help="Store the change for the next deployment. Nothing changes now.",
)


@click.group("config", cls=Group)
def config_command() -> None:
    """Manage the environment variables of an app.

    \b
    Example:
      gatling config set shop POOL_SIZE=5
    """


@config_command.command("list")
@app_argument
@click.option("--show", is_flag=True, help="Also show the values.")
@as_json
def list_command(app: str, show: bool, as_json: bool) -> None:
    """List the variables. Values are shown only with --show or --json.

    \b
    Example:
      gatling config list shop --show
    """
    from gatling.state import apps, config

    with opened() as gatling:
        apps.get(gatling.db, app)
        values = config.of_app(gatling.db, app)
        waiting = config.pending(gatling.db, app)
    if as_json:
        print_json(values)
        return
    if show:
        table(("name", "value"), [(n, _one_line(v)) for n, v in values.items()])
    else:
        table(("name", "length"), [(n, counted(len(v), "character")) for n, v in values.items()])
    if waiting:
        echo(f"Stored for the next deployment, not applied yet: {', '.join(waiting)}", err=True)


@config_command.command("get")
@app_argument
@click.argument("name")
def get_command(app: str, name: str) -> None:
    """Print the exact value of NAME.

    \b
    Example:
      gatling config get shop DATABASE_URL
    """
    from gatling.state import apps, config

    with opened() as gatling:
        apps.get(gatling.db, app)
        values = config.of_app(gatling.db, app)
    if name not in values:
        raise NotFound(f"{app} has no variable {name}.", hint=f"`gatling config list {app}`")
    echo_exactly(values[name])


@config_command.command("set")
@app_argument
@click.argument("assignments", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("--stdin", "from_stdin", metavar="NAME", help="Read the value of NAME from stdin.")
@click.option(
    "--file", "files", metavar="NAME PATH", type=(str, click.File("rb")), multiple=True,
    help="Read the exact value of NAME from a file.",
)  # fmt: skip
@no_restart
def set_command(
    app: str,
    assignments: tuple[str, ...],
    from_stdin: str | None,
    files: tuple[tuple[str, IO[bytes]], ...],
    no_restart: bool,
) -> None:
    """Set variables, and replace the running release with one that has them.

    \b
    Examples:
      gatling config set shop POOL_SIZE=5 GREETING="two words"
      gatling config set shop --stdin DATABASE_URL < url
      gatling config set shop --file TLS_KEY key.pem --no-restart
    """
    changes: dict[str, str] = dict(_assignments(assignments))
    if from_stdin:
        changes[from_stdin] = _decoded(from_stdin, sys.stdin.buffer.read())
        # `echo value | …` means the value, not the value and a newline
        changes[from_stdin] = changes[from_stdin].removesuffix("\n")
    for name, file in files:
        changes[name] = _decoded(name, file.read())
    if not changes:
        raise click.UsageError("Nothing to set: give NAME=VALUE, --stdin or --file.")
    _change(app, changes, no_restart=no_restart)


@config_command.command("unset")
@app_argument
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@no_restart
def unset_command(app: str, names: tuple[str, ...], no_restart: bool) -> None:
    """Unset variables.

    \b
    Example:
      gatling config unset shop GREETING
    """
    from gatling.state import apps, config

    with opened() as gatling:
        apps.get(gatling.db, app)
        missing = sorted(set(names) - config.of_app(gatling.db, app).keys())
    if missing:
        raise NotFound(f"{app} has no variable {', '.join(missing)}; nothing was changed.")
    _change(app, dict.fromkeys(names), no_restart=no_restart)


def _change(app: str, changes: Mapping[str, str | None], *, no_restart: bool) -> None:
    from gatling.operations import config

    with opened(app, clusters=True) as gatling:
        if not config.change(gatling, app, changes, progress=progress(), restart=not no_restart):
            echo("Nothing to change: the variables already have these values.")


def _assignments(texts: Iterable[str]) -> Iterable[tuple[str, str]]:
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f"{name!r} has no '='.", hint="Write NAME=VALUE, or use --stdin.")
        yield name, value


def _decoded(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidInput(
            f"The value of {name} is not UTF-8 text.", hint="Encode it, for example with base64."
        ) from None


def _one_line(value: str) -> str:
    return value if value.isprintable() else repr(value)[1:-1]
