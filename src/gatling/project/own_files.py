"""Files of the pushed source, which may be links to anything.

A module of its own, since the export of a commit on a server is a program that needs no settings.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from gatling.errors import InvalidManifest

if TYPE_CHECKING:
    from pathlib import Path


def own_file(path: Path, limit: int) -> bytes | None:
    """A file of the pushed source, read up to one byte more than `limit`; None without one.

    Raises InvalidManifest for a link, which might lead to a file that is not the project's.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:
        raise InvalidManifest(f"{path.name} must be a regular file, not a link.") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidManifest(f"{path.name} must be a regular file.")
        with os.fdopen(os.dup(fd), "rb") as file:
            return file.read(limit + 1)
    finally:
        os.close(fd)
