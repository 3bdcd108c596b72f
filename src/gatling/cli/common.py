"""Functions that several commands share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gatling import visible
from gatling.errors import InvalidInput
from gatling.operations.session import (
    CERTIFICATES,
    DATABASES,
    PASSWORDS,
    created,
    opened,
    reading,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.ui.progress import Progress

Function = TypeVar("Function", bound="Callable[..., Any]")

__all__ = [
    "CERTIFICATES",
    "DATABASES",
    "PASSWORDS",
    "app_argument",
    "as_json",
    "confirm",
    "created",
    "opened",
    "progress",
    "reading",
    "release_argument",
]

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
strategy_option = click.option(
    "--strategy",
    type=click.Choice(("auto", "hot", "rolling", "restart")),
    help="Override the setting deploy.strategy. `hot` fails if it is not safe.",
)
rehearse_option = click.option(
    "--rehearse",
    is_flag=True,
    help="Try new migrations on a fork of the database first, and a hot upgrade on a throw-away"
    " instance of the live release.",
)
confirm_option = click.option(
    "--confirm",
    "given",
    metavar="APP",
    help="Confirm without a prompt by repeating the app's name.",
)
database_option = click.option(
    "--name", metavar="NAME", help="The database. Default: the app's name."
)
no_restart_option = click.option(
    "--no-restart", is_flag=True, help="Leave the running release alone until the next deployment."
)


class _AppArgument(click.Argument):
    """The app, which `remote.here` puts in its place when it is left out."""

    def get_error_hint(self, ctx: click.Context | None) -> str:  # noqa: ARG002
        return "'APP'"


def _unread(_: click.Context, option: click.Parameter, value: str | None) -> None:
    """`-a` was taken out of the words before the command read them; nothing may overlook it."""
    if value is not None:
        raise click.BadParameter("It was not read.", param=option)


app_option = click.option(
    "-a", "--app", "app_option", metavar="NAME", expose_value=False, callback=_unread,
    help="The app. Default: $GATLING_APP, or the project's git remote.",
)  # fmt: skip


def app_argument(function: Function) -> Function:
    """The app as the first argument, or by `-a`."""
    return click.argument("app", metavar="[APP]", cls=_AppArgument)(app_option(function))


def progress() -> Progress:
    """Progress on standard error; standard output is for results."""
    from gatling.ui.progress import Progress

    return Progress()


def confirm(name: str, given: str | None, what: str) -> None:
    """Ask before something is destroyed, or take `--confirm NAME`; raises InvalidInput.

    `what` is a question about what would happen. Without a terminal the answer may come from a file
    or pipe.
    """
    if given is None:
        try:
            given = click.prompt(f"{visible.lines(what)}\nType {name} to confirm", err=True)
        except click.Abort:
            if sys.stdin.isatty():
                raise
            sys.stderr.write("\n")  # the prompt has no line end
            raise InvalidInput(
                "Nothing was changed: there is no terminal to answer the question.",
                hint=f"To confirm without a terminal, add `--confirm {name}`.",
            ) from None
    if given != name:
        raise InvalidInput(f"{given!r} is not {name!r}. Nothing was changed.")


def release_argument(text: str) -> int | None:
    """7 for `v7` or `7`; None when it must be a commit."""
    from gatling import names

    return names.release_number(text) if len(text) < 7 or text.startswith("v") else None
