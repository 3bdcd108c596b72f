"""The program that supervisord runs for a database: `python -I -S postmaster.py DATA POSTGRES`.

It becomes PostgreSQL. A supervisord that was killed leaves the PostgreSQL that it ran, which is
stopped first: nothing would restart that one.
"""

import os
import signal
import sys
import time
from pathlib import Path

STOP_SECONDS = 120


def main(data: str, postgres: str) -> None:
    """Stop an orphan, then become PostgreSQL."""
    deadline = time.monotonic() + STOP_SECONDS
    while (pid := running(Path(data))) is not None and time.monotonic() < deadline:
        try:
            os.kill(pid, signal.SIGINT)  # a fast shutdown; it may be sent again
        except ProcessLookupError:
            break
        time.sleep(0.2)
    os.execv(postgres, [postgres, "-D", data])  # noqa: S606 (no shell is wanted)


def running(data: Path) -> int | None:
    """The process of the PostgreSQL that has a data directory open; None when nothing has."""
    try:
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, IndexError):
        return None
    return pid if os.fsencode(data) in words else None


if __name__ == "__main__":
    main(*sys.argv[1:3])
