"""Making a Debian or Ubuntu machine a Gatling host, and taking that away again. As root.

What is to be there is a list of changes, each of which knows whether it is needed: so it can be
shown before, and run again. Nothing that Gatling did not write is changed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import CommandFailed, InvalidInput, MissingProgram
from gatling.helper import firewall, service
from gatling.home import SERVER, write_atomically
from gatling.router import system_nginx
from gatling.server import epmd, webserver
from gatling.supervisor import enter, timers, units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMAND = Path("/usr/local/bin/gatling")
ETC = Path("/etc/gatling")
UNITS = Path("/etc/systemd/system")
SSHD = Path("/etc/ssh/sshd_config.d/gatling.conf")
SHELL = "/bin/sh"
"""sshd runs forced commands with it."""
OLDEST_SYSTEMD = 250
"""The first that gives credentials to units whose files other users cannot read."""
APT_SECONDS = 300
"""How long another apt-get is waited for."""

ENABLED = (units.FENCE, "gatling-recover.service", "gatling-recovery.timer")
"""What is started at each boot besides the helper's socket."""

PACKAGES = {"git": "git", "nginx": "nginx-light", "elixir": "elixir", "sshd": "openssh-server",
            "curl": "curl", "openssl": "openssl", "nft": "nftables"}  # fmt: skip
"""Program → the package that has it."""
ERLANG = ("erlang-dev", "erlang-crypto", "erlang-inets", "erlang-ssl", "erlang-tools",
          "erlang-parsetools")  # fmt: skip
"""What releases of ordinary projects need of Debian's Erlang, which is in many packages."""

SSHD_TEXT = f"""\
# Written by Gatling. Keys, and what each may do, stand in {SERVER}/home/.ssh/authorized_keys.
Match User {units.OWNER}
    AuthenticationMethods publickey
    PasswordAuthentication no
    KbdInteractiveAuthentication no
    AuthorizedKeysFile .ssh/authorized_keys
    DisableForwarding yes
    PermitUserRC no
    ClientAliveInterval 15
    ClientAliveCountMax 4
Match all
"""


@dataclass(frozen=True, slots=True)
class Change:
    """Something to be there: what to say of it, whether it is missing, how to bring it about."""

    what: str
    needed: Callable[[], bool]
    make: Callable[[], object]


def install(say: Callable[[str], None], *, dry_run: bool) -> int:
    """Bring about what is missing, or only say it; how many changes that are.

    Raises InvalidInput for a machine or an installation of Gatling that is not fit for it.
    """
    _fit()
    done = 0
    for change in changes():
        if change.needed():
            say(f"{'would: ' if dry_run else ''}{change.what}")
            done += 1
            if not dry_run:
                change.make()
    return done


def changes() -> Iterator[Change]:
    """All that a host has of Gatling, in an order in which it can be made."""
    missing = packages()
    yield Change(
        f"install Debian packages: {' '.join(missing)}", lambda: bool(missing),
        lambda: _apt(missing),
    )  # fmt: skip
    yield Change(
        "disable Erlang's epmd, which no node of Gatling's needs (epmd.socket, epmd.service)",
        lambda: epmd.is_idle() or (epmd.comes_with(missing) and not epmd.is_installed()),
        epmd.disable,
    )
    yield Change(f"make the user {units.OWNER}", lambda: not _has_user(), _make_user)
    yield Change(
        f"make the user {units.PLACEHOLDER}, to whom nothing belongs",
        lambda: not _has_user(units.PLACEHOLDER),
        lambda: _run(["useradd", "--system", "--user-group", "--no-create-home", "--shell",
                      "/usr/sbin/nologin", "--home-dir", "/nonexistent",
                      "--comment", "Gatling, nobody", units.PLACEHOLDER]),
    )  # fmt: skip
    yield Change(
        f"let {units.OWNER} be reached over SSH",
        lambda: _has_user() and pwd.getpwnam(units.OWNER).pw_shell != SHELL,
        lambda: _run(["usermod", "--shell", SHELL, units.OWNER]),
    )
    for path, owner, mode in (
        (SERVER, "root", 0o755),
        (SERVER / "home", units.OWNER, 0o750),
        (SERVER / "apps", "root", 0o711),
        (SERVER / "routes", units.OWNER, 0o755),
        (SERVER / "instances", "root", 0o700),
        (ETC, "root", 0o755),
        (ETC / "toolchains", "root", 0o755),
        (system_nginx.DIRECTORY, "root", 0o755),
    ):
        yield Change(
            f"make {path} ({owner}, {mode:o})",
            lambda p=path, o=owner, m=mode: not _directory_is(p, o, m),  # type: ignore[misc]
            lambda p=path, o=owner, m=mode: _make_directory(p, o, m),  # type: ignore[misc]
        )
    other = f", instead of {COMMAND.readlink()}, which stays there" if _is_anothers() else ""
    yield Change(f"link {COMMAND} to this installation{other}", lambda: not _linked(), _link)
    for file, text in files().items():
        yield Change(
            f"write {file}",
            lambda f=file, t=text: not f.exists() or f.read_text() != t,  # type: ignore[misc]
            lambda f=file, t=text: _write(f, t),  # type: ignore[misc]
        )
    yield Change(
        f"let nginx open {webserver.FILES} files",
        webserver.opens_too_few,
        lambda: _and_finish(webserver.let_open),
    )
    yield Change(
        "disable Debian's example site of nginx, so that hosts of no app have Gatling's page",
        webserver.example_is_enabled,
        lambda: _and_finish(webserver.disable_example),
    )
    yield Change("take the units into use", lambda: not _units_in_use(), _use_units)
    yield Change(
        "test and reload nginx and sshd; bring all apps into line with this version",
        lambda: not _same_version(), _finish,
    )  # fmt: skip


