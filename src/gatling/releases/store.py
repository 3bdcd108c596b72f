"""Release trees on disk.

A tree appears under its final name in one rename, complete and read-only. A file that equals the
one of the release before is a hard link to it, so that a small change costs a small change.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
from typing import TYPE_CHECKING

from gatling import files
from gatling.errors import DiskFull, is_full

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from gatling.paths import AppPaths

INCOMING = "incoming"
"""In the store's directory: the tree that is being taken over from who has built it."""

_OWN_WRITES = ("releases", "tmp", "var")
_CHUNK = 1 << 18
_PARTIAL = ".partial"


def store(
    paths: AppPaths, tree: Path, number: int, previous: int | None, *, also: int | None = None
) -> int:
    """Move a built `tree` into the store as release `number`; the bytes it takes of its own.

    Equal files become hard links to those of `previous`, and otherwise to those of `also`. Raises
    DiskFull, leaving the store as it was.
    """
    partial = paths.release(number).with_suffix(_PARTIAL)
    _discard(partial)
    paths.releases.mkdir(exist_ok=True)
    like = paths.release(previous) if previous is not None else None
    try:
        tree.rename(partial)
        own = _settle(partial, like if like is not None and like.is_dir() else None)
        if also not in (None, previous):
            own = _settle(partial, paths.release(also or 0))
        _sync(partial)
        partial.rename(paths.release(number))
    except OSError as error:
        _discard(partial)
        raise _explained(error) from error
    except BaseException:
        _discard(partial)
        raise
    return own


def copy(paths: AppPaths, base: int, number: int) -> None:
    """Make release `number` out of the tree of `base`: hard links only."""
    partial = paths.release(number).with_suffix(_PARTIAL)
    _discard(partial)
    try:
        shutil.copytree(paths.release(base), partial, symlinks=True, copy_function=os.link)
        _sync(partial)
        partial.rename(paths.release(number))
    except (OSError, shutil.Error) as error:
        _discard(partial)
        raise _explained(error) from error
    except BaseException:
        _discard(partial)
        raise


def remove(paths: AppPaths, number: int) -> None:
    """Remove a tree from the store; nothing happens when it is not there."""
    doomed = paths.release(number).with_suffix(_PARTIAL)
    with contextlib.suppress(FileNotFoundError):
        paths.release(number).rename(doomed)  # so that a half removed tree never looks whole
    _discard(doomed)


def use(paths: AppPaths, number: int) -> None:
    """Keep a tree from being removed as long as this process, or what it becomes, goes on.

    By a lock on its directory, which every process that this one starts shares. Raises OSError when
    the tree is not there.
    """
    held = os.open(paths.release(number), os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_SH)
    os.set_inheritable(held, True)


@contextlib.contextmanager
def unused(paths: AppPaths, number: int) -> Iterator[bool]:
    """Whether nobody uses a tree, nor begins to before the block has ended."""
    try:
        held = os.open(paths.release(number), os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield True
        return
    try:
        yield files.try_lock(held)
    finally:
        os.close(held)


def remove_unknown(paths: AppPaths, known: Collection[int]) -> list[str]:
    """Remove what a killed deployment left: partial trees, and trees that no release stands for."""
    removed: list[str] = []
    if not paths.releases.is_dir():
        return removed
    keep = {paths.release(number).name for number in known}
    for entry in sorted(paths.releases.iterdir()):
        if entry.name not in keep and re.fullmatch(r"v\d+(\.partial|\.link)?", entry.name):
            _discard(entry)
            removed.append(entry.name)
    return removed


def remove_incoming(paths: AppPaths) -> None:
    """Remove what a killed deployment was taking over."""
    _discard(paths.releases / INCOMING)


def written(tree: Path, most: int = 3) -> list[str]:
    """Some of the files that an app wrote into its stored tree, where all others are read-only.

    Files that a release itself writes (rendered configuration) do not count.
    """
    found: list[str] = []
    for directory, names, found_files in os.walk(tree):
        if directory == str(tree):
            names[:] = [name for name in names if name not in _OWN_WRITES]
        for name in found_files:
            path = f"{directory}/{name}"
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode) and info.st_mode & 0o200:
                found.append(os.path.relpath(path, tree))
                if len(found) == most:
                    return found
    return found


