"""The resources that running instances use, as the kernel counts them: proc(5)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection


STAT_BYTES = 4096
"""More than /proc/PID/stat has."""


class Usage(NamedTuple):
    """The resources that an OS process and its descendants use."""

    memory: int
    """Bytes in memory."""
    cpu: float
    """Seconds of processor time since the start."""


class _Process(NamedTuple):
    parent: int
    usage: Usage


class Program(NamedTuple):
    """The address space, threads and open files of one OS process."""

    virtual_memory: int
    """Bytes of address space."""
    threads: int
    files: int | None
    """Open files and sockets; None if it belongs to another user."""
    files_limit: int | None
    """None: no limit, or unknown."""


def of_program(pid: int) -> Program | None:
    """Return the address space, threads and open files of an OS process; None if it has ended."""
    place = Path(f"/proc/{pid}")
    try:
        fields = (place / "stat").read_text(errors="replace").rpartition(")")[2].split()
        threads, virtual_memory = int(fields[17]), int(fields[20])
    except (OSError, ValueError, IndexError):
        return None
    files = limit = None
    with contextlib.suppress(OSError):
        files = len(list((place / "fd").iterdir()))
    with contextlib.suppress(OSError, ValueError, IndexError):
        (line,) = [one for one in (place / "limits").read_text().splitlines()
                   if one.startswith("Max open files")]  # fmt: skip
        limit = int(line.removeprefix("Max open files").split()[0])
    return Program(virtual_memory, threads, files, limit)


def of_trees(roots: Collection[int]) -> dict[int, Usage]:
    """Return the resources that each of these OS processes uses together with its descendants.

    An OS process that has ended is left out.
    """
    if not roots:
        return {}
    every = {pid: process for pid in _pids() if (process := _process(pid)) is not None}
    children: dict[int, list[int]] = {}
    for pid, process in every.items():
        children.setdefault(process.parent, []).append(pid)
    return {root: _sum(root, every, children) for root in roots if root in every}


def _sum(root: int, every: dict[int, _Process], children: dict[int, list[int]]) -> Usage:
    memory, cpu, todo = 0, 0.0, [root]
    while todo:
        pid = todo.pop()
        memory += every[pid].usage.memory
        cpu += every[pid].usage.cpu
        todo += children.get(pid, [])
    return Usage(memory, cpu)


def _pids() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal()]


def _process(pid: int) -> _Process | None:
    """Fields 4, 14, 15 and 24 of /proc/PID/stat; None when it is gone or not ours to see."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # without the classes of pathlib and io: there is one for each OS process of the machine
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            fields = os.read(file, STAT_BYTES).rpartition(b")")[2].split()
        finally:
            os.close(file)
        ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
        usage = Usage(pages * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK"))
        return _Process(int(fields[1]), usage)
    return None
