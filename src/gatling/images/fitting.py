"""Whether a release runs on a base image: its C library, its libraries, and programs.

A release is linked to the libraries of the machine that built it. An image of another distribution
may have others, or older ones, and the app would not start there. The layers are only read, within
bounds: they come from a registry that a deployer named.
"""

from __future__ import annotations

import gzip
import posixpath
import re
import tarfile
import zlib
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from gatling.errors import InvalidInput
from gatling.images import debian

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gatling.images.elf import Linked

PROGRAMS = (
    "basename", "cat", "cp", "cut", "dirname", "env", "grep", "ln", "mkdir", "mv", "nice",
    "readlink", "rm", "sed", "sleep", "test", "timeout",
)  # fmt: skip
"""The programs of a release's scripts, and of those that Gatling runs in a pod."""
SHELL = "bin/sh"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_BYTES = 16 << 30
"""Bytes of all layers without compression."""
MAX_ENTRIES = 1_000_000
MAX_LIBRARY = 256 << 20
MAX_LINKS = 40
SHOWN = 3
"""Of what is missing, an error names as many."""
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_LIBRARY = re.compile(r"lib[^/]*\.so[^/]*|[^/]*-[0-9.]+\.so")
_NEEDS_NO_FILE = re.compile(r"ld-linux.*|linux-vdso.*")


class Unreadable(Exception):
    """Layers that this Python cannot decompress, or that are damaged."""


@dataclass(slots=True)
class Needs:
    """The needs of the files of a release that the system meets."""

    interpreters: set[str] = field(default_factory=set)
    """The paths of dynamic linkers."""
    libraries: dict[str, set[str]] = field(default_factory=dict)
    """The libraries that the release does not bring along, with the versions of their symbols."""
    by: dict[str, str] = field(default_factory=dict)
    """A file of the release that needs the library."""


def needs(tree: Path) -> Needs:
    """The needs of a release tree."""
    found, own = Needs(), set[str]()
    for linked, name in debian.linked_in(tree):
        own.add(name)
        _add(found, linked, name)
    for name in own & found.libraries.keys():
        del found.libraries[name]
    return found


def _add(found: Needs, linked: Linked, name: str) -> None:
    if linked.interpreter:
        found.interpreters.add(linked.interpreter)
    for library in linked.needed:
        if not _NEEDS_NO_FILE.fullmatch(library):
            found.libraries.setdefault(library, set())
            found.by.setdefault(library, name)
    for library, version in linked.versions:
        if library in found.libraries:
            found.libraries[library].add(version)


