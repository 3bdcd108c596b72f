"""A base layer from the Debian packages that are installed on this machine.

It has the libraries that the release was built against, at the same versions, and the programs that
start scripts call. A release links to libraries, and these to others; the packages that own them
are taken whole. That needs no root, no network and no further program, and packages of the same
versions give the same bytes.
"""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.errors import MissingProgram
from gatling.images import archive, elf
from gatling.images.archive import Item

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

USER = 10001
"""The user and group of the app in an image, who owns nothing there."""
PROGRAMS = (
    "base-files", "coreutils", "dash", "grep", "libc-bin", "libc6", "libgcc-s1", "mawk",
    "ncurses-base", "netbase", "sed", "tzdata",
)  # fmt: skip
"""The packages of the shell scripts of a release, and of files that the C library reads.

ncurses-base describes terminals, for the line editor of a remote shell.
"""
_LINKS = ("bin", "lib", "lib64", "sbin")
_MACHINES = {62: "x86_64-linux-gnu", 183: "aarch64-linux-gnu", 243: "riscv64-linux-gnu"}
"""The directories of libraries, by the number of the machine in ELF files."""
_LEFT_OUT = (
    "etc/", "var/", "usr/share/man/", "usr/share/info/", "usr/share/locale/", "usr/share/lintian/",
    "usr/share/bug/", "usr/share/bash-completion/", "usr/share/zoneinfo/right/",
    "usr/share/zoneinfo/posix/", "usr/lib/systemd/",
)  # fmt: skip
_AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"


class Base(Struct, frozen=True):
    """The items of the layer, and notes for the log."""

    items: list[Item]
    packages: tuple[str, ...]
    """The packages with their versions: `libc6 2.36-9`."""
    missing: tuple[str, ...]
    """Libraries that files of the release name and this machine does not have either."""


def base(tree: Path, root: Path = Path("/")) -> Base:
    """The base layer for a release tree; raises MissingProgram on a machine without dpkg."""
    host = _Host(root)
    closure = _Closure(host)
    for package in filter(host.has, PROGRAMS):
        closure.take(package)
    own = set[str]()
    for linked, name in linked_in(tree):
        own.add(name)
        closure.need(linked)
    closure.finish()
    taken = sorted(closure.packages)
    for item in host.generated(taken):
        closure.items[item.name] = item
    return Base(
        archive.with_parents(closure.items.values()),
        tuple(f"{name} {host.version(name)}" for name in taken),
        tuple(sorted(closure.missing - own)),
    )


class _Closure:
    """Packages and files, with all libraries that they need in turn."""

    def __init__(self, host: _Host) -> None:
        self._host = host
        self.items: dict[str, Item] = {}
        self.packages: set[str] = set()
        self.missing: set[str] = set()
        self._todo: list[str] = []

    def take(self, package: str) -> None:
        """Add a package."""
        if package not in self.packages:
            self.packages.add(package)
            self._add(self._host.items(package))

    def need(self, linked: elf.Linked) -> None:
        """Add the libraries that a file is linked to."""
        for name in linked.needed:
            path = self._host.library(name, linked)
            if path is None:
                self.missing.add(name)
            elif (package := self._host.owner(path)) is not None:
                self.take(package)
            elif path not in self.items:
                self._add(self._host.file(path))

    def finish(self) -> None:
        """Add the libraries of all that was added."""
        while self._todo:
            linked = self._host.linked(self._todo.pop())
            if linked is not None:
                self.need(linked)

    def _add(self, items: Iterable[Item]) -> None:
        for item in items:
            self.items[item.name] = item
            if item.kind == tarfile.REGTYPE:
                self._todo.append(item.name)


def linked_in(tree: Path) -> Iterator[tuple[elf.Linked, str]]:
    """Yield what the files of a tree are linked to, with the name of each file."""
    for directory, names, files in os.walk(tree):
        names.sort()
        for name in files:
            below = os.path.relpath(f"{directory}/{name}", tree)
            if name.endswith((".beam", ".js", ".css", ".gz")) or not _is_file(directory, name):
                continue
            opened = archive.open_below(tree, below)
            try:
                linked = elf.linked(opened)
            finally:
                os.close(opened)
            if linked is not None:
                yield linked, name


def _is_file(directory: str, name: str) -> bool:
    return stat.S_ISREG(os.lstat(f"{directory}/{name}").st_mode)


