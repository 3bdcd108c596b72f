"""Whether a file system has room left, asked before something is begun that would fill it.

A full disk hurts more than the deployment that filled it: the records cannot be written, logs stop,
apps lose data. So a build or a backup does not begin, or go on, below a reserve.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gatling.errors import DiskFull

if TYPE_CHECKING:
    from pathlib import Path

RESERVE_BYTES = 256 << 20
"""What stays free for records, logs and the apps themselves."""
RESERVE_FILES = 4096
"""Files that can still be made then: an inode each, where a file system counts them."""


def check(path: Path, what: str) -> None:
    """Raise DiskFull when the file system of `path` is below the reserve; `what` cannot begin."""
    try:
        found = os.statvfs(path)
    except OSError:
        return  # whatever is done there says better what is wrong
    free = found.f_bavail * found.f_frsize
    if free < RESERVE_BYTES:
        raise DiskFull(
            f"{what} needs room: {free >> 20} MB are free on the disk of {path}, and"
            f" {RESERVE_BYTES >> 20} MB stay reserved."
        )
    if found.f_files and found.f_favail < RESERVE_FILES:
        raise DiskFull(
            f"{what} needs room: {found.f_favail} more files fit on the disk of {path} (inodes),"
            f" and {RESERVE_FILES} stay reserved.",
            hint="`df -i` shows it. Remove directories with many small files.",
        )
