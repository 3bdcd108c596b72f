"""The home: the directory that holds everything, and where each thing lies in it.

The embedded home is one directory, all of it its user's:

state.db                    apps, releases, deployments, config, audit
bin/gatling                 this installation's command line, for the git hooks
apps/APP.git                bare repository that is pushed to
apps/APP/lock               held by the deployment that is under way
apps/APP/build/             source/ (kept: deps, _build), git/, ssh/, release/ (in the making)
apps/APP/releases/vN        immutable release trees
apps/APP/slots/N/           instance.json, pid, tmp/; for a process slots/worker.1/ and so on
apps/APP/route/             a file named 1, 2 or down: where the proxy sends requests;
                            maintenance.html, while it is on; static/, digested files of releases
apps/APP/logs/              instances.log, deployment-ID.log, job-NAME.log
apps/APP/jobs/              locks of jobs that run; schedule.json beside it: when they are due
nginx/  supervisor/  run/   what the embedded home runs

On a server (docs/security.md) the same things are apart, by who may write them:

/var/lib/gatling/home/              gatling's: state.db, bin/, run/, .ssh/
/var/lib/gatling/apps/APP/          gatling's, for the app's user to pass and read: releases/, git/
/var/lib/gatling/apps/APP/build/    the app's user's: source/, git/, ssh/, release/, cache/
/var/lib/gatling/apps/APP/work/     both may write: what nodes and Gatling hand each other
/var/lib/gatling/apps/APP/state/    the app's user's: HOME of its instances
/var/lib/gatling/routes/APP/        gatling's, for nginx to read
/var/lib/gatling/instances/         root's: what systemd starts in the slots
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import files, names
from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = Path("/var/lib/gatling")
"""Everything of a server's home; root's, with directories of the users who write there."""

SOCKET_PATH_LIMIT = 107 - len(".4194304")
"""Bytes that the path of a unix socket may have: sun_path in unix(7), less its final NUL, and less
the process id that supervisord adds while it binds."""


@dataclass(frozen=True, slots=True)
class AppPaths:
    """Where the things of one app lie."""

    home: Path
    name: str
    server: bool = False
    """Whether the app has an OS user of its own, who may write in few of these places."""

    @property
    def repository(self) -> Path:
        """The bare repository that is pushed to."""
        return self.root / "git" if self.server else self.home / "apps" / f"{self.name}.git"

    @property
    def root(self) -> Path:
        """Everything of the app; on the embedded home its repository is beside it."""
        return (self.home.parent if self.server else self.home) / "apps" / self.name

    @property
    def cache(self) -> Path:
        """What is compiled once for each toolchain.

        On a server by each app for itself: one's builds must not write what another's run.
        """
        return (self.build if self.server else self.home) / "cache"

    @property
    def work(self) -> Path:
        """Where nodes of the app and Gatling hand each other files."""
        return self.root / "work" if self.server else self.root

    @property
    def state(self) -> Path:
        """The directory of the app's own that outlives its instances (server only)."""
        return self.root / "state"

    @property
    def lock(self) -> Path:
        """Held (flock) by the one deployment that is under way."""
        return self.root / "lock"

    @property
    def build(self) -> Path:
        """Build directory, kept between builds."""
        return self.root / "build"

    @property
    def source(self) -> Path:
        """The exported commit, with `deps` and `_build` of earlier builds."""
        return self.build / "source"

    @property
    def staging(self) -> Path:
        """The release in the making."""
        return self.build / "release"

    @property
    def ssh(self) -> Path:
        """The key by which builds read private repositories, and the hosts they know."""
        return self.build / "ssh"

    @property
    def releases(self) -> Path:
        """The release store."""
        return self.root / "releases"

    def release(self, number: int) -> Path:
        """The tree of one release."""
        return self.releases / f"v{number}"

    def slot(self, slot: int | str) -> Path:
        """What an instance in a slot needs and leaves."""
        return self.root / "slots" / str(slot)

    def slots(self) -> list[int | str]:
        """All slots that there are."""
        return [1, 2, *self.process_slots()]

    def process_slots(self) -> list[str]:
        """The slots of further processes that there are, such as `worker.1`."""
        entries = (self.root / "slots").glob("*.*")  # also files that are being written
        return sorted(entry.name for entry in entries if names.is_process_slot(entry.name))

    @property
    def route(self) -> Path:
        """What the proxy reads: a file that tells where requests go, a page, digested files."""
        return self.home.parent / "routes" / self.name if self.server else self.root / "route"

    @property
    def maintenance_page(self) -> Path:
        """The page that the proxy shows in maintenance; it is there only then."""
        return self.route / "maintenance.html"

    @property
    def logs(self) -> Path:
        """Logs of instances and deployments."""
        return self.root / "logs"

    @property
    def instance_log(self) -> Path:
        """What the instances print, with time and release."""
        return self.logs / "instances.log"

    def job_log(self, job: str) -> Path:
        """What the runs of a job print, with time and release."""
        return self.logs / f"job-{job}.log"

    @property
    def jobs(self) -> Path:
        """Files that are locked while jobs run."""
        return self.root / "jobs"

    def deployment_log(self, deployment: int) -> Path:
        """The whole output of one deployment."""
        return self.logs / f"deployment-{deployment}.log"


