"""Taking Gatling off a machine, as root. Nothing that Gatling did not write is removed."""

from __future__ import annotations

import contextlib
import pwd
import shutil
import sys
from typing import TYPE_CHECKING

from gatling.host import libraries, webserver
from gatling.host.changes import TIMERS
from gatling.host.machine import COMMAND, ETC, MANUAL, UNITS, clean_environment, has_user, run
from gatling.host.system_files import FORMER, HELPER, SOCKETS, system_files
from gatling.paths import SERVER
from gatling.platform.programs import INSTALLED_TOOLCHAINS
from gatling.platform.server import cluster_units, obtaining, pool_units, sampling, timers, units
from gatling.platform.server.helper import firewall, namespaces, nginx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def uninstall(say: Callable[[str], None], *, purge: bool) -> None:
    """Stop all apps and remove what Gatling wrote; with `purge` also apps, users and data.

    Databases stay, and go on as clusters of postgresql-common, also with `purge`.
    Raises InvalidInput, with nothing changed, when nginx would not start without Gatling.
    """
    webserver.check_removal(clean_environment())
    run(
        ["systemctl", "disable", "--now", *TIMERS, "gatling-recover.service", sampling.SERVICE],
        check=False,
    )
    run(["systemctl", "stop", timers.TIMERS, obtaining.LATER], check=False)
    run(["systemctl", "disable", "--now", *SOCKETS, units.FENCE], check=False)
    run(["systemctl", "kill", "--kill-whom=all", HELPER], check=False)  # with its requests
    run(["systemctl", "stop", "gatling@*.service", "gatling-*.service"], check=False)
    for entry in (*UNITS.glob("gatling@*.service.d"), *UNITS.glob("gatling-*.service.d")):
        shutil.rmtree(entry)
    for link in (*UNITS.glob("*.wants/gatling@*.service"), *UNITS.glob(f"*.wants/{timers.TIMERS}")):
        link.unlink()
    for file in UNITS.glob(timers.TIMERS):
        file.unlink()
    _remove_pools()
    namespaces.remove_all(UNITS, run)
    shutil.rmtree(units.INSTANCES, ignore_errors=True)
    for file in (*system_files(), *FORMER, firewall.FILE, COMMAND, MANUAL):
        if file.exists() or file.is_symlink():
            say(f"remove {file}")
            unlink(file)
    webserver.remove()
    run(["systemctl", "daemon-reload"])
    _unmount_runtime_directory()
    # what did not end in time is there as failed otherwise
    run(["systemctl", "reset-failed", "gatling@*.service", "gatling-*.service"], check=False)
    run(["systemctl", "reload", "nginx.service"], check=False)
    run(["systemctl", "reload", "ssh.service"], check=False)
    _report_databases(say)
    if not purge:
        if has_user():  # its keys are kept, and let nobody in
            run(["usermod", "--shell", "/usr/sbin/nologin", units.OWNER])
        say(f"kept: {SERVER}, {ETC}, the users {units.OWNER} and {units.OWNER}-*")
        if any(INSTALLED_TOOLCHAINS.glob("[!.]*")):
            say(f"kept: {INSTALLED_TOOLCHAINS}")
        say(f"Gatling itself stays in {sys.prefix}: remove that, or install again from there.")
        return
    for file in nginx.LOG.parent.glob(f"{nginx.LOG.name}*"):
        say(f"remove {file}")
        file.unlink()
    for user in [u for u in pwd.getpwall() if u.pw_gecos.startswith("Gatling app ")]:
        say(f"remove the user {user.pw_name}")
        run(["userdel", user.pw_name], check=False)
    for directory in (
        *_home(),
        ETC,
        nginx.DIRECTORY,
        INSTALLED_TOOLCHAINS,
        *namespaces.journals(),
    ):
        say(f"remove {directory}")
        shutil.rmtree(directory, ignore_errors=True)
    for name in filter(has_user, (units.OWNER, units.PLACEHOLDER)):
        say(f"remove the user {name}")
        run(["loginctl", "terminate-user", name], check=False)  # who is there over SSH
        run(["userdel", "--force", name], check=False)


def _unmount_runtime_directory() -> None:
    """Unmount /run/user/UID, which has been kept for SSH commands (units.KEPT_DIRECTORY)."""
    if has_user():
        uid = pwd.getpwnam(units.OWNER).pw_uid
        run(["systemctl", "stop", f"user-runtime-dir@{uid}.service"], check=False)


def _remove_pools() -> None:
    """Remove the pools of connections of apps, which have been stopped."""
    for file in (*UNITS.glob(f"*.wants/{pool_units.UNITS}"), *UNITS.glob(pool_units.UNITS)):
        file.unlink()
    for directory in (pool_units.CONFIGURATIONS, pool_units.SOCKETS):
        shutil.rmtree(directory, ignore_errors=True)


def _report_databases(say: Callable[[str], None]) -> None:
    for cluster in sorted(cluster_units.CLUSTERS.glob("*/gatling.*")):
        say(f"kept: {cluster} (pg_lsclusters lists it; pg_dropcluster removes it with its data)")
    if any(cluster_units.DATABASES.glob("*.dump")):
        say(f"kept: {cluster_units.DATABASES} (last copies of databases)")
    if cluster_units.BACKUPS.is_dir():
        say(f"kept: {cluster_units.BACKUPS} (backups of databases, of pgBackRest)")


def _home() -> list[Path]:
    """The directories that a removal of all data removes: not the last copies of databases."""
    if any(cluster_units.DATABASES.glob("*.dump")):
        return [entry for entry in SERVER.iterdir() if entry != cluster_units.DATABASES]
    return [SERVER]


def unlink(file: Path) -> None:
    """Remove a file, and its directories if those were made for it alone."""
    file.unlink()
    alone = [file.parent] if file.parent.parent == UNITS and file.parent.suffix == ".d" else []
    if file in (libraries.NEEDRESTART, libraries.RESTART_NGINX):
        alone = [file.parent, file.parent.parent]
    with contextlib.suppress(OSError):  # the operator, or a package, has something there
        for directory in alone:
            directory.rmdir()