class _Host:
    """The installed packages of a machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._info = root / "var/lib/dpkg/info"
        try:
            status = (root / "var/lib/dpkg/status").read_text(errors="replace")
        except OSError as error:
            raise MissingProgram(
                "A base layer is made from Debian packages, and this machine has no dpkg.",
                hint="Name an image that has what the release needs as its base.",
            ) from error
        self._stanzas: dict[str, str] = {}
        for stanza in status.split("\n\n"):
            name = _field(stanza, "Package")
            if name and _field(stanza, "Status").endswith(" installed"):
                # of a library for several architectures, the machine's own is listed first or only
                self._stanzas.setdefault(name, stanza)
        self._links = [name for name in _LINKS if (root / name).is_symlink()]
        self._owners: dict[str, str] | None = None

    def has(self, package: str) -> bool:
        """Whether a package is installed."""
        return package in self._stanzas

    def version(self, package: str) -> str:
        """The version of an installed package."""
        return _field(self._stanzas[package], "Version")

    def items(self, package: str) -> Iterator[Item]:
        """The files and links of a package; those that only people read are left out."""
        for path in self._listed(package):
            name = self._name(path)
            if name.startswith(_LEFT_OUT) or "/gconv/" in name or not name:
                continue
            if name.startswith("usr/share/doc/") and not name.endswith("/copyright"):
                continue
            yield from self._item(name)

    def file(self, path: str) -> Iterator[Item]:
        """A library that no package owns, and the links that lead to it."""
        for _ in range(8):
            yield from self._item(path)
            file = self._root / path
            if not file.is_symlink():
                return
            path = self._name(os.path.normpath(f"/{path}/../{file.readlink()}"))

    def library(self, name: str, linked: elf.Linked) -> str | None:
        """The path of a library by its name, as the dynamic linker finds it."""
        triplet = _MACHINES.get(linked.machine)
        if triplet is None or "/" in name:
            return None
        paths = [path for path in linked.paths if path.startswith("/")]
        for directory in (
            *paths, f"/lib/{triplet}", f"/usr/lib/{triplet}", "/lib", "/usr/lib", "/lib64",
            "/usr/lib64", f"/usr/local/lib/{triplet}", "/usr/local/lib",
        ):  # fmt: skip
            file = self._root / directory.lstrip("/") / name
            if file.is_file():
                return self._name(f"{directory}/{name}")
        return None

    def owner(self, path: str) -> str | None:
        """The package that has a library."""
        if self._owners is None:
            self._owners = {}
            for file in sorted(self._info.glob("*.list")):
                package = file.name.removesuffix(".list").partition(":")[0]
                for line in file.read_text(errors="replace").splitlines():
                    if ".so" in line:
                        self._owners.setdefault(self._name(line), package)
        package_or_none = self._owners.get(path)
        return package_or_none if package_or_none in self._stanzas else None

    def linked(self, name: str) -> elf.Linked | None:
        """The libraries that a file needs; None for a file of another kind."""
        try:
            opened = os.open(self._root / name, os.O_RDONLY)
        except OSError:
            return None
        try:
            return elf.linked(opened)
        finally:
            os.close(opened)

    def generated(self, packages: Collection[str]) -> Iterator[Item]:
        """The files that are not any package's, or differ from machine to machine."""
        for name in self._links:
            yield archive.link(name, os.readlink(self._root / name))  # noqa: PTH115
        yield archive.text("etc/passwd", (
            "root:x:0:0:root:/:/usr/sbin/nologin\n"
            f"app:x:{USER}:{USER}:app:/tmp:/bin/sh\n"
            "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        ))  # fmt: skip
        yield archive.text("etc/group", f"root:x:0:\napp:x:{USER}:\nnogroup:x:65534:\n")
        yield archive.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
        yield archive.link("etc/os-release", "../usr/lib/os-release")
        if "mawk" in packages:  # a link of update-alternatives, which no package has
            yield archive.link("usr/bin/awk", "mawk")
        if (self._root / _AUTHORITIES).is_file():
            size = (self._root / _AUTHORITIES).stat().st_size
            yield Item(_AUTHORITIES, tarfile.REGTYPE, 0o644, size, base=self._root,
                       below=_AUTHORITIES)  # fmt: skip
        for name in ("tmp", "var/tmp"):
            yield archive.directory(name, 0o1777)
        for package in packages:  # the place where scanners look in images without dpkg
            yield archive.text(f"var/lib/dpkg/status.d/{package}", f"{self._stanzas[package]}\n")

    def _listed(self, package: str) -> list[str]:
        architecture = _field(self._stanzas[package], "Architecture")
        for name in (f"{package}:{architecture}.list", f"{package}.list"):
            try:
                return (self._info / name).read_text(errors="replace").splitlines()
            except FileNotFoundError:
                continue
        return []

    def _name(self, path: str) -> str:
        """A path on a system where /lib is a link to /usr/lib, without the link."""
        name = path.strip("/")
        first = name.partition("/")[0]
        return f"usr/{name}" if first in self._links and first != name else name.rstrip(".")

    def _item(self, name: str) -> Iterator[Item]:
        file = self._root / name
        try:
            info = file.lstat()
        except OSError:  # dpkg may be set up to leave files out
            return
        if stat.S_ISLNK(info.st_mode):
            yield archive.link(name, os.readlink(file))  # noqa: PTH115
        elif stat.S_ISREG(info.st_mode) and os.access(file, os.R_OK):
            mode = 0o755 if info.st_mode & 0o111 else 0o644
            below = self._real(name)
            yield Item(name, tarfile.REGTYPE, mode, info.st_size, base=self._root, below=below)

    def _real(self, name: str) -> str:
        """The path without links among its directories, which the archive does not follow."""
        parent = str(PurePosixPath(name).parent)
        real = os.path.realpath(self._root / parent)
        return os.path.relpath(f"{real}/{PurePosixPath(name).name}", os.path.realpath(self._root))


def _field(stanza: str, name: str) -> str:
    start = f"{name}: "
    for line in stanza.splitlines():
        if line.startswith(start):
            return line.removeprefix(start).strip()
    return ""
