"""The files in which nginx looks for passwords (basic authentication): hashes, never the words.

The name of a file is a digest of its text, so a file never changes. Other passwords are another
file, which exists before a configuration names it: a command that fails changes nobody's password.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

from gatling import files
from gatling.proxy import nginx

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatling.proxy.site import Site


class Written(NamedTuple):
    """The expected content of a directory of such files."""

    directory: Path
    known: frozenset[str]
    """`APP/FILE`."""

    def remove_others(self) -> None:
        """Remove the files of domains and apps that have no passwords any more."""
        if not self.directory.is_dir():
            return
        apps = {name.partition("/")[0] for name in self.known}
        for entry in self.directory.iterdir():
            if entry.name not in apps:
                shutil.rmtree(entry, ignore_errors=True)
                continue
            for file in entry.iterdir():
                if f"{entry.name}/{file.name}" not in self.known:
                    file.unlink()


def write(sites: Sequence[Site], directory: Path, group: int | None = None) -> Written:
    """Write the files of all apps, for their owner and, if given, a group to read."""
    known = set()
    for site in sites:
        for name, text in nginx.password_files(site).items():
            file = directory / site.app / name
            known.add(f"{site.app}/{name}")
            for made in (directory, file.parent):
                made.mkdir(mode=0o700, exist_ok=True)
                _hand(made, group, 0o710)
            _create(file, text, group)
    return Written(directory, frozenset(known))


def _create(file: Path, text: str, group: int | None) -> None:
    if file.exists() and file.read_text() == text:
        return
    new = file.with_name(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        _hand(new, group, 0o640)
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    new.rename(file)
    files.sync(file.parent)


def _hand(path: Path, group: int | None, mode: int) -> None:
    """Let a group see it."""
    if group is not None:
        os.chown(path, -1, group)
        path.chmod(mode)
