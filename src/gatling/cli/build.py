"""`gatling build`."""

from __future__ import annotations

import click

from gatling.cli.common import app_argument, opened, progress
from gatling.cli.groups import Group
from gatling.ui.output import echo


@click.group("build", cls=Group)
def build_command() -> None:
    """Manage the files that an app's builds keep for the next build.

    \b
    Example:
      gatling build clean shop
    """


@build_command.command("clean")
@app_argument
@click.option(
    "--dependencies",
    is_flag=True,
    help="Also remove deps, node_modules, and the programs of esbuild and tailwind.",
)
def clean(app: str, dependencies: bool) -> None:
    """Remove compiled files of earlier builds, so that the next push compiles everything.

    Releases are not affected.

    \b
    Examples:
      gatling build clean shop
      gatling build clean shop --dependencies
    """
    from gatling.operations import builds

    with opened() as gatling:
        builds.clean(gatling, app, dependencies=dependencies, say=progress().say)
    echo(f"{app}: the next push compiles everything.")
