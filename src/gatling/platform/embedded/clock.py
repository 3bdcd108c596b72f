"""The embedded home's clock: `python -I -m gatling.platform.embedded.clock HOME`.

A program under supervisord that runs while any app has jobs, notifications are sent, databases are
backed up on a schedule, or the proxy serves HTTPS. Each minute it reads what is scheduled and
starts `gatling job APP.NAME` for what is due, and `gatling notify deliver`, in sessions of their
own, which go on without it. As with cron, minutes in which the machine sleeps or nothing runs are
not caught up. When a certificate expires soon, it starts `gatling certificates renew`, each hour
until that has succeeded, and in the same way `gatling db scheduled` for backups.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import files, process

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

    from gatling.platform.embedded.home import EmbeddedHome

BACK_MINUTES = 180
"""A clock that is put back by less than this does nothing until it has caught up, as cron."""
RENEWAL_SECONDS = 3600
MAX_LOG = 1 << 20
_FILE = "schedule.json"
BACKUPS = "backups-due"
"""The file of the home that has the time of the next backup."""
_NOTIFY = "notify"
"""The file of the home that exists while there are channels for notifications."""
_PR_SET_PDEATHSIG = 1


def write(home: EmbeddedHome, app: str, jobs: Mapping[str, str]) -> None:
    """Record when an app's jobs are due, for the clock to read."""
    file = home.app(app).root / _FILE
    if jobs:
        files.write(file, json.dumps(dict(jobs)))
    else:
        file.unlink(missing_ok=True)


def set_notify(home: EmbeddedHome, *, wanted: bool) -> None:
    """Record whether notifications are to be sent, for the clock to see."""
    file = home.root / _NOTIFY
    if wanted:
        file.touch()
    else:
        file.unlink(missing_ok=True)


def renew_at(home: EmbeddedHome, moment: float | None) -> None:
    """Record the Unix time of the next renewal of certificates for the clock; None: never."""
    home.certificates.mkdir(mode=0o755, exist_ok=True)
    files.write(home.renewal, "" if moment is None else str(int(moment)))


def back_up_at(home: EmbeddedHome, moment: float | None) -> None:
    """Record the Unix time of the next backup of a database for the clock; None: never."""
    file = home.root / BACKUPS
    if moment is None:
        file.unlink(missing_ok=True)
    else:
        files.write(file, str(int(moment)))


def is_needed(home: EmbeddedHome) -> bool:
    """Whether there is anything to start: jobs, notifications, renewals or backups."""
    kept = (home.root / _NOTIFY, home.root / BACKUPS, home.renewal)
    return any(_files(home.root)) or any(file.exists() for file in kept)


def deliver_soon(root: Path) -> None:
    """Start to send what waits, and do not wait for it. Raises OSError."""
    _start(root, "notify", "deliver")


class Renewals:
    """When to renew certificates, or to back up: as soon as it is time, and then once an hour."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last = 0.0

    def due(self, now: float) -> bool:
        """Whether a command has to be started now; the caller does so."""
        try:
            moment = float(self._file.read_text())
        except (OSError, ValueError):  # there is nothing to renew
            return False
        if now < moment or 0 <= now - self._last < RENEWAL_SECONDS:
            return False
        self._last = now
        return True


class Minutes:
    """The minutes that have been taken: each once, in order, and only the current one."""

    def __init__(self, now: float) -> None:
        self._last = int(now // 60)  # the one that has begun already is not taken

    def take(self, now: float) -> int | None:
        """The minute that it is now, since the epoch, if it has not been taken."""
        minute = int(now // 60)
        if self._last - BACK_MINUTES < minute <= self._last:
            return None
        self._last = minute
        return minute


def due(root: Path, minute: int) -> list[str]:
    """The jobs that are due in a minute, as `APP.NAME`."""
    from gatling.project import schedule

    moment = datetime.fromtimestamp(minute * 60, schedule.here())
    found = []
    for file in _files(root):
        try:
            jobs = json.loads(file.read_text())
            found += [f"{file.parent.name}.{name}"
                      for name, cron in jobs.items() if schedule.is_due(cron, moment)]  # fmt: skip
        except FileNotFoundError:  # the app was removed just now
            continue
        except Exception as error:  # noqa: BLE001 (other apps' jobs are due as well)
            sys.stderr.write(f"{file}: {error!r}\n")
    return found


def main(root: Path) -> None:
    """Go on until supervisord ends this, or is gone itself."""
    _end_with_parent(root / "run" / "supervisord.pid")
    with files.locked(root / "run" / "clock"):  # that of a killed supervisord may still run
        minutes = Minutes(time.time())
        renewals = Renewals(root / "certificates" / "due")
        backups = Renewals(root / BACKUPS)
        running: list[subprocess.Popen[bytes]] = []
        while True:
            time.sleep(60.001 - time.time() % 60)
            running = [child for child in running if child.poll() is None]
            minute = minutes.take(time.time())
            commands = [["job", name] for name in due(root, minute)] if minute is not None else []
            if minute is not None and (root / _NOTIFY).exists():
                commands.append(["notify", "deliver"])
            if renewals.due(time.time()):
                commands.append(["certificates", "renew"])
            if backups.due(time.time()):
                commands.append(["db", "scheduled"])
            for command in commands:
                with contextlib.suppress(OSError):  # no process more is possible: cron's way
                    running.append(_start(root, *command))


def _start(root: Path, *command: str) -> subprocess.Popen[bytes]:
    log = root / "supervisor" / "jobs.log"  # what goes wrong around jobs; they have their own
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > MAX_LOG:
            os.truncate(log, 0)
    with log.open("ab") as said, open(os.devnull) as nothing:  # noqa: PTH123
        return process.start(
            [sys.executable, "-I", "-m", "gatling", *command],
            env=os.environ | {"GATLING_HOME": str(root)}, cwd=root,
            stdin=nothing.fileno(), output=said.fileno(),
        )  # fmt: skip


def _files(root: Path) -> Iterator[Path]:
    return root.glob(f"apps/*/{_FILE}")


def _end_with_parent(supervisord: Path) -> None:
    """Be ended when supervisord, whose process that file names, is killed: prctl(2)."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(supervisord.read_text()):  # it was killed before
        sys.exit()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
