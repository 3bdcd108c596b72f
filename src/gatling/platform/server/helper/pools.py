"""The pools of connections of apps: PgBouncer in a unit of its own, as the app's user."""

import socket
import subprocess
from pathlib import Path
from typing import Any

from gatling import files, names
from gatling.errors import InvalidInput
from gatling.platform.postgres import pooler
from gatling.platform.server import cluster_units, pool_units, units
from gatling.platform.server.helper import database_packages as packages
from gatling.platform.server.helper import machine, unit_files
from gatling.platform.server.helper.shapes import Refused, number, text

MAX_DATABASES = 64
# masked, so that the package does not start its service; afterwards it is not enabled
WITHOUT_SERVICE = (
    f"systemctl mask -q {pool_units.OWN_SERVICE} && (({packages.INSTALL} {pooler.PACKAGE})"
    f" && systemctl unmask -q {pool_units.OWN_SERVICE}"
    f" && systemctl disable -q {pool_units.OWN_SERVICE}"
    f" || (systemctl unmask -q {pool_units.OWN_SERVICE} && false))"
)


def install(given: list[int], connection: socket.socket) -> dict[str, Any]:
    """Install PgBouncer from the distribution, unless it is there; how apt-get ended."""
    script = "true" if pool_units.PROGRAM.exists() else WITHOUT_SERVICE
    return packages.install_by(script, given, connection)


def configure(request: dict[str, Any]) -> dict[str, Any]:
    """Have the pool of an app run, with these databases."""
    app, databases = names.app_name(text(request, "app")), _databases(request)
    size = number(request, "size", 1, pooler.MOST)
    if type(size) is not int:
        raise Refused("size is not a number")
    if not (machine.SERVER / "apps" / app).is_dir():
        raise Refused("there is no such app")
    if not pool_units.PROGRAM.exists():
        raise InvalidInput(
            "PgBouncer is not installed on this server.",
            hint=f"As an admin: `gatling db pool {app}`.",
        )
    found = subprocess.run(
        [pool_units.PROGRAM, "--version"], check=True, capture_output=True, text=True
    ).stdout
    wanted = pooler.configuration(
        units.user(app), str(pool_units.sockets(app)),
        {one: str(cluster_units.SOCKETS / one) for one in databases}, size,
        prepared=(pooler.version(found) or (0, 0)) >= pooler.PREPARED,
    )  # fmt: skip
    unit, file = pool_units.unit(app), pool_units.configuration(app)
    pool_units.CONFIGURATIONS.mkdir(mode=0o755, exist_ok=True)
    with files.locked(pool_units.CONFIGURATIONS / f".{app}.lock"):
        if not file.exists() or file.read_text() != wanted:
            files.write(file, wanted, mode=0o644)
        with unit_files.writing(machine.call) as written:
            written.write(machine.UNITS / unit, pool_units.service(app))
            written.link(_at_boot(unit), machine.UNITS / unit)
        # always: a helper may have been killed after it wrote
        machine.call(["systemctl", "reload-or-restart", unit])
    return {}


def remove(request: dict[str, Any]) -> dict[str, Any]:
    """Stop and remove the pool of an app."""
    drop(names.app_name(text(request, "app")))
    return {}


def drop(app: str) -> None:
    """Remove the pool of an app, if there is one."""
    unit = pool_units.unit(app)
    ours = (_at_boot(unit), machine.UNITS / unit, pool_units.configuration(app))
    if not any(path.is_symlink() or path.exists() for path in ours):
        return
    with files.locked(pool_units.CONFIGURATIONS / f".{app}.lock"):
        machine.end([unit])
        with unit_files.writing(machine.call) as written:
            written.remove(*ours[:2])
        ours[2].unlink(missing_ok=True)


def _databases(request: dict[str, Any]) -> list[str]:
    given = request.get("databases")
    if not isinstance(given, list) or not 0 < len(given) <= MAX_DATABASES:
        raise Refused("databases is not a short list")
    if not all(isinstance(one, str) for one in given):
        raise Refused("databases: names")
    return [names.app_name(one) for one in given]


def _at_boot(unit: str) -> Path:
    return machine.UNITS / "multi-user.target.wants" / unit
