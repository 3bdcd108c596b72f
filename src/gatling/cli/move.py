"""`gatling move`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatling.cli.common import app_argument, opened, progress
from gatling.errors import Misused
from gatling.ui.output import echo

if TYPE_CHECKING:
    from gatling.operations.moving import Moved


@click.command("move")
@app_argument
@click.option(
    "--to", "to", metavar="NAME",
    help="A cluster (`gatling platform list`), or `here` for this machine.",
)  # fmt: skip
@click.option(
    "--finish", is_flag=True, help="Stop APP in the place before, which serves it as well."
)
def move_command(app: str, to: str | None, finish: bool) -> None:
    """Move APP to a cluster, or back to this machine, with its release, config and history.

    The place before serves until the live release is healthy in the new one. If it does not become
    healthy there, APP stays where it is. Requests follow once the DNS records of its domains do.
    Until then the place before serves APP as well. `--finish` ends that, and deployments are
    refused before.

    \b
    Examples:
      gatling move shop --to prod
      gatling move shop --finish
      gatling move shop --to here
    """
    from gatling.operations import moving

    if to is None and not finish:
        raise Misused("Name the new place with --to, or end a move with --finish.")
    with opened(app, clusters=True) as gatling:
        if to is None:
            done = moving.finish(gatling, app, progress=progress())
            echo(f"{app} is no longer served by {done}.")
        else:
            _advise(moving.move(gatling, app, to, progress=progress(), finish=finish))


def _advise(moved: Moved) -> None:
    """Say what is left to do: Gatling does not change DNS records."""
    if not moved.domains:
        return
    where = moved.address or (
        "this host's address" if moved.place == "here"
        else f"the address of the ingress controller of {moved.place}"
    )  # fmt: skip
    names = ", ".join(moved.domains)
    echo(f"Let the DNS records of {names} lead to {where}.")
    if moved.also is not None:
        echo(
            f"Until they do, {moved.also} serves {moved.app} as well. Then end that:"
            f"  gatling move {moved.app} --finish"
        )
