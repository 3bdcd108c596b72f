"""Toolchains that root keeps for the builds of all apps, in /opt/gatling-toolchains.

Strangers' archives are downloaded and unpacked by a user who owns nothing, in a sandbox that can
write in one new directory. Root copies from there: files, directories and links that stay inside,
without their owners and modes. Nothing of them is run by root.
"""

import os
import pwd
import select
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

from gatling.errors import BuildFailed, DiskFull, InvalidInput
from gatling.paths import SERVER
from gatling.platform.programs import INSTALLED_TOOLCHAINS
from gatling.platform.server import units
from gatling.platform.server.helper import running
from gatling.platform.server.helper.shapes import Refused, text
from gatling.platform.toolchains import order as orders
from gatling.platform.toolchains import store
from gatling.releases import safe_copy

FETCH = Path(store.__file__).with_name("fetch.py")
UNIT = "gatling-toolchain.service"
MAX_ORDER = 65536


def properties(made: Path) -> list[str]:
    """The sandbox of the program that gets a toolchain: it writes in the directory `made` only."""
    return [
        f"User={units.PLACEHOLDER}",
        f"Group={units.PLACEHOLDER}",
        *units.HARDENED,
        f"TemporaryFileSystem={SERVER}:ro,mode=755 /dev/shm:mode=1777,nosuid,nodev",
        f"ReadWritePaths={made}",
        f"InaccessiblePaths=-{units.RUN} -/run/dbus -/run/lock",
        "MemoryMax=1G",
        "TasksMax=64",
        "LimitFSIZE=2G",
        "Nice=10",
        "TimeoutStopSec=5",
        f"RuntimeMaxSec={store.INSTALL_SECONDS:.0f}",
    ]


def install(request: dict[str, Any], files: list[int], connection: socket.socket) -> dict[str, Any]:
    """Install the toolchain that an order describes; its name, and how the program ended.

    Raises InvalidInput for what was downloaded or copied and cannot be a toolchain.
    """
    said = request.get("order")
    if not isinstance(said, str) or len(said) > MAX_ORDER:
        raise Refused("order is not a text")
    try:
        return _install(orders.order(said), files, connection)
    except (BuildFailed, DiskFull) as error:  # of the copy; the person can do something about them
        raise InvalidInput(f"The toolchain was not installed. {error.what}") from None


def _install(order: orders.Order, files: list[int], connection: socket.socket) -> dict[str, Any]:
    user = pwd.getpwnam(units.PLACEHOLDER)

    def gave_up(seconds: float) -> bool:
        return bool(select.select([connection], [], [], seconds)[0])  # a byte, or the end

    with store.workshop(INSTALLED_TOOLCHAINS, gave_up, _stop) as work:
        work.chmod(0o711)
        made = work / "made"
        made.mkdir(mode=0o700)
        os.chown(made, user.pw_uid, user.pw_gid)
        described = {
            "argv": ["/usr/bin/python3", "-I", "-S", str(FETCH), str(made), order.json()],
            "cwd": "/",
            "env": {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent"},
        }
        answer = running.run(
            UNIT, properties(made), described, files, connection, on_gone=running.STOP
        )
        if answer["status"] == 0 and _is_directory(made / "tree"):
            safe_copy.copy(made / "tree", work / "copy", None)
            answer["name"] = store.adopt(work / "copy", INSTALLED_TOOLCHAINS, order).name
    return answer


def _stop() -> None:
    """End the program of a helper that was killed: it would write into what is removed now.

    systemd starts no other one while it remembers that the last one failed.
    """
    for verb in ("stop", "reset-failed"):
        subprocess.run(["systemctl", verb, UNIT], check=False, capture_output=True,
                       stdin=subprocess.DEVNULL)  # fmt: skip


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def remove(request: dict[str, Any]) -> dict[str, Any]:
    """Remove a toolchain; raises NotFound."""
    store.remove(INSTALLED_TOOLCHAINS, text(request, "toolchain"))
    return {}
