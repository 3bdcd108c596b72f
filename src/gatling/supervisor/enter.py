"""Becomes a program of an app, in a unit of systemd's: `python3 -I -S enter.py`.

What to run, with which environment, comes as a credential (systemd.exec(5), LoadCredential=): only
this unit's user can read it, and nothing of it is in a unit file or a command line. An instance
that has crashed waits here before it is started again, longer each time. Only the standard
library, and the system's own Python, so that apps start whatever becomes of Gatling's.
"""

import json
import os
import signal
import sys
import time

PAUSES = (0, 0, 1, 2, 4, 8, 16, 30)
"""Seconds before each start in a row; after the last of them that one."""
SETTLED_SECONDS = 60
"""A program that ran so long has not crashed at its start."""


def starts(file: str, now: float) -> int:
    """How many starts in a row this is, from 0; the row ends when one has run for a while."""
    try:
        with open(file, encoding="utf-8") as opened:  # noqa: PTH123
            count, last = opened.read().split()
        row = int(count) + 1 if now - float(last) < SETTLED_SECONDS else 0
    except (OSError, ValueError):
        row = 0
    return row


def keep(file: str, text: str) -> None:
    """Write a file that only its user can read."""
    new = f"{file}.{os.getpid()}"
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400), "w") as opened:
        opened.write(text)
    os.replace(new, file)  # noqa: PTH105


def main() -> None:
    """Replace this process by the program that the credential describes."""
    credential = os.path.join(os.environ["CREDENTIALS_DIRECTORY"], "program")  # noqa: PTH118
    with open(credential, encoding="utf-8") as file:  # noqa: PTH123
        program = json.load(file)
    runtime = os.environ.get("RUNTIME_DIRECTORY")
    if runtime:  # an instance: systemd keeps this directory while it restarts the unit
        record = os.path.join(runtime, "starts")  # noqa: PTH118
        row = starts(record, time.monotonic())
        pause = PAUSES[min(row, len(PAUSES) - 1)]
        if pause:
            sys.stdout.write(f"[gatling] crashed {row} times in a row; next start in {pause} s\n")
            sys.stdout.flush()
            time.sleep(pause)
        with open(record, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(f"{row} {time.monotonic()}\n")
    cookie = program["env"].pop("GATLING_COOKIE", "")
    if cookie:
        keep(os.path.join(program["env"]["HOME"], ".erlang.cookie"), cookie)  # noqa: PTH118
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python has it ignored
    os.chdir(program["cwd"])
    os.execve(program["argv"][0], program["argv"], program["env"])  # noqa: S606 (a list is the point)


if __name__ == "__main__":
    main()
