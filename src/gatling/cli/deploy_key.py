"""`gatling deploy-key …`: the key by which an app's builds read private repositories."""

from __future__ import annotations

import click

from gatling.cli.common import app_argument, opened
from gatling.cli.groups import Group
from gatling.ui.output import echo


@click.group("deploy-key", cls=Group)
def deploy_key_command() -> None:
    """Manage the SSH key with which builds read private git dependencies and submodules.

    Add its public part to the private repository with read access. GitHub and GitLab call it a
    deploy key. The private part never leaves the app's build directory on the host.

    \b
    Example:
      gatling deploy-key create shop
    """


@deploy_key_command.command("create")
@app_argument
def create_command(app: str) -> None:
    """Create a key for APP and print its public part.

    \b
    Example:
      gatling deploy-key create shop
    """
    from gatling.operations import deploy_keys

    with opened() as gatling:
        echo(*deploy_keys.create(gatling, app).splitlines())


@deploy_key_command.command("show")
@app_argument
def show_command(app: str) -> None:
    """Print the public part of APP's key.

    \b
    Example:
      gatling deploy-key show shop
    """
    from gatling.operations import deploy_keys

    with opened() as gatling:
        echo(*deploy_keys.show(gatling, app).splitlines())


@deploy_key_command.command("remove")
@app_argument
def remove_command(app: str) -> None:
    """Remove APP's key. Releases that were built with it are not affected.

    \b
    Example:
      gatling deploy-key remove shop
    """
    from gatling.operations import deploy_keys

    with opened() as gatling:
        deploy_keys.remove(gatling, app)
        echo(f"{app} no longer has a deploy key.")
