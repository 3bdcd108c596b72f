"""How two releases differ by their files alone: nothing is started, and no node is asked.

For users who may see an app but not run its code. Files alone do not show whether an upgrade can be
hot: that depends on the release's config, its supervision trees and the state of the node.
"""

from __future__ import annotations

import filecmp
import os
import re
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LIBRARY = re.compile(r"lib/(?P<app>[^/]+)-[^/-]*/(?P<rest>.+)\Z")
_RELEASE = re.compile(r"releases/[^/]+/(?P<rest>.+)\Z")
_ERTS = re.compile(r"erts-[^/]+/(?P<rest>.+)\Z")
_BEAM = re.compile(r"ebin/(?P<module>[^/]+)\.beam\Z")
_FOR_BOOT = re.compile(r"releases/(?:.*/)?(?:vm\.args|env\.sh|.*\.config|runtime\.exs)\Z")


class Module(Struct, frozen=True):
    """A compiled module, and the application that it belongs to."""

    app: str
    module: str


class Glance(Struct, frozen=True):
    """The differences between two trees."""

    changed: tuple[Module, ...]
    added: tuple[Module, ...]
    removed: tuple[Module, ...]
    boot: tuple[str, ...]
    """Files that are read at boot."""
    assets: tuple[str, ...]
    """Applications of which files in priv differ."""
    erts: bool
    """Whether the BEAM itself differs."""

    def summary(self) -> list[str]:
        """In a few words."""
        counts = [
            f"{counted(len(modules), 'module')} {what}"
            for what, modules in (
                ("changed", self.changed),
                ("added", self.added),
                ("removed", self.removed),
            )
            if modules
        ]
        found = [
            *([", ".join(counts)] if counts else []),
            *(f"{file} changed" for file in self.boot),
        ]
        found += [f"files in priv of {app}" for app in self.assets]
        return [*found, *(["the BEAM itself changes"] if self.erts else [])] or ["no file differs"]


def glance(old: Path, new: Path) -> Glance:
    """Compare two trees; the versions in the names of directories do not count."""
    before, after = dict(_files(old)), dict(_files(new))
    changed = {key for key in before.keys() & after.keys() if _differs(before[key], after[key])}
    added, removed = after.keys() - before.keys(), before.keys() - after.keys()
    every = changed | added | removed
    return Glance(
        _modules(changed),
        _modules(added),
        _modules(removed),
        tuple(sorted(key for key in every if _FOR_BOOT.match(key))),
        tuple(sorted({key.split("/")[1] for key in every if re.match(r"lib/[^/]+/priv/", key)})),
        any(key.startswith("erts/") for key in every),
    )


def _modules(keys: set[str]) -> tuple[Module, ...]:
    found = []
    for key in sorted(keys):
        area, app, rest = (*key.split("/", 2), "", "")[:3]
        beam = _BEAM.match(rest)
        if area == "lib" and beam:
            found.append(Module(app, beam["module"].removeprefix("Elixir.")))
    return tuple(found)


def _files(tree: Path) -> Iterator[tuple[str, Path]]:
    """The files of a tree by what they are, whatever the versions."""
    for directory, _, names in os.walk(tree):
        for name in names:
            path = tree.__class__(directory) / name
            yield _key(path.relative_to(tree).as_posix()), path


def _key(path: str) -> str:
    if found := _LIBRARY.match(path):
        return f"lib/{found['app']}/{found['rest']}"
    if found := _RELEASE.match(path):
        return f"releases/{found['rest']}"
    if found := _ERTS.match(path):
        return f"erts/{found['rest']}"
    return path


def _differs(old: Path, new: Path) -> bool:
    """Equal files of two releases are hard links, as a rule."""
    if old.is_symlink() or new.is_symlink():
        return not (old.is_symlink() and new.is_symlink() and old.readlink() == new.readlink())
    return not old.samefile(new) and not filecmp.cmp(old, new, shallow=False)
