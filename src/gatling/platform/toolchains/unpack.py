"""Unpacking archives of strangers: nothing lands outside, and nothing but files and directories.

Only the standard library, and no extraction of its own modules: what they allow differs between the
Pythons of the hosts. No link leads out, no file is setuid, no device is made, and names, sizes and
their number are bounded.
"""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from typing import IO, TYPE_CHECKING

from gatling.errors import InvalidInput
from gatling.files import Space
from gatling.releases.safe_copy import leads_out

if TYPE_CHECKING:
    from pathlib import Path

MAX_ENTRIES = 100_000
"""Files, directories and links; OTP with all its applications has some 8,000."""
MAX_BYTES = 3 << 30
"""Bytes of all files together; OTP with all its documentation has some 500 MB."""
_CHUNK = 1 << 20
_BLOCK = 4096
"""Bytes that a file or directory takes at least."""
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError,
           lzma.LZMAError, NotImplementedError, RuntimeError)  # fmt: skip
"""The exceptions that damaged archives cause, besides OSError without a number."""


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip or tar archive into a new directory; raises InvalidInput, OSError."""
    target.mkdir()
    into = _Target(target)
    try:
        if zipfile.is_zipfile(archive):
            _zip(archive, into)
        else:
            _tar(archive, into)
    except _BROKEN as error:
        raise InvalidInput(f"{archive.name} is damaged, or no archive: {error}.") from None
    except OSError as error:
        if error.errno is None:  # gzip's and lzma's own
            raise InvalidInput(f"{archive.name} is damaged: {error}.") from None
        raise
    if not into.entries:
        raise InvalidInput(f"{archive.name} is an archive without files.")


class _Target:
    """The directory that is filled, and the limits."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.entries = 0
        self._bytes = 0
        self._space = Space(root, "A toolchain")

    def place(self, name: str) -> Path | None:
        """The path of a member, below real directories; None for the root itself."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        self.entries += 1
        self._space.written(_BLOCK)
        if self.entries > MAX_ENTRIES:
            raise InvalidInput(f"The archive has more than {MAX_ENTRIES:,} files.")
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise InvalidInput(f"The archive has a file outside of itself: {name[:200]!r}.")
        if not parts:
            return None
        at = self._root
        for part in parts[:-1]:
            at /= part
            if at.is_symlink() or (at.exists() and not at.is_dir()):
                raise InvalidInput(f"The archive has a file below a link: {name[:200]!r}.")
            at.mkdir(exist_ok=True)
        return at / parts[-1]

    def directory(self, name: str) -> None:
        """Make a directory."""
        path = self.place(name)
        if path is not None:
            if path.is_symlink():
                raise InvalidInput(f"The archive has {name[:200]!r} twice.")
            path.mkdir(exist_ok=True)

    def file(self, name: str, source: IO[bytes], *, executable: bool) -> None:
        """Write a file, which is counted by what it really has."""
        path = self.place(name)
        if path is None or path.is_symlink() or path.exists():
            raise InvalidInput(f"The archive has {name[:200]!r} twice.")
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW,
                         0o755 if executable else 0o644)  # fmt: skip
        with os.fdopen(opened, "wb") as target:
            while chunk := source.read(_CHUNK):
                self._bytes += len(chunk)
                if self._bytes > MAX_BYTES:
                    raise InvalidInput(f"The archive has more than {MAX_BYTES >> 30} GB of files.")
                self._space.written(len(chunk))
                target.write(chunk)

    def link(self, name: str, to: str) -> None:
        """Make a symbolic link that stays within the directory."""
        path = self.place(name)
        if path is None or path.is_symlink() or path.exists():
            raise InvalidInput(f"The archive has {name[:200]!r} twice.")
        if leads_out(to, path.relative_to(self._root).parts[:-1]):
            raise InvalidInput(f"The archive has a link that leads out of it: {name[:200]!r}.")
        path.symlink_to(to)

    def twin(self, name: str, of: str) -> None:
        """Copy a file that the archive has already had: a hard link of a tar archive."""
        first = self.place(of)
        if first is None or first.is_symlink() or not first.is_file():
            raise InvalidInput(f"The archive has a link to a file that it lacks: {name[:200]!r}.")
        with first.open("rb") as source:
            self.file(name, source, executable=os.access(first, os.X_OK))


def _tar(archive: Path, into: _Target) -> None:
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            if member.isdir():
                into.directory(member.name)
            elif member.issym():
                into.link(member.name, member.linkname)
            elif member.islnk():
                into.twin(member.name, member.linkname)
            elif member.isreg() and (source := tar.extractfile(member)) is not None:
                into.file(member.name, source, executable=bool(member.mode & 0o111))
            else:
                raise InvalidInput(
                    f"The archive has {member.name[:200]!r}, which is neither a file nor a"
                    " directory."
                )


def _zip(archive: Path, into: _Target) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise InvalidInput(
                    f"The archive has {member.filename[:200]!r}, which is neither a file nor a"
                    " directory."
                )
            if member.is_dir():
                into.directory(member.filename)
                continue
            with opened.open(member) as source:
                into.file(member.filename, source, executable=bool(mode & 0o111))


def copy_in(source: Path, target: Path) -> None:
    """Copy a directory of this host; links that lead out of it become what they lead to."""
    into = _Target(target)
    target.mkdir()
    _copy_in(source, source.resolve(), (), into)


def _copy_in(source: Path, root: Path, where: tuple[str, ...], into: _Target) -> None:
    for entry in sorted(os.scandir(source), key=lambda each: each.name):
        here = (*where, entry.name)
        name, path = "/".join(here), source / entry.name
        if entry.is_symlink():
            to = str(path.readlink())
            if not leads_out(to, where):
                into.link(name, to)
                continue
            if not path.is_file() or path.resolve().is_relative_to(root / name):
                continue  # of no use to a build: a manual, or nothing at all
        if path.is_file():
            with path.open("rb") as opened:
                into.file(name, opened, executable=os.access(path, os.X_OK))
        elif entry.is_dir(follow_symlinks=False):
            into.directory(name)
            _copy_in(path, root, here, into)
