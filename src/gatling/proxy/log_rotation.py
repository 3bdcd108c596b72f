"""Rotates the log of requests by its size. Standard library only: root's helper does it, too."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOG = "requests.log"
"""The name of the log of requests in an embedded home's nginx directory."""
BACKUPS = 3
"""Rotated logs that are kept, `NAME.1` being the latest."""
ROTATE_BYTES = 32 << 20
"""Size at which a log is rotated: about 700,000 requests."""


def is_due(log: Path) -> bool:
    """Whether a log has reached its size; a log that cannot be seen has not."""
    try:
        return log.stat(follow_symlinks=False).st_size >= ROTATE_BYTES
    except OSError:
        return False


def rotate(log: Path, make: Callable[[], object]) -> None:
    """Rename a log and those before it, and make a new one.

    nginx writes on into the renamed file until it opens its logs again (SIGUSR1).
    """
    for n in range(BACKUPS - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            numbered(log, n).replace(numbered(log, n + 1))
    log.replace(numbered(log, 1))
    make()


def numbered(log: Path, n: int) -> Path:
    """The place of a rotated log."""
    return log.with_name(f"{log.name}.{n}")


def create(log: Path, mode: int, group: int | None = None) -> None:
    """Make sure that there is a log, which `group` may read; what it holds is kept."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        if group is not None:
            os.fchown(fd, -1, group)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)
