"""Find the faults of this host, and how to fix them: `gatling server check`.

Each check is a function that yields findings, and none of them changes anything. One that breaks is
a finding itself; one that this user cannot make is left out, and named at the end. Best as root.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gatling import process
from gatling.errors import GatlingError, HelperFailed
from gatling.host import changes, clusters, debian, expiry, machine, reach, system_files, webserver
from gatling.host.backup import acting_as
from gatling.paths import SERVER
from gatling.platform import ports
from gatling.platform.server import timers, units
from gatling.platform.server.helper import certificates, client, service
from gatling.platform.server.home import ServerHome
from gatling.runtime import jobs
from gatling.state import apps, databases, drains, issuance, notices
from gatling.state.database import Database
from gatling.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatling.state.apps import App
    from gatling.state.issuance import Issuance

Result = TypeVar("Result")

LEAST_FREE = 10
"""Percent of the disk's space and of its inodes …"""
LEAST_BYTES = 1 << 30
"""… and bytes: a release, and the one in the making."""
LEAST_MEMORY = 448 << 20
"""The memory that Linux leaves of 512 MB, in bytes."""
MANY_FAILURES = 3
"""Attempts in a row from which on a channel fails, rather than stumbles."""
TIME_SERVICES = ("systemd-timesyncd", "chrony", "chronyd", "ntp", "ntpd", "ntpsec", "openntpd")
FORCED = {
    "authenticationmethods": "publickey",
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "authorizedkeysfile": ".ssh/authorized_keys",
    "disableforwarding": "yes",
    "permituserrc": "no",
}
"""The required settings of sshd for the user gatling."""
REINSTALL = "`gatling server install` fixes it."


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check."""

    name: str
    ok: bool
    what: str
    hint: str = ""


Check = Callable[[], Iterable[Finding]]


def check(server: Path = SERVER, checks: Mapping[str, Check] | None = None) -> list[Finding]:
    """All findings; raises nothing."""
    if not (server / "home").is_dir():
        return [Finding("installation", False, "Gatling is not installed on this host.",
                        "`gatling server install`, or bin/install from a clone.")]  # fmt: skip
    found: list[Finding] = []
    unseen: list[str] = []
    for name, make in (CHECKS if checks is None else checks).items():
        try:
            found += make()
        except PermissionError:
            unseen.append(name)
        except GatlingError as error:
            said = " ".join((error.what, *error.log[-3:]))
            found.append(Finding(name, False, said, error.hint or "Fix the cause named above."))
        except Exception as error:  # noqa: BLE001 (the others are still to be made)
            found.append(Finding(name, False, f"This check crashed: {error!r}",
                                 "Please report this defect."))  # fmt: skip
    if unseen:
        what = f"Not checked, because only root can: {', '.join(unseen)}."
        found.append(Finding("rights", True, what))
    return found


def installation() -> Iterator[Finding]:
    """Find what `gatling server install` would change: directories, files, units, packages."""
    missing = [change.what for change in changes.needed(changes.changes())]
    for what in missing:
        yield Finding("installation", False, f"Incomplete: {what}", REINSTALL)
    if not missing:
        yield Finding("installation", True, "packages, users, directories, files and units")


def location(paths: Iterable[Path] | None = None) -> Iterator[Finding]:
    """Whether the code that root's helper runs is root's alone."""
    code = (Path(str(service.__file__)), Path(sys.executable).parent) if paths is None else paths
    for path in code:
        part = machine.exposed(path)
        if part is None:
            yield Finding("location", True, str(path))
        else:
            yield Finding(
                "location", False,
                f"{part} is writable by users other than root, or not readable by all.",
                "Run `chown root` and `chmod go-w,o+rx` on it, or reinstall Gatling.",
            )  # fmt: skip


def systemd() -> Iterator[Finding]:
    """Whether systemd runs this machine, and is new enough."""
    version = machine.systemd_version()
    yield Finding("systemd", version >= machine.OLDEST_SYSTEMD, f"version {version or 'none'}",
                  f"{machine.OLDEST_SYSTEMD} or newer is needed: Debian 12 has it.")  # fmt: skip


def helper(ask: Callable[[str], object] = client.ask) -> Iterator[Finding]:
    """Whether root's helper answers, and refuses what it does not know."""
    if os.geteuid() not in (0, _owner()):
        raise PermissionError
    hint = "`systemctl restart gatling-helper.socket`; `journalctl -u 'gatling-helper@*'`."
    try:
        ask("check")
    except HelperFailed as error:
        refused = error.reason == "unknown-verb"
        yield Finding("helper", refused, "answers" if refused else error.what, hint)
    else:
        yield Finding(
            "helper", False, "The helper accepted an unknown request.", "Reinstall Gatling."
        )


