"""Removing boxes and beds, also those of test runs that were killed.

A bed is a directory below `run/`, with a lock that its process holds, and a directory for each box
with a `box.json` that says what belongs to it outside.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.server import cgroups, network
from tests.server.host import BedError, cache, is_mounted, locked, run

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Spec:
    """What belongs to a box; everything that its supervisor has to know."""

    name: str
    machine: str  # unique on this host, where names are so in a bed only
    namespace: str
    cgroups: tuple[str, ...]

    def write(self, directory: Path) -> None:
        """Write it down, before there is anything of the box."""
        new = directory / "box.json.new"
        new.write_text(json.dumps(asdict(self)))
        new.rename(directory / "box.json")

    @classmethod
    def read(cls, directory: Path) -> Spec:
        """What was written down."""
        values = json.loads((directory / "box.json").read_text())
        return cls(**(values | {"cgroups": tuple(values["cgroups"])}))

    @property
    def groups(self) -> list[Path]:
        """The directories of its cgroups."""
        return [Path(path) for path in self.cgroups]


def beds() -> Path:
    """Where the beds are."""
    return cache() / "run"


@contextlib.contextmanager
def beds_locked() -> Iterator[None]:
    """Only one process at a time makes or sweeps beds."""
    with locked(cache() / "beds.lock"):
        yield


DISK = "disk"
"""In the directory of a box: what has changed of its image, or a link to that."""
MEMORY = Path("/dev/shm")
ROOM_BYTES = 12 << 30
"""The free memory that the disks of boxes need: each takes 0.2 to 1 GB, and ten may be there."""


def make_disk(directory: Path, spec: Spec, *, moved: bool) -> None:
    """Make the directory of a box's disk: in memory if there is room, unless it is to be `moved`.

    To create files takes a disk's file system several times as long.
    """
    disk = directory / DISK
    found = os.statvfs(MEMORY)
    if moved or found.f_bavail * found.f_frsize < ROOM_BYTES:
        disk.mkdir()
        return
    memory = MEMORY / f"gt-{spec.machine}"
    disk.symlink_to(memory)
    memory.mkdir()


def remove_box(directory: Path) -> None:
    """Remove a box, running or not. It does not matter how much of it there is."""
    try:
        spec = Spec.read(directory)
    except FileNotFoundError:
        spec = None
    if spec is not None:
        cgroups.remove(spec.groups)
        unmount(directory / "root", lazy=True)
        run("ip", "netns", "del", spec.namespace, check=False)
        for kind in ("propagate", "unix-export"):
            remove_tree(Path("/run/systemd/nspawn", kind, spec.machine))
    if (directory / DISK).is_symlink():
        remove_tree((directory / DISK).resolve())
    remove_tree(directory)


def unmount(root: Path, seconds: float = 20, *, lazy: bool = False) -> None:
    """Unmount the disk of a box; with `lazy`, also when somebody goes on using it."""
    deadline = time.monotonic() + seconds
    while is_mounted(root):
        if run("umount", root, check=False).returncode == 0:
            continue
        if time.monotonic() > deadline:
            if not lazy:
                raise BedError(f"{root} is still in use after {seconds} s")
            run("umount", "--lazy", root)
        time.sleep(0.05)


def remove_tree(tree: Path) -> None:
    """Remove a directory, but nothing that is mounted below it."""
    # a second time when something else was removing it, too
    if run("rm", "-rf", "--one-file-system", tree, check=False, seconds=300).returncode:
        run("rm", "-rf", "--one-file-system", tree, seconds=300)


def sweep() -> None:
    """Remove all beds whose process is gone: test runs that were killed."""
    with beds_locked():
        if not beds().exists():
            return
        for bed in sorted(path for path in beds().iterdir() if path.is_dir()):
            descriptor = os.open(bed / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # its process lives
            else:
                # what cannot be removed yet is left to the next sweep, and not in anybody's way
                with contextlib.suppress(BedError, TimeoutError, subprocess.TimeoutExpired):
                    remove_bed(bed)
            finally:
                os.close(descriptor)


def remove_bed(bed: Path) -> None:
    """Remove a bed with all of its boxes. Call it with the lock on beds."""
    for directory in sorted(bed.iterdir()):
        if directory.is_dir():
            remove_box(directory)
    network.remove_namespaces(bed.name)
    remove_tree(bed)
