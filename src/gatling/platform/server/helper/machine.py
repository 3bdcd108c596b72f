"""Places of a server, its users and its programs, for the verbs of root's helper."""

from __future__ import annotations

import pwd
import subprocess
from pathlib import Path

SERVER = Path("/var/lib/gatling")
UNITS = Path("/etc/systemd/system")
COMMAND = Path("/usr/local/bin/gatling")


def account(user: str) -> pwd.struct_passwd:
    """A user of the machine; raises KeyError."""
    return pwd.getpwnam(user)


def call(argv: list[str], *, check: bool = True, timeout: float = 120) -> str:
    """Run a program and return its output; raises CalledProcessError unless `check` is false."""
    done = subprocess.run(argv, check=check, timeout=timeout, stdin=subprocess.DEVNULL,
                          capture_output=True)  # fmt: skip
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def end(patterns: list[str]) -> None:
    """Stop all units whose names match one of these patterns."""
    call(["systemctl", "stop", *patterns], check=False)
    call(["systemctl", "reset-failed", *patterns], check=False)
