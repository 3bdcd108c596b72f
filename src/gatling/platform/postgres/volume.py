"""A volume for the databases of a server: a file with an XFS file system, which can share blocks.

Most servers have ext4, where a fork and an upgrade copy all files. This module has the rules,
and root's helper does the work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gatling import files
from gatling.errors import InvalidInput

LEAST_BYTES, MOST_BYTES = 1 << 30, 64 << 40
USUAL_BYTES = 20 << 30
INFO, CREATE, GROW = "info", "create", "grow"
_SIZE = re.compile(r"([1-9][0-9]{0,6})(M|G|T)")
_UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Volume:
    """The file system that has the databases of a server."""

    there: bool
    """Whether it is a volume that Gatling created."""
    file: str
    bytes: int
    """The size of the volume; 0 without one."""
    used: int
    """Bytes that databases take, on the volume or on the disk of the server."""
    free: int
    """Bytes that databases can still take."""
    disk_free: int
    """Bytes that are free on the disk of the server."""
    clusters: int
    copy: str
    """The directory with the files of before, which nothing uses any more; empty: there is none."""


def size(text: str) -> int:
    """The bytes of a size such as `20G`; raises InvalidInput."""
    found = _SIZE.fullmatch(text.strip().upper())
    count = int(found[1]) * _UNITS[found[2]] if found else 0
    if not LEAST_BYTES <= count <= MOST_BYTES:
        raise InvalidInput(
            f"The size {text} is none from 1G to 64T.", hint="Write it as 20G, 800G or 2T."
        )
    return count


def check_size(count: int, used: int) -> None:
    """Raise InvalidInput for a volume that has hardly more room than its files need."""
    least = used + used // 4 + LEAST_BYTES
    if count < least:
        raise InvalidInput(
            f"The databases need {used >> 20} MB. A volume for them needs {(least >> 20) + 1} MB or"
            " more.", hint="Choose a larger --size."
        )  # fmt: skip


def check_room(count: int, free: int, place: str) -> None:
    """Raise InvalidInput where a disk has not so many bytes, and some for others."""
    if free < count + files.RESERVE_BYTES:
        raise InvalidInput(
            f"The volume needs {count >> 20} MB, and {files.RESERVE_BYTES >> 20} MB stay reserved:"
            f" {free >> 20} MB are free on the disk of {place}.",
            hint="Free some space, or choose a smaller --size.",
        )
