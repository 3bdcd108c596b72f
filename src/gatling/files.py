"""Files: complete on the disk before they replace others, locked by one process, and room for them.

Root's helper uses this module as well, so it imports little.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import IO, TYPE_CHECKING, TextIO

from gatling.cleanup import cleaning
from gatling.errors import DiskFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RESERVE_BYTES = 256 << 20
"""The bytes that stay free for records, logs and the apps themselves."""
LOOK_EVERY = 16 << 20
"""The bytes after which a long writer looks at the free space again."""
RESERVE_FILES = 4096
"""Files that can still be made then: an inode each, where a file system counts them."""


def write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace a file: a reader sees the old or the new text, even after a kill or a power cut.

    The new file is on the disk when this returns. Raises OSError, leaving the old file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException as error:
        with cleaning(error):
            temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(directory: Path) -> None:
    """Write the names in a directory to the disk: fsync(2)."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def open_lock(path: Path) -> TextIO:
    """Open the file of a lock, which is made if necessary; raises OSError.

    A user who can read a file can lock it, and keep its owner waiting. So only the owner can read
    it. A file that others can read, which an older Gatling made, becomes the owner's alone.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o600)
    try:
        found = os.fstat(fd)
        if found.st_mode & 0o077 and found.st_uid == os.geteuid():
            os.fchmod(fd, 0o600)
        return os.fdopen(fd, "a")
    except BaseException:
        os.close(fd)
        raise


@contextlib.contextmanager
def locked(
    path: Path, waiting: Callable[[], None] | None = None, *, shared: bool = False
) -> Iterator[None]:
    """Hold the lock of a file, and wait for it as long as necessary.

    The lock is the kernel's (flock(2)): it ends with the process that holds it. `waiting` is called
    again and again while somebody else has it. It pauses, or raises to give up. Any number can hold
    it `shared` (without `waiting`), while nobody else has it.
    """
    with open_lock(path) as file:
        if waiting is None:
            fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        else:
            while not try_lock(file):
                waiting()
        yield


def try_lock(file: IO[str] | int) -> bool:
    """Lock an open file if nobody else holds its lock; whether it is locked now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def need_space(path: Path, what: str) -> None:
    """Raise DiskFull when the file system of `path` is below the reserve; `what` cannot begin."""
    try:
        found = os.statvfs(path)
    except OSError:
        return  # whatever is done there says better what is wrong
    free = found.f_bavail * found.f_frsize
    if free < RESERVE_BYTES:
        raise DiskFull(
            f"{what} needs room: {free >> 20} MB are free on the disk of {path}, and"
            f" {RESERVE_BYTES >> 20} MB stay reserved."
        )
    if found.f_files and found.f_favail < RESERVE_FILES:
        raise DiskFull(
            f"{what} needs room: {found.f_favail} more files fit on the disk of {path} (inodes),"
            f" and {RESERVE_FILES} stay reserved.",
            hint="`df -i` shows it. Remove directories with many small files.",
        )


class Space:
    """Looks at the free space while something large is written, which stops before the reserve."""

    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what, self._unseen = path, what, 0

    def written(self, size: int) -> None:
        """So many more bytes; raises DiskFull."""
        self._unseen += size
        if self._unseen >= LOOK_EVERY:
            self._unseen = 0
            need_space(self._path, self._what)
