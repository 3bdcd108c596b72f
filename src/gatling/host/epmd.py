"""Erlang's port mapper on a host: Debian starts it, and no node that Gatling runs needs it.

epmd(1).

It listens on all addresses and gives everybody the names and ports of the nodes that it knows.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from gatling import process
from gatling.platform.server import firewall, units

if TYPE_CHECKING:
    from collections.abc import Sequence

UNITS = ("epmd.socket", "epmd.service")


def is_idle() -> bool:
    """Whether systemd offers an epmd, and nobody has registered a node there."""
    return is_offered() and not users()


def is_offered() -> bool:
    """Whether systemd starts an epmd when somebody asks for one, or has started one."""
    return any(_says("is-active", unit) == "active" for unit in UNITS) or (
        _says("is-enabled", UNITS[0]) == "enabled"
    )


def users() -> list[str]:
    """The programs of others that are connected to it, as each registered node is."""
    import psutil

    found = set()
    for one in psutil.net_connections(kind="tcp"):
        if one.status == "ESTABLISHED" and one.raddr and one.raddr.port == firewall.EPMD:
            with contextlib.suppress(psutil.Error, TypeError):
                program = psutil.Process(one.pid)
                if not program.username().startswith(f"{units.OWNER}-"):
                    found.add(f"{program.name()} (pid {program.pid})")
    return sorted(found)


def comes_with(packages: Sequence[str]) -> bool:
    """Whether one of these Debian packages brings it, enabled."""
    return any(name == "elixir" or name.startswith("erlang") for name in packages)


def is_installed() -> bool:
    """Whether the program is there."""
    return shutil.which("epmd") is not None


def disable() -> None:
    """Stop it, also at the next boot."""
    process.run(["systemctl", "disable", "--quiet", "--now", *UNITS], timeout=60, check=False)


def _says(verb: str, unit: str) -> str:
    done = process.run(["systemctl", verb, unit], timeout=30, check=False)
    return done.tail[-1].strip() if done.tail else ""
