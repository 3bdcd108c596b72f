"""Taking over what somebody else has made and may write to: a tree as files of one's own, a file.

Nothing is followed or opened by more than one name below an open directory, so that no link, also
none that is put there meanwhile, leads to a file that its maker could not read himself.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from typing import TYPE_CHECKING

from gatling.errors import BuildFailed, DiskFull

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 1 << 18
MAX_DEPTH = 100
MAX_FILE = 16 << 20
"""Bytes of a file that is read at once."""
FULL = (28, 122)  # ENOSPC, EDQUOT


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

    Links within the tree are kept. Raises BuildFailed for links that lead out of it, for what is
    neither file, directory nor link, and for files that cannot be read; DiskFull.
    """
    shutil.rmtree(target, ignore_errors=True)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        source = os.open(tree, flags)
        try:
            _directory(source, target, like, ())
        finally:
            os.close(source)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        if error.errno in FULL:
            raise DiskFull("The release could not be stored: the disk is full.") from error
        raise BuildFailed(
            f"The release could not be read: {error.filename}: {error.strerror}."
        ) from None
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _directory(source: int, target: Path, like: Path | None, where: tuple[str, ...]) -> None:
    if len(where) > MAX_DEPTH:
        raise BuildFailed(f"The release has more than {MAX_DEPTH} directories in each other.")
    target.mkdir(mode=0o755)
    for name in sorted(os.listdir(source)):
        info = os.stat(name, dir_fd=source, follow_symlinks=False)
        twin = like / name if like is not None else None
        here = (*where, name)
        if stat.S_ISDIR(info.st_mode):
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=source)
            try:
                _directory(below, target / name, twin, here)
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
            _file(source, name, target / name, twin)
        else:
            raise BuildFailed(f"{'/'.join(here)} is neither a file nor a directory.")


def leads_out(link: str, where: tuple[str, ...]) -> bool:
    """Whether a link in the directory `where` of a tree may lead out of that."""
    parts = [part for part in link.split("/") if part not in ("", ".")]
    ups = next((n for n, part in enumerate(parts) if part != ".."), len(parts))
    # `..` after a name would go up from wherever that name may lead
    return link.startswith("/") or ups > len(where) or ".." in parts[ups:]


def _file(source: int, name: str, target: Path, twin: Path | None) -> None:
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=source)
    try:
        info = os.fstat(opened)
        if not stat.S_ISREG(info.st_mode):
            raise BuildFailed(f"{name} was changed while it was read.")
        mode = 0o555 if info.st_mode & 0o111 else 0o444
        if twin is not None and _linked(opened, info, mode, twin, target):
            return
        os.lseek(opened, 0, os.SEEK_SET)
        new = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            while chunk := os.read(opened, _CHUNK):
                while chunk:
                    chunk = chunk[os.write(new, chunk) :]
        finally:
            os.close(new)
    finally:
        os.close(opened)


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
        while chunk := os.read(opened, _CHUNK):
            if chunk != os.read(other, _CHUNK):
                return False
    finally:
        os.close(other)
    try:
        os.link(twin, target, follow_symlinks=False)
    except OSError as error:
        if error.errno == 31:  # EMLINK: a file can have only so many
            return False
        raise
    return True
