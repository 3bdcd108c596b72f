"""The control groups of a box: one of its own in every hierarchy.

systemd in a box works with hybrid cgroups as it does on a server, limits and all, when the box has
a group of its own in each version 1 hierarchy, too, which nspawn does not make.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def groups(name: str) -> list[Path]:
    """The directories of a box's groups, below the groups that this process is in."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if (mounted := _mount_point(controllers)) is not None:
            found.append(mounted / path.strip("/") / name)
    return found


def _mount_point(controllers: str) -> Path | None:
    wanted = set(controllers.split(",")) if controllers else set()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, options, *_ = line.split()
        if kind == ("cgroup" if wanted else "cgroup2") and wanted <= set(options.split(",")):
            return Path(point)
    return None


def make(directories: list[Path]) -> None:
    """Make the groups, ready to be entered."""
    for directory in directories:
        directory.mkdir(exist_ok=True)
        if (directory / "cpuset.cpus").exists():  # empty at first: nothing could run in it
            for file in ("cpuset.cpus", "cpuset.mems"):
                (directory / file).write_text((directory.parent / file).read_text())


def enter(directories: list[Path]) -> None:
    """Move this process into the groups."""
    for directory in directories:
        (directory / "cgroup.procs").write_text(str(os.getpid()))


def processes(directories: list[Path]) -> set[int]:
    """What runs in the groups and in those that the box made below."""
    found: set[int] = set()
    for directory in directories:
        for folder, _, _ in os.walk(directory):
            with contextlib.suppress(OSError):  # gone meanwhile
                text = Path(folder, "cgroup.procs").read_text()
                found.update(int(line) for line in text.split() if line != "0")
    return found


def remove(directories: list[Path], seconds: float = 30) -> None:
    """End all processes of the groups and remove them. Raises TimeoutError when some stay."""
    deadline = time.monotonic() + seconds
    while True:
        for pid in processes(directories):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for directory in directories:
            for folder, _, _ in os.walk(directory, topdown=False):
                # processes that were killed leave their group only once they are reaped
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        left = [directory for directory in directories if directory.exists()]
        if not left:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"cgroups are still in use: {left}, {processes(left)}")
        time.sleep(0.02)
