"""`gatling db volume`: a file system for databases that can share blocks between files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatling.cli.common import as_json, opened, progress
from gatling.errors import Misused
from gatling.ui.output import echo, print_json, size

if TYPE_CHECKING:
    from gatling.platform.postgres.volume import Volume


@click.command("volume")
@click.argument(
    "action", metavar="[create|grow|info]", default="info",
    type=click.Choice(["create", "grow", "info"]),
)  # fmt: skip
@click.option("--size", "wanted", metavar="SIZE", help="Its size. Default for `create`: 20G.")
@click.option(
    "--move", is_flag=True,
    help="Move the databases that are there. They are stopped while their files are copied.",
)  # fmt: skip
@as_json
def volume_command(action: str, wanted: str | None, move: bool, as_json: bool) -> None:
    """Put the databases of this server on a file system with copy-on-write, or show where they are.

    Most servers have ext4, where `gatling db fork` and `gatling db upgrade` copy all files of a
    database. The volume is a file with an XFS file system, mounted at /var/lib/postgresql. There,
    a fork takes seconds and hardly any room. The size of the volume limits what all databases and
    forks take together. All of it is reserved on the disk.

    With --move, the files of before are kept, and the command prints where. `grow` enlarges the
    volume while the databases run. If this host has no xfsprogs, they are installed from the
    distribution first.

    \b
    Examples:
      gatling db volume
      gatling db volume create --size 20G
      gatling db volume create --size 20G --move
      gatling db volume grow --size 40G
    """
    from gatling.operations import volumes
    from gatling.platform.postgres import volume

    if action == volume.INFO and (wanted is not None or move):
        raise Misused("--size and --move go with `create`, and --size with `grow`.")
    if action == volume.GROW and (wanted is None or move):
        raise Misused("`grow` needs --size, such as 40G, and no other option.")
    count = volume.USUAL_BYTES if wanted is None else volume.size(wanted)
    with opened() as gatling:
        if action == volume.CREATE:
            shown = volumes.create(gatling, count, progress(), move=move)
        elif action == volume.GROW:
            shown = volumes.grow(gatling, count)
        else:
            shown = volumes.show(gatling)
    if as_json:
        print_json(shown)
        return
    for line in _lines(shown):
        echo(line)


def _lines(shown: Volume) -> list[str]:
    if not shown.there:
        where = f"The databases ({size(shown.used)}) are on the disk of this server"
        return [f"{where}, which has {size(shown.free)} free.",
                "`gatling db volume create` creates a volume with copy-on-write."]  # fmt: skip
    where = f"The databases are on a volume with copy-on-write ({shown.file})"
    lines = [f"{where}: {size(shown.bytes)}, of which {size(shown.free)} are free."]
    if shown.copy:
        lines.append(f"{shown.copy} has the files of before. When all apps work, remove it as root:"
                     f" rm -r {shown.copy}")  # fmt: skip
    return lines
