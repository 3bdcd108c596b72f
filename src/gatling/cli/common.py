"""What several commands share."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.engine import Engine
    from gatling.ui.progress import Progress

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
strategy_option = click.option(
    "--strategy",
    type=click.Choice(("auto", "hot", "rolling", "restart")),
    help="Instead of the app's setting deploy.strategy; `hot` fails where it is not safe.",
)
app_argument = click.argument("app", metavar="APP")


@contextlib.contextmanager
def opened() -> Iterator[Engine]:
    """The engine of the home in use; deployments whose process was killed are recovered first."""
    from gatling.engine import open_engine

    with open_engine() as engine:
        if engine.db.row("SELECT 1 FROM deployments WHERE outcome = 'running' LIMIT 1"):
            from gatling.deploy import recovery

            for name in recovery.recover_unfinished(engine):
                click.echo(
                    f"{name}: recovered from a deployment whose process was killed", err=True
                )
        yield engine


def progress() -> Progress:
    """Progress on standard error; standard output is for results."""
    from gatling.ui.progress import Progress

    return Progress()


def confirm(app: str, given: str | None, what: str) -> None:
    """Ask before something is destroyed, or take `--confirm APP`; raises InvalidInput."""
    if given is None:
        given = click.prompt(f"{what}\nType the app's name to go on", err=True)
    if given != app:
        raise InvalidInput(f"{given!r} is not {app!r}; nothing was changed.")


def release_argument(text: str) -> int | None:
    """7 for `v7` or `7`; None when it must be a commit."""
    from gatling.project import names

    return names.release_number(text) if len(text) < 7 or text.startswith("v") else None
