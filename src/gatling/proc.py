"""OS processes as the kernel knows them, proc(5): whether they are there, and how they are ended.

The programs of process.py, and what they leave behind.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from pathlib import Path

MARK = "GATLING_MARK"
"""Environment variable that marks everything started on behalf of one deployment.

It is inherited by whatever a build starts, daemons with a session of their own included, so that
`end_marked` finds them all, also after the process that started them was killed.
"""

EXECUTING_SECONDS = 0.5
"""How long a process may take to execute another program: then it has no environment for once."""

TASK = "GATLING_TASK"
"""The same of one program that is run once: what is left when it has ended is found by it."""


def end_group(leader: int, grace: float = 2.0) -> None:
    """End the process group of `leader`: SIGTERM, and SIGKILL after `grace` seconds."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGTERM)
        wait_gone(leader, grace)
        os.killpg(leader, signal.SIGKILL)


def end_marked(mark: str, *, grace: float = 0.0, variable: str = MARK) -> int:
    """SIGKILL every process of this user whose environment carries `mark`; how many there were.

    A mark that ends in `:` means all that begin with it. With `grace` they get SIGTERM first, and
    as many seconds. Repeats until none is left, since a process may be forking while it is looked
    for.
    """
    wanted = f"{variable}={mark}".encode()

    def carries(entry: bytes) -> bool:
        return entry.startswith(wanted) if mark.endswith(":") else entry == wanted

    def is_marked(pid: int) -> bool:
        text = _environ(pid)
        return wanted in text and any(map(carries, text.split(b"\0")))

    def marked() -> list[int]:
        return list(filter(is_marked, _own_pids()))

    ended: set[int] = set()
    if grace:
        asked = marked()
        _signal(asked, signal.SIGTERM)
        deadline = time.monotonic() + grace
        ended.update(asked)
        for pid in asked:
            wait_gone(pid, max(0.0, deadline - time.monotonic()))
    for _ in range(50):
        found = marked()
        if not found:
            break
        _signal(found, signal.SIGKILL)
        ended.update(found)
        time.sleep(0.02)
    return len(ended)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def alive(pid: int, started: int) -> bool:
    """Whether `pid` is still the process that started at `started` (see `start_time`)."""
    return start_time(pid) == started


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it is gone or a zombie.

    Field 22 of /proc/PID/stat, proc(5). With the pid it names a process for ever (of one boot).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def age(started: int) -> float:
    """Seconds since `started`, a `start_time`."""
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - started / os.sysconf("SC_CLK_TCK")


def wait_gone(pid: int, timeout: float) -> bool:
    """Wait until the OS process `pid` has exited (a zombie has); False when time is up."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(pidfd, selectors.EVENT_READ)
            return bool(selector.select(timeout))
    finally:
        os.close(pidfd)


def _own_pids() -> list[int]:
    uid, own = os.geteuid(), os.getpid()
    pids = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and int(entry.name) != own:
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == uid:
                    pids.append(int(entry.name))
    return pids


def _environ(pid: int) -> bytes:
    """The environment of a process; empty if it cannot be read.

    It is also empty for a moment in execve(2), and is read again then.
    """
    deadline = time.monotonic() + EXECUTING_SECONDS
    while True:
        late = time.monotonic() > deadline
        try:
            with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123 (many)
                text = file.readall()
        except OSError:
            return b""
        if text or late or not _has_environ(pid):
            return text
        time.sleep(0.001)


def _has_environ(pid: int) -> bool:
    """Whether a process has an environment, or is about to have one: in execve(2) it has none.

    Fields 23 (vsize), 26 (startcode), 50 and 51 (env_start, env_end) of /proc/PID/stat, proc(5).
    Kernel threads, and what has ended, have no memory. While the kernel counts the variables, the
    environment seems to be empty, and it has not set the start of the code yet.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    size, code, start, end = fields[20], fields[23], fields[47], fields[48]
    return size != "0" and (start != end or "0" in (end, code))


def be_nice(pid: int, nice: int) -> None:
    """Lower the priority of a process, and of the session that it leads.

    A kernel that groups processes by session, as those of Debian and Ubuntu do, compares niceness
    within a session only: a build would get as much of a processor as all that serves together.
    See "The autogroup feature" in sched(7).
    """
    # One that is nicer already, as its caller is, stays so: only root may set it back.
    if nice > os.getpriority(os.PRIO_PROCESS, 0):
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.setpriority(os.PRIO_PROCESS, pid, nice)
    # The kernel has no such groups, or another session of a user was changed within 0.1 s.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice), encoding="ascii")
