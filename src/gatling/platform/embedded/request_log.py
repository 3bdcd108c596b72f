"""The log of requests of an embedded home's nginx: rotated by its size."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from gatling import files, proc
from gatling.proxy import log_rotation

if TYPE_CHECKING:
    from pathlib import Path


def tidy(log: Path) -> None:
    """Rotate the log if it has reached its size, and let nginx open the new one. Raises OSError.

    The supervisor does this each minute. A command does it as well, because a supervisor that was
    started by an older Gatling does not. Only one of them does it at a time.
    """
    if not log_rotation.is_due(log):
        return
    with files.open_lock(log.with_name(f"{log.name}.lock")) as lock:
        if files.try_lock(lock) and log_rotation.is_due(log):
            log_rotation.rotate(log, lambda: log_rotation.create(log, 0o600))
            pid, started = map(int, (log.parent / "pid").read_text().split()[:2])
            if proc.alive(pid, started):
                os.kill(pid, signal.SIGUSR1)