def failed_units() -> Iterator[Finding]:
    """Whether a unit of Gatling has failed, and whether recovery is enabled at boot."""
    for unit in ("gatling-recover.service", *changes.TIMERS):
        enabled = _says("systemctl", "is-enabled", unit)
        yield Finding("recovery", enabled == "enabled", f"{unit} is {enabled}",
                      f"`systemctl enable --now {unit}`")  # fmt: skip
    shown = process.output(["systemctl", "list-units", "--failed", "--output=json",
                            "gatling@*", "gatling-*"])  # fmt: skip
    failed = [unit["unit"] for unit in json.loads(shown)]
    for unit in failed:
        yield Finding("units", False, f"{unit} has failed.",
                      f"`journalctl -u {unit}` says why.")  # fmt: skip
    if not failed:
        yield Finding("units", True, "no unit of Gatling has failed")


def every_app(server: Path = SERVER) -> Iterator[Finding]:
    """Whether each app has all of its files and users, and runs if it should."""
    for app in records(server):
        faults = [*_user(app), *_directories(app, server), *_drop_ins(app, server),
                  *_running(app, server), *_timers(app)]  # fmt: skip
        for what, hint in faults:
            yield Finding(f"app {app.name}", False, what, hint)
        if not faults:
            state = "runs" if app.live_release and app.wanted == "running" else "stopped"
            yield Finding(f"app {app.name}", True, state)


