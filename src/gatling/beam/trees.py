"""Two trees of releases: which files differ."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def differing(old: Path, new: Path) -> list[str]:
    """Files of the tree `new` that are not the very same (hard-linked) files in `old`."""
    before = dict(_inodes(str(old), ""))
    return [path for path, inode in _inodes(str(new), "") if before.get(path) != inode]


def _inodes(root: str, relative: str) -> Iterator[tuple[str, int]]:
    with os.scandir(f"{root}/{relative}") as entries:
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _inodes(root, path)
            else:
                yield path, entry.inode()