def files() -> dict[Path, str]:
    """The files of root's that Gatling writes, with their text."""
    helper, launcher = placed(Path(str(service.__file__))), placed(Path(str(enter.__file__)))
    sessions = {}
    with contextlib.suppress(KeyError):  # its user is not there yet
        own = UNITS / f"user-{pwd.getpwnam(units.OWNER).pw_uid}.slice.d" / "gatling.conf"
        sessions[own] = units.session_slice()
    return sessions | {
        UNITS / "gatling@.service": units.template(SERVER, launcher),
        UNITS / units.FENCE: units.fence_service(firewall.FILE),
        UNITS / "gatling-recover.service": units.recover_service(COMMAND),
        UNITS / "gatling-recovery.service": units.recovery_service(COMMAND),
        UNITS / "gatling-recovery.timer": units.recovery_timer(),
        UNITS / "gatling-helper.socket": units.helper_socket(),
        UNITS / "gatling-helper@.service": units.helper_service(helper),
        UNITS / timers.SERVICE: timers.service(COMMAND),
        SSHD: SSHD_TEXT,
        webserver.DROP_IN: webserver.DROP_IN_TEXT,
        system_nginx.INCLUDE: (
            "# Written by Gatling; see there.\n"
            f"include {system_nginx.DIRECTORY}/sites*.conf;\n"
        ),
    }  # fmt: skip


def placed(path: Path) -> Path:
    """Where a file of this installation will be: bin/install tries one out before it is there."""
    wanted = os.environ.get("GATLING_INSTALLED_AS")
    return Path(wanted) / path.relative_to(sys.prefix) if wanted else path


