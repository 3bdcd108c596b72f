"""All that a server has of Gatling, as a list of changes in an order in which they can be made."""

from __future__ import annotations

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import files, process
from gatling.errors import InvalidInput
from gatling.host import epmd, webserver
from gatling.host.debian import apt, packages
from gatling.host.machine import COMMAND, ETC, MANUAL, as_owner, has_user, placed, run
from gatling.host.system_files import FORMER, HELPER, SOCKETS, TMPFILES, system_files
from gatling.paths import SERVER
from gatling.platform.programs import INSTALLED_TOOLCHAINS
from gatling.platform.server import backing_up, obtaining, units
from gatling.platform.server.helper import nginx, service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SHELL = "/bin/sh"
"""sshd runs forced commands with it."""
RECOVERY = "gatling-recovery.service"
TIMERS = ("gatling-recovery.timer", obtaining.TIMER, backing_up.TIMER)
ENABLED = (units.FENCE, "gatling-recover.service", *TIMERS)
"""The units that are started at each boot besides the sockets of root's helper."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something to be there: what to say of it, whether it is missing, how to bring it about."""

    what: str
    needed: Callable[[], bool]
    make: Callable[[], object]
    renews: bool = False
    """Whether units have to be loaded and services reloaded afterwards."""
    follows: bool = False
    """Whether it is needed after every change that renews."""


def needed(every: Iterable[Change]) -> Iterator[Change]:
    """The changes that are needed: the same ones, whether each is made before the next or none is.

    So a dry run lists what the real run does.
    """
    renewed = False
    for change in every:
        if change.needed() or (change.follows and renewed):
            renewed |= change.renews
            yield change


def changes(manual: str | None = None) -> Iterator[Change]:
    """All that a host has of Gatling, in an order in which it can be made.

    `manual` is the text of the manual page, which is not among the changes without it.
    """
    missing = packages()
    yield Change(
        f"install Debian packages: {' '.join(missing)}", lambda: bool(missing),
        lambda: apt(missing),
    )  # fmt: skip
    yield Change(
        "disable Erlang's epmd, which Gatling does not need (epmd.socket, epmd.service)",
        lambda: epmd.is_idle() or (epmd.comes_with(missing) and not epmd.is_installed()),
        epmd.disable,
    )
    yield Change(f"create the user {units.OWNER}", lambda: not has_user(), _make_user)
    yield Change(
        f"create the user {units.PLACEHOLDER}, which owns no files",
        lambda: not has_user(units.PLACEHOLDER),
        lambda: run(["useradd", "--system", "--user-group", "--no-create-home", "--shell",
                      "/usr/sbin/nologin", "--home-dir", "/nonexistent",
                      "--comment", "Gatling, nobody", units.PLACEHOLDER]),
    )  # fmt: skip
    yield Change(
        f"let {units.OWNER} log in over SSH",
        lambda: has_user() and pwd.getpwnam(units.OWNER).pw_shell != SHELL,
        lambda: run(["usermod", "--shell", SHELL, units.OWNER]),
    )
    for path, owner, mode in (
        (SERVER, "root", 0o755),
        (SERVER / "home", units.OWNER, 0o750),
        (SERVER / "apps", "root", 0o711),
        (SERVER / "routes", units.OWNER, 0o755),
        (SERVER / "challenges", units.OWNER, 0o755),
        (SERVER / "instances", "root", 0o700),
        (ETC, "root", 0o755),
        (ETC / "toolchains", "root", 0o755),
        (INSTALLED_TOOLCHAINS, "root", 0o755),
        (nginx.DIRECTORY, "root", 0o755),
    ):
        yield Change(
            f"create {path} ({owner}, {mode:o})",
            lambda p=path, o=owner, m=mode: not _directory_is(p, o, m),  # type: ignore[misc]
            lambda p=path, o=owner, m=mode: _make_directory(p, o, m),  # type: ignore[misc]
        )
    other = f", instead of {COMMAND.readlink()}, which stays there" if _is_anothers() else ""
    yield Change(f"link {COMMAND} to this installation{other}", lambda: not _linked(), _link)
    if manual is not None:
        yield manual_page(MANUAL, manual)
    for file, text in system_files().items():
        yield Change(
            f"write {file}",
            lambda f=file, t=text: not f.exists() or f.read_text() != t,  # type: ignore[misc]
            lambda f=file, t=text: _write(f, t),  # type: ignore[misc]
            renews=True,
        )
    for file in FORMER:
        yield Change(
            f"remove {file}, of an earlier version", file.exists,
            lambda f=file: _remove(f),  # type: ignore[misc]
            renews=True,
        )  # fmt: skip
    yield Change(
        f"let nginx open {webserver.FILES} files",
        lambda: webserver.opens_too_few() or webserver.comes_with(missing),
        lambda: _and_finish(webserver.let_open),
        renews=True,
    )
    yield Change(
        "disable Debian's example site of nginx, so that unknown hosts get Gatling's page",
        lambda: webserver.example_is_enabled() or webserver.comes_with(missing),
        lambda: _and_finish(webserver.disable_example),
        renews=True,
    )
    yield Change(
        "enable and start the units", lambda: not _units_in_use(), _use_units,
        renews=True, follows=True,
    )  # fmt: skip
    yield Change(
        "test and reload nginx and sshd; update all apps for this version",
        lambda: not _same_version(), _finish, follows=True,
    )  # fmt: skip


