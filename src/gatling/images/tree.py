"""The layers of a release tree, those that change seldom first.

The content of a tree is pushed code. So links that lead out of it, devices, too much data and
names with a meaning for layers are refused, before anything is read.
"""

from __future__ import annotations

import os
import stat
import tarfile
from typing import TYPE_CHECKING, Literal

from gatling.errors import BuildFailed
from gatling.images.archive import Item, directory, link
from gatling.releases.safe_copy import MAX_DEPTH, MAX_ENTRIES, leads_out

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

PLACE = "opt/release"
"""The directory of the release tree in an image."""
MAX_BYTES = 4 << 30
"""Bytes of all files; a hole in a sparse file counts, since no archive keeps it."""

Group = Literal["runtime", "dependencies", "assets", "app"]
GROUPS: tuple[Group, ...] = ("runtime", "dependencies", "assets", "app")
"""The layers: Erlang and Elixir; the dependencies; the app's own files in priv; everything else."""

SECRET = "releases/COOKIE"  # noqa: S105 (a path)
"""The cookie that mix made up. Gatling gives an instance another one, and an image is no place for
secrets."""
_WHITEOUT = ".wh."
"""Begins the names of entries that remove files of lower layers."""
_DISTRIBUTION = """
    asn1 common_test compiler crypto debugger dialyzer diameter edoc eldap erl_interface et eunit
    ftp inets jinterface kernel megaco mnesia observer odbc os_mon parsetools public_key reltool
    runtime_tools sasl snmp ssh ssl stdlib syntax_tools tftp tools wx xmerl
    eex elixir ex_unit iex logger mix
"""
"""The applications that come with Erlang and Elixir."""


def layers(tree: Path, own: Collection[str]) -> dict[Group, list[Item]]:
    """The items of each layer; a layer may be empty.

    `own` are the applications of the project, as opposed to its dependencies. Raises BuildFailed
    for a tree that cannot become an image.
    """
    found: dict[Group, list[Item]] = {group: [] for group in GROUPS}
    total = 0
    for number, item in enumerate(_items(tree)):
        total += item.size
        if number >= MAX_ENTRIES:
            raise BuildFailed(f"The release has more than {MAX_ENTRIES:,} files.")
        if total > MAX_BYTES:
            raise BuildFailed(
                f"The release has more than {MAX_BYTES >> 30} GB in its files, which is too much"
                f" for an image. {item.below} has {item.size >> 20:,} MB.",
                hint="Keep large files in a volume or an object store, not in the project.",
            )
        if item.below != SECRET:
            found[group(item.name.removeprefix(f"{PLACE}/"), own)].append(item)
    return found


def group(path: str, own: Collection[str]) -> Group:
    """The layer of a path in a release tree."""
    first, *rest = path.split("/")
    if first.startswith("erts-"):
        return "runtime"
    if first != "lib" or not rest:
        return "app"
    name = rest[0].partition("-")[0]
    if name in own:
        return "assets" if rest[1:2] == ["priv"] else "app"
    return "runtime" if name in _DISTRIBUTION.split() else "dependencies"


def _items(tree: Path) -> Iterator[Item]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        opened = os.open(tree, flags)
        try:
            yield from _directory(opened, tree, ())
        finally:
            os.close(opened)
    except OSError as error:
        raise BuildFailed(
            f"The release could not be read: {error.filename}: {error.strerror}."
        ) from error


def _directory(opened: int, tree: Path, where: tuple[str, ...]) -> Iterator[Item]:
    if len(where) > MAX_DEPTH:
        raise BuildFailed(f"The release has more than {MAX_DEPTH} directories in each other.")
    for name in sorted(os.listdir(opened)):
        here = (*where, name)
        below = "/".join(here)
        info = os.stat(name, dir_fd=opened, follow_symlinks=False)
        if name.startswith(_WHITEOUT):
            raise BuildFailed(
                f"{below} cannot be in an image, where names that begin with {_WHITEOUT} remove"
                " files.",
                hint="Rename the file.",
            )
        if stat.S_ISDIR(info.st_mode):
            yield directory(f"{PLACE}/{below}")
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=opened)
            try:
                yield from _directory(inner, tree, here)
            finally:
                os.close(inner)
        elif stat.S_ISLNK(info.st_mode):
            target = os.readlink(name, dir_fd=opened)
            if leads_out(target, where):
                raise BuildFailed(
                    f"The release has a link that leads out of it: {below} → {target}"
                )
            yield link(f"{PLACE}/{below}", target)
        elif stat.S_ISREG(info.st_mode):
            mode = 0o555 if info.st_mode & 0o111 else 0o444
            yield Item(
                f"{PLACE}/{below}", tarfile.REGTYPE, mode, info.st_size, base=tree, below=below
            )
        else:
            raise BuildFailed(f"{below} is neither a file nor a directory.")
