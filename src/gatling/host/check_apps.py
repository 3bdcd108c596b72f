"""Checks of the apps: files, users, ports, certificates, databases, notifications, log drains."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from gatling import times
from gatling.errors import InvalidInput
from gatling.host import clusters, expiry, libraries, machine, reach
from gatling.host.findings import Finding, read, records, says
from gatling.operations import timeline
from gatling.paths import SERVER
from gatling.platform import ports
from gatling.platform.server import pool_units, timers, units
from gatling.platform.server.helper import certificates
from gatling.platform.server.helper.apps import LAYOUT
from gatling.platform.server.home import ServerHome
from gatling.platform.server.router import SystemRouter
from gatling.project import settings
from gatling.runtime import jobs
from gatling.state import backups, config, databases, drains, forks, issuance, notices, samples
from gatling.text import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.state.apps import App
    from gatling.state.issuance import Issuance

ENDING_SECONDS = 2.0
"""How long a process that ends may be seen without its owner."""
MANY_FAILURES = 3
"""Attempts in a row from which on a channel fails, rather than stumbles."""


def every_app(server: Path = SERVER) -> Iterator[Finding]:
    """Whether each app has all of its files and users, and runs if it should."""
    for app in records(server):
        faults = [*_user(app), *_directories(app, server), *_drop_ins(app, server),
                  *_running(app, server), *_timers(app), *_pool(app, server)]  # fmt: skip
        for what, hint in faults:
            yield Finding(f"app {app.name}", False, what, hint)
        if not faults:
            state = "runs" if app.live_release and app.wanted == "running" else "stopped"
            yield Finding(f"app {app.name}", True, f"{state}{_stale(app)}")


def _stale(app: App) -> str:
    """The libraries that an app uses as they were before an upgrade of their packages, in words."""
    found = []
    with contextlib.suppress(KeyError):
        uid = pwd.getpwnam(units.user(app.name)).pw_uid
        for names, hint in (
            (libraries.replaced(uid), f"gatling restart {app.name}"),
            (libraries.replaced(uid, pooler=True),
             f"systemctl restart {pool_units.unit(app.name)}"),
        ):  # fmt: skip
            if names:
                found.append(f" with libraries of before an upgrade ({listed(names)}): `{hint}`")
    return ",".join(found)


def app_ports(server: Path = SERVER) -> Iterator[Finding]:
    """Whether anybody but an app listens on the app's ports."""
    if os.geteuid() != 0:
        raise PermissionError  # others do not see whose a port is
    # a process that is just ending, as after a deployment, seems to be nobody's
    strangers: list[tuple[App, int]] = []
    for _ in times.looks(ENDING_SECONDS, 0.2):
        strangers = _strangers(server)
        if not strangers:
            break
    for app, port in strangers:
        yield Finding("ports", False, f"{ports.owner(port)} listens on port {port}, which"
                      f" is {app.name}'s.", "Stop it.")  # fmt: skip
    if not strangers:
        yield Finding("ports", True, "nothing else listens on the ports of the apps")