def app_ports(server: Path = SERVER) -> Iterator[Finding]:
    """Whether anybody but an app listens on the app's ports."""
    import psutil

    if os.geteuid() != 0:
        raise PermissionError  # others do not see whose a port is
    listening: dict[int, int | None] = {}
    for one in psutil.net_connections(kind="tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr:
            listening.setdefault(one.laddr.port, one.pid)
    strangers = 0
    for app in records(server):
        for port in (*app.ports.values(), *app.node_ports.values()):
            if port in listening and not _is_of(listening[port], units.user(app.name)):
                strangers += 1
                yield Finding("ports", False, f"{ports.owner(port)} listens on port {port}, which"
                              f" is {app.name}'s.", "Stop it.")  # fmt: skip
    if not strangers:
        yield Finding("ports", True, "nothing else listens on the ports of the apps")


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


def nginx() -> Iterator[Finding]:
    """Whether the system's nginx runs, has port 80, and accepts its configuration."""
    active = _says("systemctl", "is-active", "nginx.service")
    yield Finding("nginx", active == "active", f"nginx.service is {active}",
                  "`systemctl status nginx` says why.")  # fmt: skip
    if not ports.answers(80):
        yield Finding("nginx", False, "Nothing listens on port 80.",
                      "`systemctl restart nginx`, and check that its configuration has a `listen`"
                      " directive.")  # fmt: skip
    elif os.geteuid() == 0:
        program = ports.program_on(80)
        is_nginx = program is not None and program.name == "nginx"
        yield Finding("nginx", is_nginx, f"{ports.owner(80)} listens on port 80",
                      "Stop it, then run `systemctl restart nginx`.")  # fmt: skip
    if os.geteuid() == 0:
        tested = process.run(["nginx", "-t", "-q"], timeout=60, check=False,
                             env=machine.clean_environment())  # fmt: skip
        said = tested.text if tested.status else "accepts its configuration"
        yield Finding("nginx", tested.status == 0, said, "Fix the file that it names.")
        for found in webserver.findings(machine.clean_environment()):
            yield Finding("nginx", *found)


def certificates_of_apps(server: Path = SERVER) -> Iterator[Finding]:
    """Whether a certificate that serves has expired, or will soon."""
    every = records(server)
    found = [*expiry.faults(every, certificates.DIRECTORY, time.time()),
             *expiry.failures(_issuances(server, every))]  # fmt: skip
    for what, hint in found:
        yield Finding("certificates", False, what, hint)
    if not found:
        yield Finding("certificates", True, "none expires soon")


def databases_of_apps(server: Path = SERVER) -> Iterator[Finding]:
    """Whether the databases of apps are complete, and run."""
    every = _read(server, databases.every)
    found = list(clusters.faults(every))
    for what, hint in found:
        yield Finding("databases", False, what, hint)
    if not found:
        yield Finding("databases", True, f"{counted(len(every), 'database')}, none fails")


def notifications(server: Path = SERVER) -> Iterator[Finding]:
    """Whether the channels accept notifications."""
    every = [(one.failures, f"channel {one.name}: {one.error}", f"gatling notify test {one.name}")
             for one in _read(server, notices.every)]  # fmt: skip
    return _refusals("notifications", "channel", every)


def log_drains(server: Path = SERVER) -> Iterator[Finding]:
    """Whether the receivers of logs accept them."""
    every = [(one.failures, f"drain {one.id} of {one.app}: {one.error}",
              f"gatling drains list {one.app}") for one in _read(server, drains.every)]  # fmt: skip
    return _refusals("drains", "drain", every)


def _refusals(name: str, kind: str, every: list[tuple[int, str, str]]) -> Iterator[Finding]:
    """Report the receivers that have refused often in a row: failures, a description, a hint."""
    failing = [(what, hint) for failures, what, hint in every if failures >= MANY_FAILURES]
    for what, hint in failing:
        yield Finding(name, False, what, hint)
    if not failing:
        yield Finding(name, True, f"{counted(len(every), kind)}, none fails")


def sshd(shown: str | None = None) -> Iterator[Finding]:
    """Whether sshd applies the required options to connections of the user gatling."""
    if shown is None:
        if os.geteuid() != 0:
            raise PermissionError
        argv = [shutil.which("sshd", path=_path()) or "/usr/sbin/sshd", "-T", "-C",
                f"user={units.OWNER},host=x,addr=127.0.0.1"]  # fmt: skip
        shown = process.output(argv)
    pairs = [line.partition(" ")[::2] for line in shown.splitlines()]
    said = {name.lower(): value for name, value in pairs}
    wrong = [f"{k} {said.get(k, '?')}" for k, v in FORCED.items() if said.get(k) != v]
    for what in wrong:
        yield Finding("sshd", False, f"sshd's settings for the user {units.OWNER}: {what}",
                      f"An earlier file of /etc/ssh wins over {system_files.SSHD}.")  # fmt: skip
    if not wrong:
        yield Finding("sshd", True, "only keys are accepted, and forwarding is disabled")


def keys(server: Path = SERVER) -> Iterator[Finding]:
    """Whether anybody is let in, by a file that sshd accepts."""
    file = server / "home" / ".ssh" / "authorized_keys"
    if not os.access(server / "home", os.X_OK):
        raise PermissionError
    add = "gatling server keys add NAME --role admin < KEY.pub"
    try:
        info, text = file.lstat(), file.read_text()
    except FileNotFoundError:
        yield Finding("keys", False, "No key is authorized.", f"`{add}`")
        return
    mine = stat.S_IMODE(info.st_mode) == 0o600 and info.st_uid == (server / "home").stat().st_uid
    if not mine:
        yield Finding("keys", False, f"{file} is not {units.OWNER}'s alone.",
                      f"`chown {units.OWNER}: {file}`, `chmod 600 {file}`")  # fmt: skip
    count = sum(1 for line in text.splitlines() if line.strip() and not line.startswith("#"))
    said = f"{counted(count, 'key')} authorized" if count else "No key is authorized."
    yield Finding("keys", count > 0, said, f"`{add}`")


def disk(server: Path = SERVER) -> Iterator[Finding]:
    """Whether there is room for releases."""
    info = os.statvfs(server)
    free, percent = info.f_bavail * info.f_frsize, 100 * info.f_bavail // max(1, info.f_blocks)
    hint = "Delete files that are not needed, or run `gatling settings set APP releases.keep=3`."
    yield Finding("disk", free >= LEAST_BYTES and percent >= LEAST_FREE,
                  f"{free / 1e9:.1f} GB of {server} are free ({percent} %)", hint)  # fmt: skip
    if info.f_files:  # some file systems do not count them
        percent = 100 * info.f_favail // info.f_files
        yield Finding("disk", percent >= LEAST_FREE, f"{percent} % of its inodes are free", hint)


def memory(file: Path = Path("/proc/meminfo")) -> Iterator[Finding]:
    """Whether there is as much as a build takes."""
    values = dict(line.split(":", 1) for line in file.read_text().splitlines())
    total = int(values["MemTotal"].split()[0]) << 10
    yield Finding("memory", total >= LEAST_MEMORY, f"{total >> 20} MiB",
                  "Builds need 512 MB or more: get a larger machine.")  # fmt: skip


def clock(says: Callable[..., str] | None = None) -> Iterator[Finding]:
    """Whether something keeps the time, which certificates and signed cookies need."""
    says = says or _says
    if says("timedatectl", "show", "--property=NTPSynchronized", "--value") == "yes":
        yield Finding("clock", True, "synchronised")
        return
    active = [
        s for s in TIME_SERVICES if says("systemctl", "is-active", f"{s}.service") == "active"
    ]
    if active:
        yield Finding("clock", True, f"{active[0]} runs, and has not synchronised it yet")
    elif (kind := says("systemd-detect-virt", "--container")) not in ("", "none"):
        yield Finding("clock", True, f"kept by the host of this container ({kind})")
    else:
        yield Finding(
            "clock", False, "No time synchronization is active.", "`apt install systemd-timesyncd`"
        )


def programs() -> Iterator[Finding]:
    """Report the versions of the programs that Gatling works with."""
    env = machine.clean_environment() | {"HOME": "/"}  # other users cannot enter root's
    for name, option in (("elixir", "--version"), ("git", "--version"), ("nginx", "-v")):
        path = shutil.which(name, path=_path())
        if path is None:
            yield Finding(
                "programs",
                False,
                f"{name} is not installed.",
                f"`apt install {debian.PACKAGES[name]}`",
            )
            continue
        done = process.run([path, option], timeout=60, check=False, env=env)
        said = "; ".join(line for line in done.tail if line.strip())
        yield Finding("programs", done.status == 0, said, f"`{path} {option}` fails.")


def records(server: Path = SERVER) -> list[App]:
    """All apps, read as gatling and without a change."""
    return _read(server, apps.every)


def _issuances(server: Path, every: list[App]) -> list[Issuance]:
    return _read(server, lambda db: [issuance.of_app(db, app.name) for app in every])


def _read(server: Path, query: Callable[[Database], Result]) -> Result:
    home = server / "home"
    if os.geteuid() not in (0, home.stat().st_uid):
        raise PermissionError
    with acting_as(home.stat()):
        url = f"{(home / 'state.db').as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(url, uri=True, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            return query(Database(connection))


CHECKS: dict[str, Check] = {
    "installation": installation, "location": location, "systemd": systemd, "helper": helper,
    "units": failed_units, "apps": every_app, "ports": app_ports, "network": reachable,
    "nginx": nginx, "certificates": certificates_of_apps,
    "databases": databases_of_apps, "notifications": notifications, "drains": log_drains,
    "sshd": sshd, "keys": keys,
    "disk": disk, "memory": memory, "clock": clock, "programs": programs,
}  # fmt: skip


def _user(app: App) -> Iterator[tuple[str, str]]:
    user = units.user(app.name)
    try:
        if pwd.getpwnam(user).pw_gecos != f"Gatling app {app.name}":
            yield f"The user {user} is not Gatling's.", "Rename that user."
    except KeyError:
        yield f"There is no user {user}.", _anew(app)


def _directories(app: App, server: Path) -> Iterator[tuple[str, str]]:
    for entry, whose, mode in service.LAYOUT:
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
        state = _says("systemctl", "is-active", unit)
        if state != "active":
            yield f"{unit} is {state}.", f"`gatling logs {app.name}`; `gatling start {app.name}`"


def _timers(app: App) -> Iterator[tuple[str, str]]:
    for name in jobs.scheduled(app):
        unit = timers.timer(app.name, name)
        state = _says("systemctl", "is-active", unit)
        if state != "active":
            yield f"{unit} is {state}.", _anew(app)


def _anew(app: App) -> str:
    return f"As root, run `gatling recover --units` to create what {app.name} lacks."


def _is_of(pid: int | None, user: str) -> bool:
    try:
        return Path(f"/proc/{pid}").stat().st_uid == pwd.getpwnam(user).pw_uid
    except (OSError, KeyError):
        return False


def _owner() -> int:
    return pwd.getpwnam(units.OWNER).pw_uid


def _says(*argv: str) -> str:
    """The last line of what a program says, whatever its exit status; "" when it is not there."""
    with contextlib.suppress(GatlingError):
        return (process.run(argv, timeout=30, check=False).tail or ("",))[-1].strip()
    return ""


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/local/bin:/usr/sbin:/sbin"
