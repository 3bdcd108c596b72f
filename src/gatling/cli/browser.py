"""A browser for the person at this machine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from gatling import process

SECONDS = 3.0
"""How long a browser's starter has to report that it failed."""


def show(url: str) -> bool:
    """Open a URL in the person's browser; False where there is none, as over SSH."""
    starter = _starter()
    if not starter:
        return False
    with Path(os.devnull).open("r+b") as nothing:
        started = process.start(
            [*starter, url], cwd=Path("/"), env=os.environ, stdin=nothing.fileno(),
            output=nothing.fileno(),
        )  # fmt: skip
    try:
        return started.wait(SECONDS) == 0
    except subprocess.TimeoutExpired:  # the browser itself, which stays
        return True


def _starter() -> list[str]:
    """The program that opens a URL: $BROWSER, or the desktop's own."""
    if "GATLING_ROLE" in os.environ or "SSH_CONNECTION" in os.environ:
        return []  # the browser would be on the machine at the other end
    named = shlex.split(os.environ.get("BROWSER", ""))
    if named:
        return named if shutil.which(named[0]) else []
    if sys.platform == "darwin":
        return ["open"]
    has_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return ["xdg-open"] if has_screen and shutil.which("xdg-open") else []
