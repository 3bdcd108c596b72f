"""The volume for the databases of a server, whose file system can share blocks between files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import CommandFailed
from gatling.operations import databases
from gatling.paths import exclusively
from gatling.platform.postgres import volume
from gatling.state import audit

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.platform.postgres.volume import Volume
    from gatling.ui.progress import Progress


def show(gatling: Gatling) -> Volume:
    """The file system that has the databases."""
    return gatling.databases.volume(volume.INFO)


def create(gatling: Gatling, count: int, progress: Progress, *, move: bool) -> Volume:
    """Create a volume of `count` bytes, and move the databases there; only with `move` if any.

    Raises InvalidInput before anything is changed. The files of before are kept. A call that was
    killed is completed by the same call.
    """
    with exclusively(gatling.home, "databases"):
        before = gatling.databases.volume(volume.INFO)
        if not before.clusters:
            databases.installed(gatling, None, progress, may_install=True)
        if not gatling.databases.can_create_volume():
            progress.phase("Installing xfsprogs, which this host does not have")
            gatling.databases.install_volume(progress.say)
            if not gatling.databases.can_create_volume():
                raise CommandFailed("xfsprogs is still not installed.")
        if before.clusters and move:
            progress.phase(f"Moving the databases ({before.used >> 20} MB): they are stopped while"
                           " their files are copied")  # fmt: skip
        else:
            progress.phase("Creating the volume")
        done = gatling.databases.volume(volume.CREATE, count, move=move)
    audit.record(gatling.db, gatling.actor, None, "db volume", f"create {count >> 20} MB")
    return done


def grow(gatling: Gatling, count: int) -> Volume:
    """Make the volume larger while the databases run; raises InvalidInput."""
    done = gatling.databases.volume(volume.GROW, count)
    audit.record(gatling.db, gatling.actor, None, "db volume", f"grow {count >> 20} MB")
    return done
