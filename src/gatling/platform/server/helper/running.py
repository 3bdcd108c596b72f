"""Programs that the helper runs in units of their own and attends to, until they end."""

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import socket
import subprocess
from pathlib import Path
from typing import Any

from gatling.cleanup import finally_

RUN = Path("/run/gatling")
ENTER = Path(__file__).resolve().parents[2] / "enter.py"

IN_ACCESS = 0x1
"""Of inotify(7): a file was read."""

STOP = "stop"
"""A client who is gone, or says so, ends the program."""
HANG_UP = "hang-up"
"""… or sends it SIGHUP once, and it decides."""


class NotStarted(Exception):
    """systemd has not run the program at all; the message says what to look at."""


_GONE = {STOP: ("stop",), HANG_UP: ("kill", "--signal=HUP", "--kill-whom=main")}


def run(
    unit: str,
    properties: list[str],
    program: dict[str, Any],
    files: list[int],
    connection: socket.socket,
    *,
    terminal: bool = False,
    on_gone: str,
) -> dict[str, Any]:
    """Run a program in a transient unit; how it ended, in systemd's words.

    Raises NotStarted when it was never started. systemd-run exits with 0 then as well, for example
    when something that the unit requires has failed. The sign of a start is that systemd has read
    the credential. systemd itself forgets a unit that has ended, and no command of the unit's own
    can give a sign: if systemd is reloaded while the unit runs, as another app's creation does, the
    unit loses those that run as root (`ExecStopPost=+…` of a transient unit, in systemd 252).
    """
    file, kept = credential(unit, program)
    reads = watch_reads(file)
    argv = ["systemd-run", "--quiet", "--wait", "--pty" if terminal else "--pipe",
            f"--unit={unit}", "--service-type=exec", f"--property=LoadCredential=program:{file}",
            *(f"--property={text}" for text in properties),
            "/usr/bin/python3", "-I", "-S", str(ENTER)]  # fmt: skip
    with finally_(
        lambda: file.unlink(missing_ok=True),
        lambda: os.close(kept),
        lambda: os.close(reads),
        lambda: _systemctl("reset-failed", unit),
    ):
        answer = attend(argv, files, connection, on_gone=on_gone, unit=unit)
        if not was_read(reads):
            raise NotStarted(f"{unit} could not be started: `journalctl -u {unit}` shows why")
        if answer["status"] != 0:
            answer |= _how_it_ended(unit)
        return answer


def credential(unit: str, program: dict[str, Any]) -> tuple[Path, int]:
    """Write what a unit is to run, and remove what helpers that were killed have left of others.

    A helper holds a lock on its file, which is open as the number returned, for as long as it runs.
    """
    directory = RUN / "programs"
    directory.mkdir(mode=0o700, exist_ok=True)
    all_of_them = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(all_of_them, fcntl.LOCK_EX)
        for left in directory.iterdir():
            with contextlib.suppress(OSError), left.open() as opened:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
        file = directory / f"{unit}.json"
        kept = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(kept, fcntl.LOCK_EX)
        with os.fdopen(kept, "w", closefd=False) as opened:
            json.dump(program, opened)
    finally:
        os.close(all_of_them)
    return file, kept


def watch_reads(file: Path) -> int:
    """A file descriptor of inotify(7) for `was_read`: it notes when somebody reads the file."""
    libc = ctypes.CDLL(None, use_errno=True)
    watching: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if watching < 0 or libc.inotify_add_watch(watching, os.fsencode(file), IN_ACCESS) < 0:
        raise OSError(ctypes.get_errno(), "inotify", str(file))
    return watching


def was_read(watching: int) -> bool:
    """Whether a file has been read since `watch_reads`."""
    try:
        return bool(os.read(watching, 4096))
    except BlockingIOError:
        return False


def attend(
    argv: list[str],
    files: list[int],
    connection: socket.socket,
    *,
    on_gone: str,
    unit: str = "",
) -> dict[str, Any]:
    """Run a command with the client's files, and heed the client until it has ended."""
    process = subprocess.Popen(argv, stdin=files[0], stdout=files[1], stderr=files[2])
    for fd in files:
        os.close(fd)  # so that their ends are the program's alone
    ended = os.pidfd_open(process.pid)
    with selectors.DefaultSelector() as selector:
        selector.register(ended, selectors.EVENT_READ)
        selector.register(connection, selectors.EVENT_READ)
        gone, told = False, False
        while True:
            ready = {key.fileobj for key, _ in selector.select(0.2 if gone and not told else None)}
            if ended in ready:
                break
            if connection in ready:  # a byte or the end: both mean the same
                selector.unregister(connection)
                gone = True
            if gone and not told:
                if not unit:
                    process.terminate()
                    told = True
                else:  # the unit may not be there yet
                    told = _systemctl(*_GONE[on_gone], unit)
    os.close(ended)
    return {"status": process.wait()}


def _shown(unit: str, properties: str) -> dict[str, str]:
    """systemd's properties of a unit; for a removed unit, those of one that never existed."""
    shown = subprocess.run(
        ["systemctl", "show", f"--property={properties}", unit],
        check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    ).stdout  # fmt: skip
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def _how_it_ended(unit: str) -> dict[str, Any]:
    values = _shown(unit, "Result,ExecMainCode,ExecMainStatus")
    answer: dict[str, Any] = {"result": values.get("Result", "")}
    with contextlib.suppress(ValueError, KeyError):
        killed = values["ExecMainCode"] in ("2", "3")  # CLD_KILLED, CLD_DUMPED: waitid(2)
        # 0: it was never started, or takes an end by SIGTERM (of the time limit) for a good one, as
        # the BEAM does; then what systemd-run says of it counts
        if status := int(values["ExecMainStatus"]):
            answer["status"] = -status if killed else status
    return answer


def _systemctl(*words: str) -> bool:
    done = subprocess.run(
        ["systemctl", *words], check=False, capture_output=True, stdin=subprocess.DEVNULL
    )
    return done.returncode == 0
