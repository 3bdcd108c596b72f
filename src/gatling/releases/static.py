"""Fingerprinted assets of several releases as one tree, for nginx to serve.

A page that was loaded before a deployment asks for the files that it knows. `mix phx.digest` puts a
file's MD5 into its name, so that such a name means the same text for ever and files of all releases
can lie side by side. They are hard links: a tree costs names only. It is made aside; `static`, a
symbolic link, is renamed to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DIGESTED = r"-[0-9a-f]{32}(\.[A-Za-z0-9]{1,16})?"
"""How the name of a file ends whose text never changes: `mix phx.digest` puts its MD5 there."""
_SERVED = re.compile(rf".*{DIGESTED}(\.gz)?\Z", re.DOTALL)
"""Files that nginx looks up, and the compressed twins that it finds by itself (gzip_static)."""
_LINK = "static"
_TREE = "static-"


def publish(route: Path, trees: Sequence[Path], *, mode: int) -> bool:
    """Make these releases' files the ones that are served, the first's before others'; none: stop.

    Whether anything was done: the name of the tree says what is in it. Raises OSError, with the
    files as they were.
    """
    link = route / _LINK
    wanted = _TREE + "-".join(tree.name for tree in trees) if trees else None
    present = os.readlink(link) if link.is_symlink() else None  # noqa: PTH115 (a name, not a path)
    if present == wanted and (wanted is None or (route / wanted).is_dir()):
        return False
    route.mkdir(mode=mode, parents=True, exist_ok=True)
    if wanted is None:
        link.unlink()
    else:
        making = route / ".static.new"
        shutil.rmtree(making, ignore_errors=True)
        shutil.rmtree(route / wanted, ignore_errors=True)
        making.mkdir(mode=mode)
        for tree in trees:
            for directory in sorted(tree.glob("lib/*/priv/static")):
                _link_all(directory, making, mode)
        making.rename(route / wanted)
        new = route / ".static.link"
        new.unlink(missing_ok=True)
        new.symlink_to(wanted)
        new.rename(link)
    for entry in route.glob(f"{_TREE}*"):
        if entry.name != wanted:
            shutil.rmtree(entry, ignore_errors=True)
    return True


def _link_all(directory: Path, target: Path, mode: int) -> None:
    for file in _digested(str(directory)):
        place = target / os.path.relpath(file, directory)
        place.parent.mkdir(mode=mode, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError, NotADirectoryError):  # a newer one's
            try:
                os.link(file, place, follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.EMLINK:  # a file can have only so many names
                    raise
                shutil.copy2(file, place)


def _digested(directory: str) -> Iterator[str]:
    """Ordinary files of such names; nothing that is, or lies in, a link or begins with a dot."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _digested(entry.path)
            elif entry.is_file(follow_symlinks=False) and _SERVED.match(entry.name):
                yield entry.path