class Files:
    """The files of an image, as its layers have them one above the other."""

    def __init__(self, wanted: Iterable[str]) -> None:
        self._wanted = sorted(wanted)
        self._links: dict[str, str] = {}
        self._there: dict[str, frozenset[str]] = {}
        """Files and directories, with those of the wanted versions that a library has."""
        self._bytes = self._entries = 0

    def add(self, layer: IO[bytes] | gzip.GzipFile) -> None:
        """Put an archive without compression above the others; raises Unreadable."""
        removed: list[tuple[str, bool]] = []
        new: dict[str, str | frozenset[str]] = {}
        try:
            with tarfile.open(fileobj=layer, mode="r|") as archive:
                for member in archive:
                    self._entries += 1
                    self._bytes += member.size
                    if self._entries > MAX_ENTRIES or self._bytes > MAX_BYTES:
                        raise Unreadable("it has too many or too large files")
                    self._take(archive, member, new, removed)
        except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
            raise Unreadable("a layer is damaged") from error
        for path, below in removed:
            self._remove(path, below=below)
        for path, one in new.items():
            self._links.pop(path, None)
            self._there.pop(path, None)
            if isinstance(one, str):
                self._links[path] = one
            else:
                self._there[path] = one

    def _take(
        self,
        archive: tarfile.TarFile,
        member: tarfile.TarInfo,
        new: dict[str, str | frozenset[str]],
        removed: list[tuple[str, bool]],
    ) -> None:
        path = posixpath.normpath(f"/{member.name}").lstrip("/")
        directory, name = posixpath.split(path)
        if name == _OPAQUE:
            removed.append((directory, True))
        elif name.startswith(_WHITEOUT):
            removed.append((posixpath.join(directory, name.removeprefix(_WHITEOUT)), False))
        elif member.issym():
            new[path] = posixpath.join("/", directory, member.linkname)
        elif member.islnk():
            other = posixpath.normpath(f"/{member.linkname}").lstrip("/")
            new[path] = new.get(other, self._there.get(other, frozenset()))
        else:
            new[path] = self._versions(archive, member, name)

    def _versions(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str
    ) -> frozenset[str]:
        if not (member.isreg() and _LIBRARY.fullmatch(name) and member.size <= MAX_LIBRARY):
            return frozenset()
        opened = archive.extractfile(member)
        content = opened.read() if opened is not None else b""
        return frozenset(one for one in self._wanted if b"\0" + one.encode() + b"\0" in content)

    def _remove(self, path: str, *, below: bool) -> None:
        for kept in (self._links, self._there):
            for one in [one for one in kept if one.startswith(f"{path}/")]:
                del kept[one]
            if not below:
                kept.pop(path, None)

    def find(self, path: str) -> str | None:
        """The path of what is no link, to which a path leads."""
        for _ in range(MAX_LINKS):
            parts = path.strip("/").split("/")
            for end in range(1, len(parts) + 1):
                head = "/".join(parts[:end])
                if head in self._links:
                    path = posixpath.normpath(
                        posixpath.join(self._links[head], *parts[end:])
                    ).lstrip("/")
                    break
            else:
                found = "/".join(parts)
                return found if found in self._there else None
        return None

    def library(self, name: str) -> frozenset[str] | None:
        """The versions that a library has, of those wanted; None without it."""
        for path in (*self._links, *self._there):
            if posixpath.basename(path) == name and (found := self.find(path)) is not None:
                return self._there[found]
        return None


def missing(wanted: Needs, files: Files, environment: Iterable[str]) -> list[str]:
    """The things that an image lacks for a release, in words. Pure."""
    lacks: list[str] = []
    for path in sorted(wanted.interpreters):
        if files.find(path) is None:
            return [f"the dynamic linker {path}, so its C library is another one"]
    for name, versions in sorted(wanted.libraries.items()):
        there = files.library(name)
        if there is None:
            lacks.append(f"the library {name}, which {wanted.by.get(name, 'it')} needs")
        elif versions - there:
            newest = max(versions - there, key=_order)
            lacks.append(f"{newest} in its {name}, which is older than the one here")
    if files.find(SHELL) is None:
        lacks.append(f"the shell /{SHELL}")
    said = dict(one.partition("=")[::2] for one in environment)
    places = [place for place in said.get("PATH", PATH).split(":") if place]
    lacks += [
        f"the program {name}"
        for name in PROGRAMS
        if not any(files.find(f"{place}/{name}") for place in places)
    ]
    return lacks


def _order(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]+", version)[:8]]


def check(tree: Path, layers: Iterable[tuple[Path, str]], environment: Iterable[str], name: str
          ) -> tuple[str, ...]:  # fmt: skip
    """Check that a release runs on an image; notes for the log.

    `layers` are the files of its layers with their kinds, the lowest first. `name` is that of the
    image. Raises InvalidInput with what it lacks.
    """
    wanted = needs(tree)
    files = Files({one for versions in wanted.libraries.values() for one in versions})
    try:
        for path, media in layers:
            with path.open("rb") as opened:
                files.add(_decompressed(opened, media))
    except Unreadable as error:
        return (f"The release was not compared with the libraries of {name}: {error}.",)
    lacks = missing(wanted, files, environment)
    if not lacks:
        return ()
    more = f" and {len(lacks) - SHOWN} more" if len(lacks) > SHOWN else ""
    raise InvalidInput(
        f"The release cannot run on the image {name}, which lacks"
        f" {'; '.join(lacks[:SHOWN])}{more}.",
        hint="cluster.base must be an image with the C library and the libraries of the machine"
        " that builds, or newer ones, such as the same version of Debian.",
    )


def _decompressed(opened: IO[bytes], media: str) -> IO[bytes] | gzip.GzipFile:
    if media.endswith("+zstd"):
        raise Unreadable("its layers are compressed with zstd")
    return gzip.open(opened) if media.endswith("gzip") else opened
