"""Verbs of the helper that make other clusters of databases, or files of them, or remove them.

Each verb loads the modules that it needs, since each request is a process of its own.
"""

import socket
from typing import Any

from gatling.platform.server.helper import machine


def database_dump(
    request: dict[str, Any], files: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Write a dump of a database to the client's file."""
    from gatling.platform.server.helper import dumps

    return dumps.make(request, machine.call, files, connection)


def database_load(
    request: dict[str, Any], files: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Restore a dump into a new cluster."""
    from gatling.platform.server.helper import dumps

    return dumps.load(request, machine.call, files, connection)


def database_fork(
    request: dict[str, Any], files: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Fork a cluster into a new one."""
    from gatling.platform.server.helper import forks

    return forks.make(request, machine.SERVER / "apps", machine.call, files, connection)


def database_keep(request: dict[str, Any]) -> dict[str, Any]:
    """Write a last copy of a database."""
    from gatling.platform.server.helper import last_copies

    return last_copies.keep(request)


def database_keep_former(request: dict[str, Any]) -> dict[str, Any]:
    """Write a last copy of a cluster that is stopped."""
    from gatling.platform.server.helper import last_copies

    return last_copies.keep_former(request, machine.call)


def database_remove(request: dict[str, Any]) -> dict[str, Any]:
    """Remove a cluster."""
    from gatling.platform.server.helper import last_copies

    return last_copies.remove(request, machine.call)


def database_own(request: dict[str, Any]) -> dict[str, Any]:
    """Take a fork for a database like others."""
    from gatling.platform.server.helper import forks

    return forks.own(request)


def database_upgrade(
    request: dict[str, Any], files: list[int], connection: socket.socket
) -> dict[str, Any]:
    """Upgrade a cluster, or rehearse that."""
    from gatling.platform.server.helper import upgrades

    return upgrades.upgrade(request, machine.call, files, connection)


def database_retire(request: dict[str, Any]) -> dict[str, Any]:
    """Stop a cluster that another one replaces."""
    from gatling.platform.server.helper import upgrades

    return upgrades.retire(request, machine.call)


def database_analyze(request: dict[str, Any]) -> dict[str, Any]:
    """Have a cluster gather statistics."""
    from gatling.platform.server.helper import upgrades

    return upgrades.analyze(request)


def pool(request: dict[str, Any]) -> dict[str, Any]:
    """Have the pool of an app run."""
    from gatling.platform.server.helper import pools

    return pools.configure(request)


def pool_remove(request: dict[str, Any]) -> dict[str, Any]:
    """Remove the pool of an app."""
    from gatling.platform.server.helper import pools

    return pools.remove(request)


def pool_install(
    request: dict[str, Any],  # noqa: ARG001
    files: list[int],
    connection: socket.socket,
) -> dict[str, Any]:
    """Install PgBouncer."""
    from gatling.platform.server.helper import pools

    return pools.install(files, connection)


def database_volume(request: dict[str, Any]) -> dict[str, Any]:
    """Show the volume of databases, create it, or make it larger."""
    from gatling.platform.server.helper import volumes

    return volumes.handle(request)


def database_volume_install(
    request: dict[str, Any],  # noqa: ARG001
    files: list[int],
    connection: socket.socket,
) -> dict[str, Any]:
    """Install xfsprogs."""
    from gatling.platform.server.helper import database_packages

    return database_packages.install_package("xfsprogs", files, connection)


PLAIN = {
    "database-keep": database_keep,
    "database-keep-former": database_keep_former,
    "database-remove": database_remove,
    "database-own": database_own,
    "database-retire": database_retire,
    "database-analyze": database_analyze,
    "database-volume": database_volume,
    "pool": pool,
    "pool-remove": pool_remove,
}
ATTENDED = {
    "database-dump": database_dump,
    "database-load": database_load,
    "database-fork": database_fork,
    "database-upgrade": database_upgrade,
    "pool-install": pool_install,
    "database-volume-install": database_volume_install,
}