def to_remove(kept: Collection[int], live: int | None, keep: int) -> list[int]:
    """The retained releases that are too many: all but the live and the newest `keep` others."""
    others = sorted(set(kept) - {live}, reverse=True)
    return sorted(others[keep:])


def _settle(tree: Path, like: Path | None) -> int:
    """Make a tree read-only and link what equals `like`; the bytes that are not shared."""
    temporary = str(tree.with_suffix(".link"))  # beside the tree, so that no name of it is taken
    return _settle_directory(str(tree), str(like) if like is not None else None, temporary)


def _settle_directory(directory: str, like: str | None, temporary: str) -> int:
    own = 0
    twins = _inodes(like, directory)
    with os.scandir(directory) as entries:
        for entry in entries:
            twin = f"{like}/{entry.name}" if like is not None else None
            if entry.is_dir(follow_symlinks=False):
                own += _settle_directory(entry.path, twin, temporary)
            elif entry.is_file(follow_symlinks=False):
                if twins.get(entry.name) == entry.inode():
                    continue  # one with its twin already; rename(2) does nothing then
                info = entry.stat(follow_symlinks=False)
                if info.st_nlink > 1:
                    # With what builds keep, or with a release already. To link it to another copy
                    # would save nothing, and the next release would have to be compared as well.
                    if info.st_mode & 0o222:
                        os.chmod(entry.path, stat.S_IMODE(info.st_mode) & ~0o222)  # noqa: PTH101
                    continue
                linked = twin is not None and _same(entry.path, info, twin)
                if twin is None or not (linked and _replace_by_link(entry.path, twin, temporary)):
                    os.chmod(entry.path, stat.S_IMODE(info.st_mode) & ~0o222)  # noqa: PTH101
                    own += info.st_blocks * 512 if info.st_nlink == 1 else 0
    return own


def _inodes(like: str | None, directory: str) -> dict[str, int]:
    """The inodes of the files in `like`, by name; none on another file system than `directory`.

    Most files of a release are those of the one before: to list a directory is enough to see it.
    """
    if like is None:
        return {}
    try:
        if os.lstat(like).st_dev != os.lstat(directory).st_dev:
            return {}
        with os.scandir(like) as entries:
            return {entry.name: entry.inode() for entry in entries}
    except OSError:  # there is no such directory in the release before
        return {}


def _same(path: str, info: os.stat_result, twin: str) -> bool:
    try:
        other = os.lstat(twin)
    except OSError:
        return False
    executable = info.st_mode & 0o111 == other.st_mode & 0o111
    if not stat.S_ISREG(other.st_mode) or other.st_size != info.st_size or not executable:
        return False
    # thousands of files, most of them small: without file objects this takes half the time
    a, b = os.open(path, os.O_RDONLY), -1
    try:
        b = os.open(twin, os.O_RDONLY)
        while chunk := os.read(a, _CHUNK):
            if chunk != os.read(b, _CHUNK):
                return False
            if len(chunk) == info.st_size:
                break
    finally:
        os.close(a)
        if b >= 0:
            os.close(b)
    return True


def _replace_by_link(path: str, twin: str, temporary: str) -> bool:
    """Whether `path` is a link to `twin` now: a file can have only so many."""
    try:
        os.link(twin, temporary)
    except OSError as error:
        if error.errno == errno.EMLINK:
            return False
        raise
    os.replace(temporary, path)  # noqa: PTH105
    return True


def _sync(tree: Path) -> None:
    """Have a tree on the disk before a record says that it is there: syncfs(2).

    File by file, fsync would take longer; files that nobody synced may be empty after a power cut.
    """
    import ctypes

    opened = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(opened) != 0:  # what could not be written would be an empty file later
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(tree))
    finally:
        os.close(opened)


def _discard(tree: Path) -> None:
    shutil.rmtree(tree, ignore_errors=True)


def _explained(error: Exception) -> Exception:
    if isinstance(error, OSError) and is_full(error):
        return DiskFull("The release could not be stored: no space is left on the disk.")
    return error
