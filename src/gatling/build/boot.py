"""The boot script with which the VM of a build starts: all that it needs is loaded at once.

The first VM of a toolchain writes it for the next ones (priv/boot.ex), and a note of the files and
directories that it was made from. It is used while these are what they were. On a server both are
written by the user that builds, who could start the VM in any other way as well.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_NOTE = 16384
"""Bytes of a note that are read at most; it has seven lines."""


def arguments(cache: Path, elixir: str, path: str) -> tuple[list[str], list[str]]:
    """Return the options of `elixir` for the script, and the words that let the VM write it.

    `elixir` is the program, resolved, and `path` the PATH on which it will find `erl`. There are no
    options unless the script is there, and no words when the toolchain is not laid out as Elixir
    and OTP install themselves.
    """
    found = shutil.which("erl", path=path)
    if found is None:
        return [], []
    root = os.path.dirname(os.path.dirname(os.path.realpath(found)))  # noqa: PTH120
    if not os.path.isfile(f"{root}/bin/start_clean.boot"):  # noqa: PTH113
        return [], []
    name = hashlib.sha256(os.fsencode(f"{root}\0{elixir}")).hexdigest()[:16]
    file = f"{cache}/boot-{name}"
    options = ["--boot", file] if os.path.isfile(f"{file}.boot") and _holds(f"{file}.seen") else []  # noqa: PTH113
    return options, [file, root, elixir]


def _holds(note: str) -> bool:
    """Whether all that the note names is as it was: its inode, time of change and size."""
    try:
        opened = os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(opened, "rb") as file:  # noqa: PTH123 (a descriptor)
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                return False
            lines = file.read(MAX_NOTE).splitlines()
        for line in lines:
            *numbers, path = line.split(b" ", 3)
            now = os.stat(path)  # noqa: PTH116
            if [int(each) for each in numbers] != [now.st_ino, int(now.st_mtime), now.st_size]:
                return False
    except (OSError, ValueError):
        return False
    return bool(lines)
