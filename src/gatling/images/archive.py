"""The tar archive of a layer: the same items give the same bytes, on each machine, at any time.

Owner, times and order are fixed. Modes keep whether a file is executable, and nothing else, so that
no archive has a file with setuid. Extended attributes, and capabilities with them, are left out.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tarfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.errors import BuildFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

CHUNK = 1 << 18
LEVEL = 6
"""Of zlib: level 9 takes three times as long for 1 % of the size."""
_BLOCK = 512
_END = 2 * _BLOCK
_GZIP = 16 + zlib.MAX_WBITS


class Item(Struct, frozen=True):
    """A file, directory or link of an archive; `name` has no slash at its ends."""

    name: str
    kind: bytes
    """The type of the tar entry: that of a file, directory or symbolic link."""
    mode: int
    size: int = 0
    target: str = ""
    base: Path | None = None
    """The directory below which the content is read, with no link on the way."""
    below: str = ""
    """The path of the content there."""
    content: bytes = b""
    """The content itself, without a file."""


def directory(name: str, mode: int = 0o755) -> Item:
    """A directory."""
    return Item(name, tarfile.DIRTYPE, mode)


def link(name: str, target: str) -> Item:
    """A symbolic link."""
    return Item(name, tarfile.SYMTYPE, 0o777, target=target)


def text(name: str, content: str) -> Item:
    """A file with a given content."""
    data = content.encode()
    return Item(name, tarfile.REGTYPE, 0o644, len(data), content=data)


def with_parents(items: Iterable[Item]) -> list[Item]:
    """The items in the order of an archive, with the directories that they lie in."""
    found = {item.name: item for item in items}
    for name in list(found):
        for parent in PurePosixPath(name).parents:
            if str(parent) != ".":
                found.setdefault(str(parent), directory(str(parent)))
    return [found[name] for name in sorted(found, key=lambda name: name.split("/"))]


def chunks(items: Iterable[Item]) -> Iterator[bytes]:
    """Yield the bytes of the archive; raises BuildFailed if a file changes while it is read."""
    written = 0
    for item in items:
        header = _header(item)
        yield header
        written += len(header)
        if item.kind == tarfile.REGTYPE:
            yield from _content(item)
            rest = -item.size % _BLOCK
            yield bytes(rest)
            written += item.size + rest
    yield bytes(_END + -(written + _END) % tarfile.RECORDSIZE)


def digest(items: Iterable[Item]) -> str:
    """The digest of the archive without compression."""
    found = hashlib.sha256()
    for chunk in chunks(items):
        found.update(chunk)
    return f"sha256:{found.hexdigest()}"


def compress(items: Iterable[Item], write: Callable[[bytes], object]) -> tuple[str, str, int]:
    """Write the compressed archive; its digests without and with compression, and its size."""
    plain, packed, size = hashlib.sha256(), hashlib.sha256(), 0
    gzip = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)

    def out(data: bytes) -> None:
        nonlocal size
        if data:
            packed.update(data)
            size += len(data)
            write(data)

    for chunk in chunks(items):
        plain.update(chunk)
        out(gzip.compress(chunk))
    out(gzip.flush())
    return f"sha256:{plain.hexdigest()}", f"sha256:{packed.hexdigest()}", size


def _header(item: Item) -> bytes:
    info = tarfile.TarInfo(item.name)
    info.type, info.mode, info.linkname = item.kind, item.mode, item.target
    info.size = item.size if item.kind == tarfile.REGTYPE else 0
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _content(item: Item) -> Iterator[bytes]:
    if item.base is None:
        yield item.content
        return
    try:
        opened = open_below(item.base, item.below)
    except OSError as error:
        raise BuildFailed(f"{item.below} could not be read: {error.strerror}.") from error
    try:
        left = item.size
        while left:
            chunk = os.read(opened, min(CHUNK, left))
            if not chunk:
                break
            left -= len(chunk)
            yield chunk
        if left or os.read(opened, 1):
            raise BuildFailed(f"{item.below} was changed while the image was written.")
    finally:
        os.close(opened)


def open_below(base: Path, below: str) -> int:
    """Open a file below a directory, with no link on the way from there; raises OSError."""
    *above, name = below.split("/")
    opened = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in above:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            inner = os.open(part, flags, dir_fd=opened)
            os.close(opened)
            opened = inner
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        return os.open(name, flags, dir_fd=opened)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            error.strerror = "a link is on the way to it"
        raise
    finally:
        os.close(opened)