@dataclass(frozen=True, slots=True)
class Home:
    """A home directory; `open_home` creates it, `find_home` does not."""

    root: Path

    @property
    def server(self) -> bool:
        """Whether this is the home of a server: installed by root, kept by systemd."""
        return self.root == SERVER / "home"

    def app(self, name: str) -> AppPaths:
        """The paths of one app; `name` must have been validated."""
        return AppPaths(self.root, name, self.server)

    @property
    def database(self) -> Path:
        """The one state file."""
        return self.root / "state.db"

    @property
    def command(self) -> Path:
        """The command line that hooks call."""
        return self.root / "bin" / "gatling"

    @property
    def run(self) -> Path:
        """Sockets, pid files and locks."""
        return self.root / "run"

    @property
    def supervisor(self) -> Path:
        """Configuration and log of the process supervisor."""
        return self.root / "supervisor"

    @property
    def supervisor_socket(self) -> Path:
        """Where the process supervisor listens."""
        return self.run / "supervisor.sock"

    @property
    def nginx(self) -> Path:
        """Configuration, logs and temporary files of the proxy."""
        return self.root / "nginx"


def default_root() -> Path:
    """`$GATLING_HOME`; the server's home for the user whose it is; or `~/.gatling`."""
    named = os.environ.get("GATLING_HOME")
    if named:
        return Path(named)
    return SERVER / "home" if server_owner() == os.geteuid() else Path.home() / ".gatling"


def server_owner() -> int | None:
    """The user id whose the server's home is; None where there is none."""
    try:
        return (SERVER / "home").stat().st_uid
    except OSError:
        return None


def find_home(root: Path | None = None) -> Home:
    """The home at `root` (default: `default_root()`), which need not exist.

    Raises InvalidInput for a path that cannot hold one.
    """
    path = Path(os.path.abspath(root or default_root()))  # noqa: PTH100 (links are kept as they are)
    home = Home(path)
    if len(os.fsencode(home.supervisor_socket)) > SOCKET_PATH_LIMIT:
        raise InvalidInput(
            f"The path of the home is too long for a unix socket: {path}",
            hint="Set GATLING_HOME to a shorter path (up to 77 characters).",
        )
    if any(c in str(path) for c in "\n\r\0\"'\\$;{}%#"):
        raise InvalidInput(
            f"The path of the home has a character that nginx cannot take: {str(path)!r}",
            hint="Set GATLING_HOME to a path of letters, digits, blanks, '.', '_' and '-'.",
        )
    return home


def open_home(root: Path | None = None) -> Home:
    """The home at `root` (default: `default_root()`), created when it does not exist.

    Raises InvalidInput for a path that cannot hold one.
    """
    home = find_home(root)
    path = home.root
    own = ("apps", "bin", "run", "supervisor", "supervisor/apps", "nginx")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in ("bin", "run") if home.server else own:
            (path / directory).mkdir(mode=0o700, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InvalidInput(f"The home is not a directory: {path}") from None
    except OSError as error:
        raise InvalidInput(f"The home cannot be written: {path}: {error.strerror}.") from None
    _write_command(home)
    return home


def _write_command(home: Home) -> None:
    """(Re)write bin/gatling when this installation is not the one it calls."""
    text = (
        "#!/bin/sh\n"
        "# Runs the Gatling installation that this home belongs to. Written by it.\n"
        'GATLING_HOME=$(CDPATH="" cd "$(dirname "$0")/.." && pwd) || exit 1\n'
        "export GATLING_HOME\n"
        # -I: neither the directory nor PYTHON* variables of whoever pushes may add code
        f'exec {shlex.quote(sys.executable)} -I -m gatling "$@"\n'
    )
    try:
        if home.command.read_text() == text:
            return
    except OSError:
        pass
    files.write(home.command, text, mode=0o700)


@contextlib.contextmanager
def exclusively(home: Home, what: str) -> Iterator[None]:
    """One process at a time for `what`; the lock (flock(2)) dies with the process that has it."""
    with files.locked(home.run / f"{what}.lock"):
        yield
