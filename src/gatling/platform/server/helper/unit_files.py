"""Unit files that root writes and that systemd then loads.

A helper may be killed, or systemd refuse, between the two. So a file below /run records that
systemd has not loaded a change, and the next helper that writes makes up for it. A boot finds no
such file, and reads all units anyway.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from gatling import files

UNTOLD = Path("/run/gatling/units")
"""Has a byte in it while systemd does not know of all that was written; locked by who writes."""


class UnitFiles:
    """The changes of unit files that are written while `writing` holds its lock."""

    def __init__(self, untold: IO[str]) -> None:
        self._untold = untold

    def write(self, file: Path, text: str) -> bool:
        """Give a file this text; False when it has it already."""
        if file.exists() and file.read_text() == text:
            return False
        self.changed()
        file.parent.mkdir(mode=0o755, exist_ok=True)
        files.write(file, text, mode=0o644)
        files.sync(file.parent.parent)
        return True

    def link(self, link: Path, target: Path) -> bool:
        """Have a link there; False when there is one."""
        if link.is_symlink():
            return False
        self.changed()
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(target)
        files.sync(link.parent)
        return True

    def remove(self, *paths: Path) -> None:
        """Remove files, links and directories, as far as they are there."""
        self.changed()
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def changed(self) -> None:
        """Note that systemd does not know of all that is there."""
        self._untold.write("x")
        self._untold.flush()


def change() -> None:
    """Note that a program changes what systemd loads; the next `writing` has it loaded."""
    UNTOLD.parent.mkdir(mode=0o755, exist_ok=True)
    with files.open_lock(UNTOLD) as untold:
        fcntl.flock(untold, fcntl.LOCK_EX)
        UnitFiles(untold).changed()


@contextlib.contextmanager
def writing(call: Callable[..., object]) -> Iterator[UnitFiles]:
    """Write files of units, one helper at a time; in the end systemd knows of them.

    Raises what `call`, which runs a program, raises.
    """
    UNTOLD.parent.mkdir(mode=0o755, exist_ok=True)
    with files.open_lock(UNTOLD) as untold:
        fcntl.flock(untold, fcntl.LOCK_EX)
        yield UnitFiles(untold)
        if UNTOLD.stat().st_size:
            call(["systemctl", "daemon-reload"])
            untold.truncate(0)
