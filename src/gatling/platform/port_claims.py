"""The ports that each home of this machine has drawn, so that no two homes draw the same.

A port of a slot in which nothing runs just now cannot be seen by looking who listens. So each home,
of any user, leaves a file for each of its ports in a directory that everybody may write to. It is a
convention among homes and protects nothing: a port that another program took is found by checking.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DIRECTORY = Path("/var/tmp/gatling-ports")  # noqa: S108 (checked before it is used)
MAX_BYTES = 4096


def take(ports: Iterable[int], home: Path, directory: Path = DIRECTORY) -> None:
    """Leave word that these ports are of a home, as far as that is possible."""
    if not _usable(directory):
        return
    for port in ports:
        with contextlib.suppress(OSError):
            if owner(port, home, directory) is None:
                file = directory / str(port)
                file.unlink(missing_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                with os.fdopen(os.open(file, flags, 0o644), "w") as opened:
                    os.fchmod(opened.fileno(), 0o644)
                    opened.write(f"{home}\n")


def give_back(ports: Iterable[int], home: Path, directory: Path = DIRECTORY) -> None:
    """The home does not need them any more."""
    for port in ports:
        if _said(directory / str(port)) == home:
            with contextlib.suppress(OSError):
                (directory / str(port)).unlink()


def owner(port: int, home: Path, directory: Path = DIRECTORY) -> Path | None:
    """Another home that has the port; None when there is none, or it was removed."""
    other = _said(directory / str(port))
    if other is None or other == home:
        return None
    try:
        other.lstat()
    except FileNotFoundError:
        return None
    except OSError:  # of another user, who lets nobody look there
        return other
    return other


def _said(file: Path) -> Path | None:
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return None
        text = os.read(opened, MAX_BYTES).decode("utf-8", "replace").strip()
    finally:
        os.close(opened)
    return Path(text) if text.startswith("/") and text.isprintable() else None


def _usable(directory: Path) -> bool:
    """Whether every user can create files in this directory that others cannot remove."""
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700)
        directory.chmod(0o1777)
    try:
        mode = directory.lstat().st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) and mode & 0o1777 == 0o1777
