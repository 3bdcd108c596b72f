"""`gatling completion`: scripts that let a shell complete commands, apps, releases and more."""

from __future__ import annotations

import click

from gatling.cli.visitor import is_shown
from gatling.host.completions import SCRIPTS
from gatling.ui.output import echo_text, print_json


@click.command("completion")
@click.argument("shell", type=click.Choice(tuple(SCRIPTS)), required=False)
@click.option("--names", is_flag=True, help="Print the names that are completed, as JSON.")
def completion_command(shell: str | None, names: bool) -> None:
    """Print the completion script for SHELL: bash, zsh or fish.

    It completes commands, options, apps, releases, domains, jobs, and names of settings and config,
    also those of a server.

    \b
    Examples:
      source <(gatling completion bash)
      gatling completion zsh > ~/.zfunc/_gatling
      gatling completion fish > ~/.config/fish/completions/gatling.fish
    """
    if names == (shell is not None):
        raise click.UsageError("Give a shell, or --names.")
    if shell is not None:
        echo_text(SCRIPTS[shell])
        return
    from gatling import paths
    from gatling.state import known_names

    print_json(known_names.read(paths.default_root() / "state.db", is_shown))
