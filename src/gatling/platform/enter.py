"""Becomes a program of an app, in a systemd unit: `python3 -I -S enter.py`.

The command line and its environment come as a credential (systemd.exec(5), LoadCredential=): only
this unit's user can read it, and nothing of it is in a unit file or a command line. When systemd
restarts an instance, this program reports how it ended, and waits, longer each time. Only the
standard library, and the system's own Python, so that apps start even if Gatling's own Python is
broken.
"""

import json
import os
import pwd
import signal
import sys
import time

PAUSES = (0, 0, 1, 2, 4, 8, 16, 30)
"""Seconds before each start in a row; after the last of them that one, for ever."""
SETTLED_SECONDS = 60
"""A program that ran so long has not crashed at its start."""
KEPT = 50
"""Ends that are remembered."""
ENDS, PAUSE = "ends", "pause"
"""Files beside the record of starts: ends that nobody asked for; the pid of who pauses."""


def starts(file: str, now: float) -> int:
    """How many starts in a row this is, from 0; the row ends when one has run for a while."""
    try:
        with open(file, encoding="utf-8") as opened:
            count, last = opened.read().split()
        row = int(count) + 1 if now - float(last) < SETTLED_SECONDS else 0
    except (OSError, ValueError):
        row = 0
    return row


def cause(result: str, code: str, status: str, memory: str = "") -> str:
    """Describe how a program ended, by $SERVICE_RESULT and its companions of systemd.exec(5)."""
    limit = f"limit {memory}" if memory else "no memory was left"
    if result == "oom-kill":
        return f"killed for its memory ({limit})"
    if code in ("killed", "dumped"):
        name = status if status.startswith("SIG") else f"SIG{status}"
        surely = f", most likely for its memory ({limit})" if memory and name == "SIGKILL" else ""
        return f"killed by {name}{surely}"
    return f"exited with status {status or '?'}"


def span(seconds: float) -> str:
    """A time in words, such as `9.4 s` or `3 h`."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"


def remember(directory: str, after: float, said: str, now: float) -> int:
    """Record an end that nobody asked for; how many there were in the hour before `now`."""
    file = os.path.join(directory, ENDS)
    try:
        with open(file, encoding="ascii", errors="replace") as opened:
            lines = opened.read().splitlines()[1 - KEPT :]
    except OSError:
        lines = []
    lines.append(f"{now:.3f} {max(0.0, after):.3f} {said}")
    with open(f"{file}.new", "w", encoding="ascii", errors="replace") as opened:
        opened.write("\n".join(lines) + "\n")
    os.replace(f"{file}.new", file)
    return sum(line.split()[0] > f"{now - 3600:.3f}" for line in lines)


def say(text: str) -> None:
    """A line that Gatling itself writes to the log of the app."""
    sys.stdout.write(f"-- {text}\n")
    sys.stdout.flush()


def began(record: str) -> float:
    """When the start before this one was, by time.monotonic()."""
    try:
        with open(record, encoding="utf-8") as opened:
            return float(opened.read().split()[1])
    except (OSError, ValueError, IndexError):
        return time.monotonic()


def ended(directory: str, after: float, pause: float) -> None:
    """Say with what the program that ran here before has ended (the unit's ExecStopPost=)."""
    try:
        with open(os.path.join(directory, "end"), encoding="utf-8") as opened:
            words = [*opened.read().split(), "", "", ""]
    except OSError:
        words = ["", "", ""]
    said = cause(words[0], words[1], words[2], os.environ.get("MEMORY_LIMIT", ""))
    count = remember(directory, after, said, time.time())
    waits = f", in {pause:g} s" if pause else ""
    say(f"instance {said} after {span(after)}; restart {count} within an hour{waits}")


def keep(file: str, text: str) -> None:
    """Write a file that only its user can read."""
    new = f"{file}.{os.getpid()}"
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400), "w") as opened:
        opened.write(text)
    os.replace(new, file)


def again(directory: str) -> None:
    """Note this start of an instance; when it is not the first, say why, and wait for its turn."""
    record = os.path.join(directory, "starts")
    if os.path.exists(record):  # systemd keeps the directory while it restarts
        row = starts(record, time.monotonic())
        pause = PAUSES[min(row, len(PAUSES) - 1)]
        ended(directory, time.monotonic() - began(record), pause)
        begun(record, row)  # also when it is killed while it waits
        if pause:
            waiting = os.path.join(directory, PAUSE)
            with open(waiting, "w", encoding="utf-8") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(pause)
            os.unlink(waiting)
    else:
        row = 0
    begun(record, row)


def begun(record: str, row: int) -> None:
    """Note that the start with this number in a row is now."""
    # for the launcher alone, in a directory that Gatling reads
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(record, flags, 0o600), "w") as file:
        file.write(f"{row} {time.monotonic()}\n")


def be_nice(nice: int) -> None:
    """Lower the priority of this process and its session; both are the unit's own.

    A kernel that groups processes by session, as Debian's does, compares niceness within a session
    only, unless control groups share out the processor. A unit is a session, so niceness alone
    would change nothing between a build and an app. See "The autogroup feature" in sched(7).
    """
    os.nice(nice)
    # Unless the kernel has no such groups. For users it refuses two changes within 0.1 s.
    for _ in range(20):
        try:
            with open("/proc/self/autogroup", "w", encoding="ascii") as file:
                file.write(str(nice))
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:
            break
        else:
            break


def main() -> None:
    """Replace this process by the program that the credential describes."""
    credential = os.path.join(os.environ["CREDENTIALS_DIRECTORY"], "program")
    with open(credential, encoding="utf-8") as file:
        program = json.load(file)
    user = program.get("user")
    if user and pwd.getpwuid(os.getuid()).pw_name != user:  # of a drop-in that was damaged
        sys.exit(f"-- not started: this unit is not {user}'s; `gatling recover --units`, as root")
    runtime = os.environ.get("RUNTIME_DIRECTORY")
    if runtime:
        again(runtime)
    cookie = program["env"].pop("GATLING_COOKIE", "")
    if cookie:
        keep(os.path.join(program["env"]["HOME"], ".erlang.cookie"), cookie)
    if program.get("nice"):
        be_nice(program["nice"])
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python has it ignored
    os.chdir(program["cwd"])
    os.execve(program["argv"][0], program["argv"], program["env"])  # noqa: S606 (a list is the point)


if __name__ == "__main__":
    main()
