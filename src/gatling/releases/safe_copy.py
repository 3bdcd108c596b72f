"""Taking over what somebody else has made and may write to: a tree as files of one's own, a file.

Nothing is followed or opened by more than one name below an open directory, so that no link, also
none that is put there during the copy, leads to a file that its maker could not read himself.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from typing import TYPE_CHECKING

from gatling.errors import BuildFailed, DiskFull, is_full

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 1 << 18
MAX_ENTRIES = 500_000
"""Files, directories and links of one release; a large Phoenix app has some 10,000."""
RESERVE_BYTES = 64 << 20
RESERVE_FILES = 1000
"""Disk space that must stay free for records, logs and other apps, in bytes and in files."""
_LOOK_EVERY = 16 << 20
MAX_DEPTH = 100
MAX_FILE = 16 << 20
"""Bytes of a file that is read at once."""


def read(file: Path, base: Path) -> bytes:
    """A file below the directory `base`, with no link on the way from there; raises OSError."""
    *above, name = file.relative_to(base).parts
    opened = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in above:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=opened)
            os.close(opened)
            opened = below
        found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=opened)
    finally:
        os.close(opened)
    with os.fdopen(found, "rb") as source:
        info = os.fstat(found)
        if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_FILE:
            raise OSError(errno.EINVAL, "not an ordinary file, or too large", str(file))
        return source.read(MAX_FILE)


def copy(tree: Path, target: Path, like: Path | None) -> None:
    """Copy a tree to `target`; what equals a file of `like` becomes a hard link to that.

    Links within the tree are kept, and so are the holes of sparse files. Raises BuildFailed for
    links that lead out of it, for what is neither file, directory nor link, for files that cannot
    be read, and for too many of them; DiskFull before the disk is full to the last byte or inode.
    """
    shutil.rmtree(target, ignore_errors=True)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        source = os.open(tree, flags)
        try:
            _directory(source, target, like, (), _Room(target.parent))
        finally:
            os.close(source)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        if is_full(error):
            raise DiskFull("The release could not be stored: the disk is full.") from error
        raise BuildFailed(
            f"The release could not be read: {error.filename}: {error.strerror}."
        ) from None
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


class _Room:
    """Counts what is copied, and looks at the free space now and then."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._entries = 0
        self._unseen = 0
        self._look()

    def entry(self) -> None:
        """One more file, directory or link."""
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise BuildFailed(f"The release has more than {MAX_ENTRIES:,} files.")
        if self._entries % (RESERVE_FILES // 2) == 0:
            self._look()

    def written(self, size: int) -> None:
        """So many more bytes."""
        self._unseen += size
        if self._unseen >= _LOOK_EVERY:
            self._unseen = 0
            self._look()

    def _look(self) -> None:
        found = os.statvfs(self._directory)
        # some file systems, such as btrfs, have no fixed number of inodes and give 0
        few = found.f_files > 0 and found.f_favail < RESERVE_FILES
        if few or found.f_bavail * found.f_frsize < RESERVE_BYTES:
            what = "inode" if few else "space"
            raise DiskFull(f"The release was not stored: almost no {what} is left on the disk.")


def _directory(
    source: int, target: Path, like: Path | None, where: tuple[str, ...], room: _Room
) -> None:
    if len(where) > MAX_DEPTH:
        raise BuildFailed(f"The release has more than {MAX_DEPTH} directories in each other.")
    target.mkdir(mode=0o755)
    for name in sorted(os.listdir(source)):
        info = os.stat(name, dir_fd=source, follow_symlinks=False)
        twin = like / name if like is not None else None
        here = (*where, name)
        room.entry()
        if stat.S_ISDIR(info.st_mode):
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=source)
            try:
                _directory(below, target / name, twin, here, room)
            finally:
                os.close(below)
        elif stat.S_ISLNK(info.st_mode):
            to = os.readlink(name, dir_fd=source)
            if leads_out(to, where):
                raise BuildFailed(
                    f"The release has a link that leads out of it: {'/'.join(here)} → {to}"
                )
            (target / name).symlink_to(to)
        elif stat.S_ISREG(info.st_mode):
            _file(source, name, target / name, twin, room)
        else:
            raise BuildFailed(f"{'/'.join(here)} is neither a file nor a directory.")


def leads_out(link: str, where: tuple[str, ...]) -> bool:
    """Whether a link in the directory `where` of a tree may lead out of that."""
    parts = [part for part in link.split("/") if part not in ("", ".")]
    ups = next((n for n, part in enumerate(parts) if part != ".."), len(parts))
    # `..` after a name would go up from wherever that name may lead
    return link.startswith("/") or ups > len(where) or ".." in parts[ups:]


def _file(source: int, name: str, target: Path, twin: Path | None, room: _Room) -> None:
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=source)
    try:
        info = os.fstat(opened)
        if not stat.S_ISREG(info.st_mode):
            raise BuildFailed(f"{name} was changed while it was read.")
        mode = 0o555 if info.st_mode & 0o111 else 0o444
        if twin is not None and _linked(opened, info, mode, twin, target):
            return
        new = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            for start, end in _data(opened, info.st_size):
                os.lseek(new, start, os.SEEK_SET)
                for offset in range(start, end, _CHUNK):
                    chunk = os.pread(opened, min(_CHUNK, end - offset), offset)
                    room.written(len(chunk))
                    while chunk:
                        chunk = chunk[os.write(new, chunk) :]
            os.ftruncate(new, info.st_size)
        finally:
            os.close(new)
    finally:
        os.close(opened)


def _data(opened: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a file that hold data, as far as its file system knows: lseek(2)."""
    end = 0
    while end < size:
        try:
            start = os.lseek(opened, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                return
            raise
        end = min(size, os.lseek(opened, start, os.SEEK_HOLE))
        yield start, end


def _linked(opened: int, info: os.stat_result, mode: int, twin: Path, target: Path) -> bool:
    """Whether `target` is a link to `twin` now, which has the same content and mode."""
    try:
        other = os.open(twin, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        theirs = os.fstat(other)
        alike = stat.S_ISREG(theirs.st_mode) and theirs.st_size == info.st_size
        if not alike or stat.S_IMODE(theirs.st_mode) != mode:
            return False
        extents = list(_data(opened, info.st_size))
        # a hole may be larger than any disk: only data is compared
        if extents != list(_data(other, info.st_size)):
            return False
        for start, end in extents:
            for offset in range(start, end, _CHUNK):
                size = min(_CHUNK, end - offset)
                if os.pread(opened, size, offset) != os.pread(other, size, offset):
                    return False
    finally:
        os.close(other)
    try:
        os.link(twin, target, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EMLINK:  # a file can have only so many
            return False
        raise
    return True
