"""Checks of the machine: the installation, root's helper, nginx, sshd, disk, memory and clock."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import HelperFailed
from gatling.host import changes, debian, machine, system_files, webserver
from gatling.host.findings import REINSTALL, Finding, says, search_path
from gatling.paths import SERVER
from gatling.platform import ports
from gatling.platform.server import units
from gatling.platform.server.helper import client, service
from gatling.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LEAST_FREE = 10
"""Percent of the disk's space and of its inodes …"""
LEAST_BYTES = 1 << 30
"""… and bytes: a release, and the one in the making."""
LEAST_MEMORY = 448 << 20
"""The memory that Linux leaves of 512 MB, in bytes."""
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
    hint = (
        "`journalctl -u gatling-helper` says why. `systemctl stop gatling-helper.service`, then"
        " `systemctl restart gatling-helper.socket`, restarts it."
    )
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
        enabled = says("systemctl", "is-enabled", unit)
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


def nginx() -> Iterator[Finding]:
    """Whether the system's nginx runs, has port 80, and accepts its configuration."""
    active = says("systemctl", "is-active", "nginx.service")
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


def sshd(shown: str | None = None) -> Iterator[Finding]:
    """Whether sshd applies the required options to connections of the user gatling."""
    if shown is None:
        if os.geteuid() != 0:
            raise PermissionError
        argv = [shutil.which("sshd", path=search_path()) or "/usr/sbin/sshd", "-T", "-C",
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


def clock(ask: Callable[..., str] = says) -> Iterator[Finding]:
    """Whether something keeps the time, which certificates and signed cookies need."""
    if ask("timedatectl", "show", "--property=NTPSynchronized", "--value") == "yes":
        yield Finding("clock", True, "synchronised")
        return
    active = [s for s in TIME_SERVICES if ask("systemctl", "is-active", f"{s}.service") == "active"]
    if active:
        yield Finding("clock", True, f"{active[0]} runs, and has not synchronised it yet")
    elif (kind := ask("systemd-detect-virt", "--container")) not in ("", "none"):
        yield Finding("clock", True, f"kept by the host of this container ({kind})")
    else:
        yield Finding(
            "clock", False, "No time synchronization is active.", "`apt install systemd-timesyncd`"
        )


def programs() -> Iterator[Finding]:
    """Report the versions of the programs that Gatling works with."""
    env = machine.clean_environment() | {"HOME": "/"}  # other users cannot enter root's
    for name, option in (("elixir", "--version"), ("git", "--version"), ("nginx", "-v")):
        path = shutil.which(name, path=search_path())
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


def _owner() -> int:
    return pwd.getpwnam(units.OWNER).pw_uid
