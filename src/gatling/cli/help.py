"""`gatling help`, `version`."""

from __future__ import annotations

import click

from gatling import __version__
from gatling.ui.output import echo, echo_text, print_json


@click.command("help")
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
@click.option("--man", is_flag=True, help="Print the manual page gatling(1), with all commands.")
@click.pass_context
def help_command(context: click.Context, words: tuple[str, ...], man: bool) -> None:
    """List all commands, or show the help of one.

    \b
    Examples:
      gatling help
      gatling help config set
      gatling help --man | man -l -
    """
    shown = context.find_root()
    if man:
        from gatling.cli import manpage

        if words:
            raise click.UsageError("--man prints the page with all commands. Name none.", context)
        echo_text(manpage.page(shown.command))
        return
    for position, word in enumerate(words):
        group = shown.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"`{shown.command_path}` has no command {word!r}.", shown)
        name, command, _ = group.resolve_command(shown, list(words[position:]))
        if command is not None:
            shown = click.Context(command, info_name=name, parent=shown, **command.context_settings)
    echo_text(f"{shown.get_help()}\n")


@click.command("version")
# not common's option: to import what opens a home takes as long as all the rest of these two
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def version_command(as_json: bool) -> None:
    """Print the version of Gatling on this machine, and on the server of the project here.

    \b
    Example:
      gatling version
    """
    from gatling.cli import afar, remote

    host = remote.implied()
    answer, trouble = None, None
    if host is not None:
        try:
            answer = afar.ask(host, ["--version"]).strip().removeprefix("gatling ")
        except (afar.NotReached, afar.Answered) as error:
            trouble = error.what
    if as_json:
        server = host and {"host": host.target, "version": answer, "error": trouble}
        print_json({"version": __version__, "server": server})
        return
    echo(f"gatling {__version__}")
    if host is not None:
        echo(f"{host.target}: gatling {answer}" if answer else f"Not known: {trouble}")
        if answer and answer != __version__:
            echo("The two versions differ. Update the older one.", err=True)
