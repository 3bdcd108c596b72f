"""The program that supervisord runs for a pool: `python -I -S pooler.py DIRECTORY PGBOUNCER`.

It becomes PgBouncer. A supervisord that was killed leaves the PgBouncer that it ran, which is
killed first: its socket would be in use. PostgreSQL rolls back what was not committed.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

CONFIGURATION = "pgbouncer.ini"
PID_FILE = "pid"
STOP_SECONDS = 10


def main(directory: str, pgbouncer: str) -> None:
    """End an orphan, then become PgBouncer."""
    configuration = str(Path(directory) / CONFIGURATION)
    deadline = time.monotonic() + STOP_SECONDS
    while (pid := running(Path(directory))) is not None and time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    # after a reboot another process may have the number, for which PgBouncer would wait
    (Path(directory) / PID_FILE).unlink(missing_ok=True)
    os.execv(pgbouncer, [pgbouncer, configuration])  # noqa: S606 (no shell is wanted)


def running(directory: Path) -> int | None:
    """The process of the PgBouncer of a directory; None when there is none."""
    try:
        pid = int((directory / PID_FILE).read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(directory / CONFIGURATION) in words else None


if __name__ == "__main__":
    main(*sys.argv[1:3])
