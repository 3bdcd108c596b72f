"""Libraries of the system that were replaced while programs use them."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

NEEDRESTART = Path("/etc/needrestart/conf.d/gatling.conf")
NEEDRESTART_TEXT = """\
# Written by Gatling. A restart by needrestart(1) would cut all connections of an app, and end
# builds and deployments. `gatling restart APP` replaces the instances one after the other.
# `gatling server check` lists the apps that use libraries of before an upgrade.
$nrconf{override_rc}{qr(^gatling)} = 0;
"""
SYSTEM = "/usr/lib/"
_REPLACED = re.compile(r" (/\S+\.so\S*) \(deleted\)$", re.MULTILINE)
"""A mapping of a library whose file is gone: proc_pid_maps(5)."""


def replaced(uid: int, within: str = SYSTEM) -> list[str]:
    """The names of libraries in a directory that a user's programs use, and that were replaced.

    Only root sees those of other users.
    """
    found: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if process.stat().st_uid == uid:
                paths = _REPLACED.findall((process / "maps").read_text())
                found |= {Path(path).name for path in paths if path.startswith(within)}
    return sorted(found)
