"""Whether what a user's command has started ends when the user logs out. logind.conf(5).

systemd's logind may stop everything of a session that ends, and it stops a user's own systemd with
all of its units after the last session, unless the user lingers. Other machines end nothing.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import process
from gatling.errors import GatlingError

if TYPE_CHECKING:
    from collections.abc import Sequence

LINGER = Path("/var/lib/systemd/linger")
"""Has an empty file for each user who lingers."""
_PROPERTIES = ("KillUserProcesses", "KillOnlyUsers", "KillExcludeUsers")
_MANAGER = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")


class Login(Struct, frozen=True):
    """The settings by which logind treats the OS processes of one user at logout."""

    user: str
    lingers: bool
    """Whether the user's own systemd runs also while the user is not logged in."""
    kills: bool
    """Whether a session that ends takes its processes with it."""

    def ends(self, cgroup: str) -> bool:
        """Whether a process with this /proc/PID/cgroup ends when its user logs out."""
        unit = _unit(cgroup)
        if unit.startswith("session-"):
            return self.kills
        return unit.startswith("user@") and not self.lingers


def of_this_user() -> Login:
    """Return logind's settings for the user who runs this program."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    return Login(user, (LINGER / user).exists(), kills(_settings(), user))


def advice(pid: int) -> str | None:
    """Return advice for a user whose OS process should outlive the session; None: no advice."""
    cgroup = _cgroup(pid)
    if not _unit(cgroup):  # most machines where nobody logs in: no program is asked
        return None
    login = of_this_user()
    if not login.ends(cgroup):
        return None
    if login.lingers:  # it was started before the user did
        return "The apps stop when you log out. `gatling down` and `gatling up` change that."
    again = ", then `gatling down` and `gatling up`" if _unit(cgroup).startswith("session-") else ""
    return (
        f"The apps stop when {login.user} logs out. To keep them running:"
        f" `loginctl enable-linger {login.user}`{again}."
    )


def outliving(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """A command, and what it needs in its environment, to start a program that outlives a session.

    That is the program itself, unless the session would take it along and the user lingers. Then
    it is put under the user's own systemd.
    """
    cgroup = _cgroup(os.getpid())
    if not _unit(cgroup).startswith("session-"):
        return list(argv), {}
    login = of_this_user()
    if not login.ends(cgroup) or not login.lingers:
        return list(argv), {}
    scope = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--", *argv]
    return scope, {"XDG_RUNTIME_DIR": f"/run/user/{os.geteuid()}"}


def kills(settings: str, user: str) -> bool:
    """Whether the properties of logind, as busctl prints them, end a user's sessions whole."""
    lines = [shlex.split(line)[1:] for line in settings.splitlines() if line.strip()]
    if len(lines) != len(_PROPERTIES):
        return False
    every, only, excluded = lines[0] == ["true"], lines[1][1:], lines[2][1:]
    return every and user not in excluded and (not only or user in only)


def _settings() -> str:
    """The properties, a line each; "" where no logind answers."""
    try:
        return process.output(["busctl", "get-property", *_MANAGER, *_PROPERTIES])
    except GatlingError:
        return ""


def _cgroup(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


def _unit(cgroup: str) -> str:
    """`session-3.scope` or `user@1000.service`, where a process is in one of them; or ""."""
    found = re.search(
        r"^\d+:(?:name=systemd)?:/user\.slice/user-\d+\.slice/(session-[^/\n]+|user@[^/\n]+)",
        cgroup,
        re.MULTILINE,
    )
    return found[1] if found else ""