def packages() -> list[str]:
    """Debian packages that are needed and not there; what lies elsewhere on PATH counts as well."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/bin"
    found = [package for name, package in PACKAGES.items() if not shutil.which(name, path=path)]
    erl = shutil.which("erl", path=path)
    if erl is None and "elixir" not in found:
        found.append("erlang-nox")
    if erl is None or erl == "/usr/bin/erl":
        found += [name for name in ERLANG if not _installed(name)]
    return found


def uninstall(say: Callable[[str], None], *, purge: bool) -> None:
    """Stop all apps and remove what Gatling wrote; with `purge` also apps, users and data.

    Raises InvalidInput, with nothing changed, when nginx would not start without Gatling.
    """
    webserver.check_removal(clean_environment())
    recovering = ["gatling-recovery.timer", "gatling-recover.service"]
    _run(["systemctl", "disable", "--now", *recovering], check=False)
    _run(["systemctl", "stop", timers.TIMERS], check=False)
    _run(["systemctl", "stop", "gatling@*.service", "gatling-*.service"], check=False)
    _run(["systemctl", "disable", "--now", "gatling-helper.socket", units.FENCE], check=False)
    for entry in (*UNITS.glob("gatling@*.service.d"), *UNITS.glob("gatling-*.service.d")):
        shutil.rmtree(entry)
    for link in (*UNITS.glob("*.wants/gatling@*.service"), *UNITS.glob(f"*.wants/{timers.TIMERS}")):
        link.unlink()
    for file in UNITS.glob(timers.TIMERS):
        file.unlink()
    for file in (*files(), firewall.FILE, COMMAND):
        if file.exists() or file.is_symlink():
            say(f"remove {file}")
            _unlink(file)
    webserver.remove()
    _run(["systemctl", "daemon-reload"])
    # what did not end in time is there as failed otherwise
    _run(["systemctl", "reset-failed", "gatling@*.service", "gatling-*.service"], check=False)
    _run(["systemctl", "reload", "nginx.service"], check=False)
    _run(["systemctl", "reload", "ssh.service"], check=False)
    if not purge:
        if _has_user():  # its keys are kept, and let nobody in
            _run(["usermod", "--shell", "/usr/sbin/nologin", units.OWNER])
        say(f"kept: {SERVER}, {ETC}, the users {units.OWNER} and {units.OWNER}-*")
        say(f"Gatling itself stays in {sys.prefix}: remove that, or install again from there.")
        return
    for user in [u for u in pwd.getpwall() if u.pw_gecos.startswith("Gatling app ")]:
        say(f"remove the user {user.pw_name}")
        _run(["userdel", user.pw_name], check=False)
    for directory in (SERVER, ETC, system_nginx.DIRECTORY):
        say(f"remove {directory}")
        shutil.rmtree(directory, ignore_errors=True)
    for name in filter(_has_user, (units.OWNER, units.PLACEHOLDER)):
        say(f"remove the user {name}")
        _run(["loginctl", "terminate-user", name], check=False)  # who is there over SSH
        _run(["userdel", "--force", name], check=False)


def _unlink(file: Path) -> None:
    """Remove a file, and its directory if that was made for it alone."""
    file.unlink()
    if file.parent.suffix == ".d" and file.parent.parent == UNITS:
        with contextlib.suppress(OSError):  # the operator has something there
            file.parent.rmdir()


def app_names() -> list[str]:
    """The apps of this host, by their directories."""
    try:
        return sorted(d.name for d in (SERVER / "apps").iterdir() if not d.name.startswith("."))
    except OSError:
        return []


def as_owner(*words: str) -> None:
    """Run `gatling WORDS` as gatling; raises CommandFailed with what it said."""
    _run([sys.executable, "-I", "-m", "gatling", *words], env=clean_environment())


def clean_environment() -> dict[str, str]:
    """Of root's environment what Gatling's own commands need."""
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8", "HOME": "/root"}  # fmt: skip


def systemd_version() -> int:
    """The version of the systemd that runs this machine; 0 when another init does."""
    if not Path("/run/systemd/system").is_dir():
        return 0
    words = process.output(["systemctl", "--version"]).split()
    return int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0


def exposed(path: Path) -> Path | None:
    """The first part of a path that others than root own or may write, or cannot enter."""
    for part in (*reversed(path.parents), path):
        try:
            info = part.stat()
        except FileNotFoundError:  # to be made by root
            return None
        if info.st_uid != 0 or info.st_mode & 0o022 or not info.st_mode & 0o005:
            return part
    return None


def has_keys() -> bool:
    """Whether anybody is let in over SSH."""
    try:
        return bool((SERVER / "home" / ".ssh" / "authorized_keys").read_text().strip())
    except OSError:
        return False


def _fit() -> None:
    if os.geteuid() != 0:
        raise InvalidInput("This needs root.", hint="`sudo gatling server install`")
    if not shutil.which("apt-get"):
        raise InvalidInput("This is neither Debian nor Ubuntu: there is no apt-get.")
    version = systemd_version()
    if version < OLDEST_SYSTEMD:
        raise InvalidInput(
            f"systemd {OLDEST_SYSTEMD} or newer must run this machine; it is {version or 'not'}.",
            hint="Debian 12, Ubuntu 22.10 or newer have it.",
        )
    for path in (Path(str(service.__file__)), Path(sys.executable).parent):
        part = exposed(placed(path))
        if part is not None:
            raise InvalidInput(
                f"Gatling is installed where root's helper must not be: {part} is not root's alone,"
                " or others cannot read it.",
                hint="Run bin/install from a clone: it installs below /opt, for root alone.",
            )


def _installed(package: str) -> bool:
    done = process.run(["dpkg-query", "-W", "-f", "${Status}", package], timeout=30, check=False)
    return "install ok" in done.text


def _apt(missing: list[str]) -> None:
    env = clean_environment() | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        _update_lists(env)
        process.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends",
             "-o", f"DPkg::Lock::Timeout={APT_SECONDS}", *missing],
            timeout=1800, env=env,
        )  # fmt: skip
    except CommandFailed as error:
        raise MissingProgram(f"apt-get: {error.what}", log=error.log) from None


def _update_lists(env: dict[str, str]) -> None:
    """`apt-get update`, which does not wait by itself while another one is at work.

    A new machine's first updates, say. Raises CommandFailed.
    """
    deadline = time.monotonic() + APT_SECONDS
    while True:
        try:
            process.run(["apt-get", "update", "-qq"], timeout=600, env=env)
        except CommandFailed as error:
            locked = any("Could not get lock" in line for line in error.log)
            if not locked or time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return


def _has_user(name: str = units.OWNER) -> bool:
    return any(user.pw_name == name for user in pwd.getpwall())


def _make_user() -> None:
    _run(["useradd", "--system", "--user-group", "--no-create-home", "--shell", SHELL,
          "--home-dir", str(SERVER / "home"), "--comment", "Gatling", units.OWNER])  # fmt: skip
    _run(["usermod", "--password", "*", units.OWNER])  # none, ever; "!" would lock out keys, too


def _directory_is(path: Path, owner: str, mode: int) -> bool:
    try:
        info = path.lstat()
        return info.st_uid == pwd.getpwnam(owner).pw_uid and info.st_mode & 0o7777 == mode
    except (OSError, KeyError):
        return False


def _make_directory(path: Path, owner: str, mode: int) -> None:
    user = pwd.getpwnam(owner)
    path.mkdir(parents=True, exist_ok=True)
    os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    path.chmod(mode)


def _linked() -> bool:
    return COMMAND.is_symlink() and COMMAND.readlink() == _program()


def _is_anothers() -> bool:
    """Whether the command is that of another installation: another way, or another version."""
    return COMMAND.is_symlink() and COMMAND.exists() and not _linked()


def _program() -> Path:
    return placed(Path(sys.executable)).with_name("gatling")


def _link() -> None:
    if COMMAND.exists() and not COMMAND.is_symlink():
        raise InvalidInput(f"{COMMAND} exists and is not Gatling's.", hint="Move it away.")
    COMMAND.unlink(missing_ok=True)
    COMMAND.symlink_to(_program())


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text, mode=0o644)
    (ETC / "version").unlink(missing_ok=True)  # what depends on it is yet to be done


def _and_finish(change: Callable[[], object]) -> None:
    change()
    (ETC / "version").unlink(missing_ok=True)  # nginx is yet to be reloaded


def _units_in_use() -> bool:
    done = process.run(
        ["systemctl", "is-enabled", "gatling-helper.socket", *ENABLED],
        timeout=30, check=False,
    )  # fmt: skip
    active = process.run(
        ["systemctl", "is-active", "gatling-helper.socket"], timeout=30, check=False
    )
    return done.status == 0 and active.status == 0 and (ETC / "version").exists()


def _use_units() -> None:
    _run(["systemctl", "daemon-reload"])
    _run(["systemctl", "enable", "--quiet", "gatling-helper.socket", *ENABLED])
    _run(["systemctl", "restart", "gatling-helper.socket"])
    _run(["systemctl", "start", "gatling-recovery.timer"])
    _run(["systemctl", "enable", "--quiet", "--now", "nginx.service"])


def _same_version() -> bool:
    try:
        return (ETC / "version").read_text() == _version()
    except OSError:
        return False


def _version() -> str:
    from gatling import __version__  # noqa: PLC0415 (beside it, when it was installed)

    return f"{__version__} {int(Path(str(service.__file__)).stat().st_mtime)}\n"


def _finish() -> None:
    _run(["sshd", "-t"])
    _run(["systemctl", "reload-or-restart", "ssh.service"])
    as_owner("recover", "--units")
    # a kernel without nftables serves as well, and `gatling server check` says what is missing
    _run(["systemctl", "start", units.FENCE], check=False)
    write_atomically(ETC / "version", _version(), mode=0o644)


def _run(argv: list[str], *, check: bool = True, env: dict[str, str] | None = None) -> None:
    process.run(argv, timeout=300, check=check, env=env or clean_environment())
