"""`gatling build`."""

from __future__ import annotations

import click

from gatling.cli.common import app_argument, opened, progress
from gatling.ui.output import echo


@click.group("build")
def build_command() -> None:
    """Manage what builds of an app keep for the next build.

    \b
    Example:
      gatling build clean shop
    """


@build_command.command("clean")
@app_argument
@click.option("--dependencies", is_flag=True, help="Also remove deps and node_modules.")
def clean(app: str, dependencies: bool) -> None:
    """Remove what earlier builds of APP have compiled, so that the next push compiles everything.

    The live release is not touched, nor is any other release.

    \b
    Examples:
      gatling build clean shop
      gatling build clean shop --dependencies
    """
    from gatling.build import caches
    from gatling.platform import lock
    from gatling.project import settings
    from gatling.state import apps, audit

    with opened() as gatling:
        found = apps.get(gatling.db, app)
        paths = gatling.home.app(app)
        directory = settings.parse(found.effective).build.directory
        with lock.hold_app(paths, progress().say):
            caches.clean(gatling.tasks, paths, directory, dependencies=dependencies)
        words = "build clean --dependencies" if dependencies else "build clean"
        audit.record(gatling.db, gatling.actor, app, words)
    echo(f"{app}: the next push compiles everything.")
