"""The command line: what a person types, and no logic."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import click

from gatling import __version__
from gatling.cli.groups import Group
from gatling.cli.registry import COMMANDS
from gatling.cli.visitor import Visitor
from gatling.errors import Exit, Misused
from gatling.ui import failing

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Commands(Group):
    """Loads only what is used: `gatling apps` must not wait for what `gatling deploy` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(
            importlib.import_module(module if "." in module else f"gatling.cli.{module}"),
            f"{cmd_name.replace('-', '_')}_command",
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from gatling.cli.summaries import SUMMARIES

        shown = self.shown(ctx)
        with formatter.section("Commands"):
            formatter.write_dl([row for row in SUMMARIES.items() if row[0] in shown])

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if not isinstance(ctx.obj, Visitor):
            super().format_help_text(ctx, formatter)
            return
        formatter.write_paragraph()
        with formatter.indentation():
            for line in ctx.obj.greeting.splitlines():
                formatter.write_text(line)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if isinstance(ctx.obj, Visitor):  # the options are about finding the server
            self.format_commands(ctx, formatter)
        else:
            super().format_options(ctx, formatter)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="gatling %(version)s")
@click.option(
    "--host", metavar="HOST", expose_value=False,
    help=(
        "Run the command on this server over SSH: gatling@server[:PORT]. Default: $GATLING_HOST,"
        " then the project's git remote, then this machine."
    ),
)  # fmt: skip
@click.option(
    "-a", "--app", metavar="NAME", expose_value=False,
    help="The app, before or behind the command. Default: $GATLING_APP, or the app that the git"
    " remote of the project here names.",
)  # fmt: skip
def cli() -> None:
    """Your own server as a Heroku for Phoenix apps.

    \b
    First steps:
      gatling load shop
      git remote add gatling ~/.gatling/apps/shop.git
      git push gatling main
    """


def run_command_line(words: Sequence[str] | None = None, visitor: Visitor | None = None) -> int:
    """Run the command line; the exit status.

    `words` are to be run here, for a visitor over SSH; what this process was started with may be
    meant for a server.
    """
    typed = list(sys.argv[1:] if words is None else words)
    as_json = "--json" in typed[: typed.index("--")] if "--" in typed else "--json" in typed
    return failing.status_of(lambda: _run(words, visitor, as_json), as_json=as_json)


def _run(words: Sequence[str] | None, visitor: Visitor | None, as_json: bool) -> int:
    try:
        from gatling.cli import remote

        typed = remote.here(cli, sys.argv[1:]) if words is None else remote.read(cli, words)
        result: Any = cli.main(typed, standalone_mode=False, prog_name="gatling", obj=visitor)
    except SystemExit:
        # click's way out when the reader of a pipe (`gatling logs | head`) is gone: that is fine
        if failing.reader_gone(1):
            return int(Exit.OK)
        raise
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        return _report(error, as_json)
    except click.Abort:
        raise KeyboardInterrupt from None
    return result if isinstance(result, int) else int(Exit.OK)


def _report(error: click.ClickException, as_json: bool) -> int:
    """Show an error of click's like all others; its exit status."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())) and not as_json:
        error.show()  # the help itself
        return error.exit_code
    if not isinstance(error, click.UsageError):
        return failing.report(Misused(error.format_message()), as_json=as_json)
    from gatling.cli import suggestions

    return failing.report(suggestions.misused(error), as_json=as_json)