def manual_page(file: Path, text: str) -> Change:
    """The change that writes the manual page."""

    def make() -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write(file, text, mode=0o644)

    return Change(f"write {file}", lambda: not file.exists() or file.read_text() != text, make)


def _make_user() -> None:
    run(["useradd", "--system", "--user-group", "--no-create-home", "--shell", SHELL,
          "--home-dir", str(SERVER / "home"), "--comment", "Gatling", units.OWNER])  # fmt: skip
    run(["usermod", "--password", "*", units.OWNER])  # none, ever; "!" would lock out keys, too


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
    new = COMMAND.with_name(f"{COMMAND.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(_program())
    new.replace(COMMAND)  # a push that begins now finds one or the other


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write(file, text, mode=0o755 if text.startswith("#!") else 0o644)
    (ETC / "version").unlink(missing_ok=True)  # what depends on it is yet to be done


def _remove(file: Path) -> None:
    file.unlink()
    (ETC / "version").unlink(missing_ok=True)  # systemd has not read it again yet


def _and_finish(change: Callable[[], object]) -> None:
    change()
    (ETC / "version").unlink(missing_ok=True)  # nginx is yet to be reloaded


def _units_in_use() -> bool:
    def all_of(asked: str, *names: str) -> bool:
        # one by one: of several, systemctl is content with one
        return all(
            process.run(["systemctl", asked, name], timeout=30, check=False).status == 0
            for name in names
        )

    enabled = all_of("is-enabled", *SOCKETS, *ENABLED)
    notes = _directory_is(Path(units.INSTANCES), "root", 0o750)
    return enabled and notes and all_of("is-active", *SOCKETS) and (ETC / "version").exists()


def _use_units() -> None:
    run(["systemd-tmpfiles", "--create", str(TMPFILES)])
    run(["systemctl", "daemon-reload"])
    run(["systemctl", "enable", "--quiet", *SOCKETS, *ENABLED])
    # all of them, or the socket cannot be started: its service is of the version before
    run(["systemctl", "stop", *SOCKETS, HELPER])
    run(["systemctl", "start", *SOCKETS])
    run(["systemctl", "start", *TIMERS])
    # its timer may have started it while the files of a package were being replaced
    if process.run(["systemctl", "is-failed", RECOVERY], timeout=30, check=False).status == 0:
        run(["systemctl", "start", RECOVERY], check=False)
    run(["systemctl", "enable", "--quiet", "--now", "nginx.service"])


def _same_version() -> bool:
    try:
        return (ETC / "version").read_text() == _version()
    except OSError:
        return False


def _version() -> str:
    from gatling import __version__

    return f"{__version__} {int(Path(str(service.__file__)).stat().st_mtime)}\n"


def _finish() -> None:
    run(["sshd", "-t"])
    run(["systemctl", "reload-or-restart", "ssh.service"])
    as_owner("recover", "--units")
    # a kernel without nftables serves as well, and `gatling server check` says what is missing
    run(["systemctl", "start", units.FENCE], check=False)
    files.write(ETC / "version", _version(), mode=0o644)