def _strangers(server: Path) -> list[tuple[App, int]]:
    """The ports of apps on which somebody else listens now."""
    import psutil

    listening: dict[int, int | None] = {}
    for one in psutil.net_connections(kind="tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr:
            listening.setdefault(one.laddr.port, one.pid)
    return [
        (app, port) for app in records(server)
        for port in (*app.ports.values(), *app.node_ports.values())
        if port in listening and not _is_of(listening[port], units.user(app.name))
    ]  # fmt: skip


def reachable(server: Path = SERVER) -> Iterator[Finding]:
    """Whether anybody but the proxy, Gatling and the app itself reaches an app; tried as nobody."""
    if os.geteuid() != 0:
        raise PermissionError
    every = records(server)
    found = list(reach.faults(every))
    for what, hint in found:
        yield Finding("network", False, what, hint)
    if not found:
        yield Finding(
            "network", True, "apps and nodes are closed to the network and to other users"
        )
    for what in reach.others(every):
        yield Finding("network", True, what)


def certificates_of_apps(server: Path = SERVER) -> Iterator[Finding]:
    """Whether a certificate that serves has expired, or will soon."""
    every = records(server)
    found = [*expiry.faults(every, certificates.DIRECTORY, time.time()),
             *expiry.failures(_issuances(server, every))]  # fmt: skip
    for what, hint in found:
        yield Finding("certificates", False, what, hint)
    if not found:
        yield Finding("certificates", True, "none expires soon")


def http3_of_apps(server: Path = SERVER) -> Iterator[Finding]:
    """Whether nginx serves HTTP/3 where an app's settings request it."""
    wanted = [app.name for app in records(server) if settings.parse(app.effective).proxy.http3]
    if not wanted:
        return
    try:
        SystemRouter(ServerHome(server / "home")).need_http3(applied=True)
    except InvalidInput as error:  # no fault: one gatling.toml may be for many servers
        what = f"{listed(wanted)}: proxy.http3 is not applied. {error.what} {error.hint}"
        yield Finding("http3", True, what)
    else:
        yield Finding("http3", True, f"nginx serves {listed(wanted)} over HTTP/3 as well")


def databases_of_apps(server: Path = SERVER) -> Iterator[Finding]:
    """Whether the databases of apps are complete, and run."""
    every, attempts = read(server, databases.every), read(server, backups.every)
    late = clusters.late(every, attempts, read(server, backups.plans), time.time())
    found = [*clusters.faults(every), *clusters.unproved(every, attempts), *late]
    if os.geteuid() == 0:  # others may not ask a database
        found += clusters.weak(every)
    for what, hint in found:
        yield Finding("databases", False, what, hint)
    if not found:
        yield Finding("databases", True, f"{counted(len(every), 'database')}, none fails")
    forked = {one.database for one in read(server, forks.every)}
    if bare := [name for name in clusters.without(every, attempts) if name not in forked]:
        yield Finding("databases", True, f"no proved backup: {', '.join(bare)}")


def notifications(server: Path = SERVER) -> Iterator[Finding]:
    """Whether the channels accept notifications."""
    every = [(one.failures, f"channel {one.name}: {one.error}", f"gatling notify test {one.name}")
             for one in read(server, notices.every)]  # fmt: skip
    return _refusals("notifications", "channel", every)


def log_drains(server: Path = SERVER) -> Iterator[Finding]:
    """Whether the receivers of logs accept them."""
    every = [(one.failures, f"drain {one.id} of {one.app}: {one.error}",
              f"gatling drains list {one.app}") for one in read(server, drains.every)]  # fmt: skip
    return _refusals("drains", "drain", every)


def watch(server: Path = SERVER) -> Iterator[Finding]:
    """Whether samples are taken where they are wanted."""
    if read(server, lambda db: notices.condition(db, timeline.WATCHED)) != "on":
        yield Finding("watch", True, "off")
        return
    files = (samples.FILE, f"{samples.FILE}-wal")
    written = [0.0]
    for name in files:
        with contextlib.suppress(FileNotFoundError):
            written.append((server / "home" / name).stat().st_mtime)
    age = time.time() - max(written)
    fresh = age < 2 * timeline.STALE_SECONDS
    yield Finding("watch", fresh, "on" if fresh else "It is on, but takes no samples.",
                  "`journalctl -u gatling-sampler` says why.")  # fmt: skip


def _refusals(name: str, kind: str, every: list[tuple[int, str, str]]) -> Iterator[Finding]:
    """Report the receivers that have refused often in a row: failures, a description, a hint."""
    failing = [(what, hint) for failures, what, hint in every if failures >= MANY_FAILURES]
    for what, hint in failing:
        yield Finding(name, False, what, hint)
    if not failing:
        yield Finding(name, True, f"{counted(len(every), kind)}, none fails")


def _issuances(server: Path, every: list[App]) -> list[Issuance]:
    return read(server, lambda db: [issuance.of_app(db, app.name) for app in every])


def _user(app: App) -> Iterator[tuple[str, str]]:
    user = units.user(app.name)
    try:
        if pwd.getpwnam(user).pw_gecos != f"Gatling app {app.name}":
            yield f"The user {user} is not Gatling's.", "Rename that user."
    except KeyError:
        yield f"There is no user {user}.", _anew(app)


def _directories(app: App, server: Path) -> Iterator[tuple[str, str]]:
    for entry, whose, mode in LAYOUT:
        path = server / "apps" / app.name / entry
        user = units.user(app.name) if whose == "app" else units.OWNER
        try:
            info = path.lstat()
            right = stat.S_ISDIR(info.st_mode) and stat.S_IMODE(info.st_mode) == mode
            if not right or info.st_uid != pwd.getpwnam(user).pw_uid:
                yield (f"{path} is not {user}'s directory with mode {mode:o}.",
                       f"`chown {user} {path}`, `chmod {mode:o} {path}`")  # fmt: skip
        except FileNotFoundError:
            yield f"{path} is missing.", "Restore it from a backup, or push the app again."
        except KeyError:
            pass  # reported above


def _drop_ins(app: App, server: Path) -> Iterator[tuple[str, str]]:
    for slot in ServerHome(server / "home").app(app.name).slots():
        file = machine.UNITS / f"{units.instance(app.name, slot)}.d" / "app.conf"
        if not file.exists():
            yield f"{file} is missing.", _anew(app)


def _running(app: App, server: Path) -> Iterator[tuple[str, str]]:
    if app.live_release is None or app.live_slot is None or app.wanted == "stopped":
        return
    slots: list[int | str] = [
        app.live_slot,
        *ServerHome(server / "home").app(app.name).process_slots(),
    ]
    for slot in slots:
        unit = units.instance(app.name, slot)
        state = says("systemctl", "is-active", unit)
        if state != "active":
            yield f"{unit} is {state}.", f"`gatling logs {app.name}`; `gatling start {app.name}`"


def _timers(app: App) -> Iterator[tuple[str, str]]:
    for name in jobs.scheduled(app):
        unit = timers.timer(app.name, name)
        state = says("systemctl", "is-active", unit)
        if state != "active":
            yield f"{unit} is {state}.", _anew(app)


def _pool(app: App, server: Path) -> Iterator[tuple[str, str]]:
    """The pool of connections, if the app has one or its config names one."""
    place = f"socket_dir={quote(str(pool_units.sockets(app.name)))}"
    named = read(server, lambda db: config.of_app(db, app.name)).values()
    if pool_units.configuration(app.name).exists() or any(place in value for value in named):
        unit = pool_units.unit(app.name)
        state = says("systemctl", "is-active", unit)
        if state != "active":
            yield f"{unit} is {state}.", f"`journalctl -u {unit}`; {_anew(app)}"


def _anew(app: App) -> str:
    return f"As root, run `gatling recover --units` to create what {app.name} lacks."


def _is_of(pid: int | None, user: str) -> bool:
    try:
        return Path(f"/proc/{pid}").stat().st_uid == pwd.getpwnam(user).pw_uid
    except (OSError, KeyError):
        return False
