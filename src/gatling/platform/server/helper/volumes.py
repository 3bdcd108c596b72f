"""The volume for databases: an XFS file system in a file, mounted by systemd at each boot.

The unit of the mount is the decision: each cluster requires it, so systemd mounts the volume before
it starts one. Until then, a request that failed or was killed is made again from its beginning, and
the same request gives the databases their place again if it had been renamed. After it, a boot or
the same request completes the rest. No cluster can start on both file systems in turn. The files of
before are renamed before the decision, and never removed.
"""

import contextlib
import json
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gatling import files
from gatling.cleanup import cleaning
from gatling.errors import InvalidInput
from gatling.platform.postgres import volume as rules
from gatling.platform.postgres.volume import Volume
from gatling.platform.server import cluster_units as places
from gatling.platform.server.helper import databases, machine, unit_files
from gatling.platform.server.helper.shapes import Refused, number, text

FILE = Path("/var/lib/gatling-databases.xfs")
BEFORE = Path("/var/lib/postgresql.before")
TRIAL = Path("/run/gatling/volume")
"""The place of the volume while files are copied to it, for the helper alone."""
UNIT = "var-lib-postgresql.mount"
"""systemd derives its name from the place. The unit of a cluster requires it, by Debian's
`RequiresMountsFor=`, so no cluster starts without its data."""
ALL_CLUSTERS = "postgresql@*.service"
WORKING = ["gatling-backup-*.service", "gatling-restore-*.service", "gatling-dump-*.service",
           "gatling-rehearse-*.service"]  # fmt: skip
_LOOP = re.compile(r"/dev/loop[0-9]+")
COPY_SECONDS = 6 * 3600.0


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """Show the volume, create it, or make it larger."""
    action, move = text(request, "action"), request.get("move")
    if action not in (rules.INFO, rules.CREATE, rules.GROW) or type(move) is not bool:
        raise Refused("action is info, create or grow, and move true or false")
    if action == rules.INFO:
        return asdict(found())
    wanted = number(request, "bytes", rules.LEAST_BYTES, rules.MOST_BYTES)
    if type(wanted) is not int:
        raise Refused("bytes is not a whole number")
    with databases.nothing_created():
        if action == rules.GROW:
            _grow(wanted)
        elif _unit().exists():
            _complete()
        else:
            _create(wanted, move=move)
    return asdict(found())


def found() -> Volume:
    """The file system that has the databases."""
    there = _unit().exists()
    room = shutil.disk_usage(places.CLUSTERS if places.CLUSTERS.is_dir() else FILE.parent)
    return Volume(
        there, str(FILE), FILE.stat().st_size if FILE.exists() and there else 0,
        room.used if there and places.CLUSTERS.is_mount() else _used(), room.free,
        shutil.disk_usage(FILE.parent).free, len(_clusters()),
        str(BEFORE) if BEFORE.exists() else "",
    )  # fmt: skip


def _create(wanted: int, *, move: bool) -> None:
    _take_back()
    _check(wanted, move=move)
    running = _running()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: _start(running))
        with _mounted(wanted) as place:
            owner = pwd.getpwnam(places.OWNER)
            os.chown(place, owner.pw_uid, owner.pw_gid)
            machine.call(["systemctl", "stop", ALL_CLUSTERS], timeout=300)
            # as postgres: what it puts there in this moment is not read with the rights of root
            subprocess.run(
                ["/bin/cp", "--archive", f"{places.CLUSTERS}/.", str(place)], check=True,
                capture_output=True, timeout=COPY_SECONDS, **databases.as_postgres(),
            )  # fmt: skip
            os.sync()
        places.CLUSTERS.rename(BEFORE)
        places.CLUSTERS.mkdir(mode=0o755)
        files.sync(places.CLUSTERS.parent)
        _mount()


def _mount() -> None:
    """Have systemd mount the volume, now and at each boot."""
    with unit_files.writing(machine.call) as written:
        written.write(_unit(), unit())
        written.link(_link(), _unit())
    machine.call(["systemctl", "start", UNIT])


def _take_back() -> None:
    """Give the files of before their place again, which a helper that was killed has renamed."""
    if BEFORE.is_dir() and not (places.CLUSTERS.is_dir() and any(places.CLUSTERS.iterdir())):
        if places.CLUSTERS.is_dir():
            places.CLUSTERS.rmdir()
        BEFORE.rename(places.CLUSTERS)
        _start([])


def _complete() -> None:
    """Mount the volume, which is there, and start the databases; after a kill."""
    if places.CLUSTERS.is_mount():
        _mount()  # also a boot without the link has mounted it, for a cluster
        _start([])
        raise InvalidInput("There is a volume already.",
                           hint="`gatling db volume grow --size 40G` enlarges it.")  # fmt: skip
    if places.CLUSTERS.is_dir() and any(places.CLUSTERS.iterdir()):
        raise InvalidInput(f"The volume is not mounted, and {places.CLUSTERS} has files.",
                           hint=f"As root: `systemctl status {UNIT}`.")  # fmt: skip
    _mount()
    _start([])


