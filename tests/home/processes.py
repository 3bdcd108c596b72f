"""The processes of a home: what supervisord has started, and the end of it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import psutil

from tests.conftest import until

if TYPE_CHECKING:
    from tests.conftest import World


def tree(world: World) -> list[psutil.Process]:
    """supervisord and whatever it has started: instances, proxy, their helpers."""
    top = psutil.Process(world.supervisord())
    return [top, *top.children(recursive=True)]


def name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still do something; a zombie does not."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill(processes: list[psutil.Process]) -> None:
    """As a power cut does it."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    until(lambda: not alive(processes), "the end of all")


def session(process: psutil.Process) -> int | None:
    """The session that a process belongs to."""
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None
