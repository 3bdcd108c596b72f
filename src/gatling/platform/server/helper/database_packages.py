"""The packages of databases: PostgreSQL and pgBackRest, installed by apt-get in a unit."""

import socket
import subprocess
from pathlib import Path
from typing import Any

from gatling import files, times
from gatling.platform.postgres.clusters import version
from gatling.platform.server import cluster_units as places
from gatling.platform.server.helper import running
from gatling.platform.server.helper.shapes import Refused, text

NO_MAIN = Path("/etc/postgresql-common/createcluster.d/gatling.conf")
"""Keeps Debian's packages, while they are installed, from making a cluster of their own."""
INSTALLING = "gatling-database-install.service"
INSTALL_SECONDS = 1800
INSTALL = (
    "dpkg --configure -a && (apt-get update -qq || true) && apt-get install -y -qq"
    " --no-install-recommends -o DPkg::Lock::Timeout=300 postgresql-common"
)
"""systemd expands `$`, and takes `;` for the end of a command."""


def install(request: dict[str, Any], given: list[int], connection: socket.socket) -> dict[str, Any]:
    """Install PostgreSQL from the distribution; how apt-get ended.

    It runs in a unit of its own, so that nothing that happens to the client stops it half-way.
    """
    said = text(request, "version")
    package = f"postgresql-{version(said)}" if said else "postgresql"  # nothing for a shell in it
    return install_package(package, given, connection)


def install_package(package: str, given: list[int], connection: socket.socket) -> dict[str, Any]:
    """Install a package by one of the names that Gatling has; how apt-get ended."""
    return install_by(f"{INSTALL} {package}", given, connection)


def install_by(script: str, given: list[int], connection: socket.socket) -> dict[str, Any]:
    """Run a shell script of Gatling that installs packages; return how it ended."""
    if not any(not _is_installing() for _ in times.looks(INSTALL_SECONDS, 0.5)):
        raise Refused("another installation does not end")
    if not any(places.PROGRAMS.glob("*/bin/postgres")):
        NO_MAIN.parent.mkdir(parents=True, exist_ok=True)
        files.write(NO_MAIN, "create_main_cluster = false\n", mode=0o644)
    argv = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--unit={INSTALLING}",
            "--setenv=DEBIAN_FRONTEND=noninteractive", "--setenv=LC_ALL=C",
            "--setenv=PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "/bin/sh", "-c", script]  # fmt: skip
    try:
        return running.attend(argv, given, connection, on_gone=running.STOP)
    finally:
        tidy()


def tidy() -> None:
    """Let Debian's packages make clusters of their own again, unless some are being installed."""
    if not _is_installing():
        NO_MAIN.unlink(missing_ok=True)


def _is_installing() -> bool:
    done = subprocess.run(["systemctl", "is-active", "--quiet", INSTALLING], check=False)
    return done.returncode == 0
