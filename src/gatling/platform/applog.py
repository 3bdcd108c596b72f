"""A log of an app: lines `TIME vN text`, rotated by size; also while several processes write."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from gatling import times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

MAX_BYTES = 10 * 1024 * 1024
"""Size at which a log is rotated."""
BACKUPS = 4


class AppLog:
    """One log file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._opened()

    def write(self, release: str, text: bytes) -> None:
        """Add one line."""
        time = times.now()
        self._follow()
        self._file.write(f"{time} {release} ".encode() + text.rstrip(b"\r") + b"\n")
        if self._file.tell() > MAX_BYTES:
            self._rotate()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _opened(self) -> BinaryIO:
        file = self._path.open("ab", buffering=0)
        os.fchmod(file.fileno(), 0o600)
        return file

    def _follow(self) -> None:
        """Go on in the file that is there now: another process may have rotated it."""
        if not self._is_current():
            self._file.close()
            self._file = self._opened()

    def _is_current(self) -> bool:
        mine = os.fstat(self._file.fileno())
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

    def _rotate(self) -> None:
        with self._alone():
            if not self._is_current():  # it was done while this process waited
                return
            for n in range(BACKUPS - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    self._numbered(n).rename(self._numbered(n + 1))
            self._path.rename(self._numbered(1))
        self._follow()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time; the lock is the directory's, since files take turns."""
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _numbered(self, n: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{n}")