def _check(wanted: int, *, move: bool) -> None:
    """Raise InvalidInput for what cannot be done, before anything is changed."""
    if not places.CLUSTERS.is_dir():
        raise InvalidInput("PostgreSQL is not installed on this server.")
    if places.CLUSTERS.is_mount():
        raise InvalidInput(f"{places.CLUSTERS} is a file system of its own already.",
                           hint="`findmnt` shows it.")  # fmt: skip
    if BEFORE.exists():
        raise InvalidInput(f"{BEFORE} has the files of an earlier move.",
                           hint=f"As root, remove it: `rm -r {BEFORE}`.")  # fmt: skip
    if not shutil.which("mkfs.xfs"):
        raise InvalidInput("xfsprogs is not installed on this server.")
    if count := len(_clusters()):
        if not move:
            raise InvalidInput(
                f"This server has clusters of databases ({count}). They are stopped while their"
                " files are copied to the volume.",
                hint="`gatling db volume create --move` does so, and keeps the files of before.",
            )
        if _active(WORKING):
            raise InvalidInput("A backup, restore, fork or upgrade is running.",
                               hint="Try again when it has ended.")  # fmt: skip
    rules.check_size(wanted, _used())
    rules.check_room(wanted, shutil.disk_usage(FILE.parent).free, str(FILE.parent))
    try:
        machine.call(["losetup", "--find"])
    except (OSError, subprocess.CalledProcessError):
        raise InvalidInput(
            "This server has no loop devices, which a file system in a file needs. Containers"
            " (LXC, Docker) usually have none.",
            hint=f"Let the host of the container mount XFS or btrfs at {places.CLUSTERS}.",
        ) from None


@contextlib.contextmanager
def _mounted(wanted: int) -> Iterator[Path]:
    """The new file system, mounted for this process alone; the file is removed after a failure."""
    machine.call(["umount", str(TRIAL)], check=False)  # of a helper that was killed
    TRIAL.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        FILE.unlink(missing_ok=True)
        os.close(os.open(FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        # all blocks are there: a full disk cannot fail a write of a database
        machine.call(["fallocate", "--length", str(wanted), str(FILE)], timeout=600)
        machine.call(["mkfs.xfs", "-q", "-K", "-m", "reflink=1", str(FILE)], timeout=600)
        try:
            machine.call(["mount", "-t", "xfs", "-o", "loop", str(FILE), str(TRIAL)])
        except subprocess.CalledProcessError as error:
            said = (error.stderr or b"").decode("utf-8", "replace").strip()
            raise InvalidInput(f"The kernel of this server cannot mount XFS: {said}") from None
        try:
            yield TRIAL
        finally:
            machine.call(["umount", str(TRIAL)])
        files.sync(FILE.parent)
    except BaseException as error:
        with cleaning(error):
            FILE.unlink(missing_ok=True)
        raise


def _start(running: list[str]) -> None:
    """Start the clusters that ran, and those that a boot starts."""
    started = {
        f"postgresql@{file.parts[-3]}-{file.parts[-2]}.service"
        for file in places.CONFIGURATIONS.glob("*/*/start.conf")
        if file.read_text().strip() == "auto"
    }
    if units := sorted({*running, *started}):
        machine.call(["systemctl", "start", *units], timeout=300)


def _grow(wanted: int) -> None:
    if not _unit().exists() or not places.CLUSTERS.is_mount():
        raise InvalidInput("There is no volume, or it is not mounted.",
                           hint="`gatling db volume create` creates it.")  # fmt: skip
    before = FILE.stat().st_size
    if wanted < before:
        raise InvalidInput(f"The volume has {before >> 20} MB. It cannot become smaller.")
    free = shutil.disk_usage(FILE.parent).free
    rules.check_room(wanted - before, free, str(FILE.parent))
    place = str(places.CLUSTERS)
    device = machine.call(["findmnt", "--noheadings", "--output", "SOURCE", place]).strip()
    if not _LOOP.fullmatch(device):
        raise InvalidInput(f"{place} is mounted from {device}, which is not the volume.")
    machine.call(["fallocate", "--length", str(wanted), str(FILE)], timeout=600)
    machine.call(["losetup", "--set-capacity", device])
    machine.call(["xfs_growfs", place], timeout=600)


def unit() -> str:
    """The unit of the mount."""
    return (
        "# Written by Gatling: `gatling db volume`.\n"
        "[Unit]\nDescription=Databases of Gatling, on a file system that can share blocks\n"
        f"[Mount]\nWhat={FILE}\nWhere={places.CLUSTERS}\nType=xfs\nOptions=loop\n"
        # a large file system may have to replay its log
        "TimeoutSec=10min\n"
        "[Install]\nWantedBy=local-fs.target\n"
    )


def _unit() -> Path:
    return machine.UNITS / UNIT


def _link() -> Path:
    """It has systemd mount the volume at each boot."""
    return machine.UNITS / "local-fs.target.wants" / UNIT


def _clusters() -> list[Path]:
    """The data directories of all clusters, those that are not Gatling's as well."""
    return [file.parent for file in places.CLUSTERS.glob("*/*/PG_VERSION")]


def _used() -> int:
    """Bytes of the files that a move copies."""
    total = 0
    for directory, _, names in os.walk(places.CLUSTERS):
        for name in names:
            with contextlib.suppress(OSError):  # of a table that was removed
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512  # noqa: PTH118
    return total


def _running() -> list[str]:
    return _active([ALL_CLUSTERS])


def _active(patterns: list[str]) -> list[str]:
    """The units of these patterns that run or start."""
    shown = machine.call(["systemctl", "list-units", "--state=active,activating", "--output=json",
                          *patterns])  # fmt: skip
    return [str(one["unit"]) for one in json.loads(shown or "[]")]
