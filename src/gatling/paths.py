"""The paths that every kind of home has. The platforms define their layouts.

platform/embedded/home.py and platform/server/home.py show theirs.
"""

from __future__ import annotations

import abc
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gatling import files

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = Path("/var/lib/gatling")
"""Everything of a server's home; root's, with directories of the users who write there."""


class _OfApp(NamedTuple):
    home: Path
    name: str


class AppPaths(_OfApp, abc.ABC):
    """The paths of one app; each kind of home has its own layout."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def repository(self) -> Path:
        """The bare repository that is pushed to."""

    @property
    @abc.abstractmethod
    def root(self) -> Path:
        """Everything of the app, the repository perhaps excepted."""

    @property
    @abc.abstractmethod
    def cache(self) -> Path:
        """The directory of files that are compiled once for each toolchain."""

    @property
    @abc.abstractmethod
    def cache_anchor(self) -> Path:
        """The directory above `cache` that is Gatling's alone; below it no link is followed."""

    @property
    @abc.abstractmethod
    def work(self) -> Path:
        """The directory in which nodes of the app and Gatling exchange files."""

    @property
    @abc.abstractmethod
    def work_mode(self) -> int:
        """The mode of a file there that both write."""

    @abc.abstractmethod
    def temporary(self, slot: int | str) -> str:
        """The temporary directory of the instance in a slot, as it sees it, to be created."""

    @property
    @abc.abstractmethod
    def temporary_once(self) -> str:
        """The temporary directory of one-off commands, which may not exist yet."""

    @abc.abstractmethod
    def dumps(self, slot: int | str) -> Path:
        """The directory of a slot's crash dump, by its path inside the instance."""

    @abc.abstractmethod
    def private(self, slot: int | str) -> tuple[str, ...]:
        """Directories that the instance in a slot has for itself, as it sees them."""

    @property
    @abc.abstractmethod
    def hook_command(self) -> str:
        """How the repository's hook calls Gatling."""

    @property
    def lock(self) -> Path:
        """Held (flock) by the one deployment that is under way."""
        return self.root / "lock"

    @property
    def watch_lock(self) -> Path:
        """Held by the process that watches a release after its deployment."""
        return self.root / "watch.lock"

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

    @property
    def logs(self) -> Path:
        """Logs of deployments and jobs."""
        return self.root / "logs"

    def job_log(self, job: str) -> Path:
        """The log of a job's runs, with time and release."""
        return self.logs / f"job-{job}.log"

    @property
    def jobs(self) -> Path:
        """Files that are locked while jobs run."""
        return self.root / "jobs"

    def deployment_log(self, deployment: int) -> Path:
        """The whole output of one deployment."""
        return self.logs / f"deployment-{deployment}.log"

    def deployment_probe(self, deployment: int) -> Path:
        """The requests of the prober during one deployment."""
        return self.logs / f"deployment-{deployment}.probe"


class _OfHome(NamedTuple):
    root: Path


class Home(_OfHome, abc.ABC):
    """A home directory; platform/homes.py finds and creates it."""

    __slots__ = ()

    @abc.abstractmethod
    def app(self, name: str) -> AppPaths:
        """The paths of one app; `name` must have been validated."""

    @property
    @abc.abstractmethod
    def directories(self) -> tuple[str, ...]:
        """The directories of every home, which are created with mode 0700."""

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """Names the home to a person who may have meant another one; empty for a machine's only."""

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


@contextlib.contextmanager
def exclusively(home: Home, what: str) -> Iterator[None]:
    """One process at a time for `what`; the lock (flock(2)) dies with the process that has it."""
    with files.locked(home.run / f"{what}.lock"):
        yield


@contextlib.contextmanager
def exclusively_or_not(home: Home, what: str) -> Iterator[bool]:
    """The same without waiting: whether this is the process for `what`."""
    with files.open_lock(home.run / f"{what}.lock") as file:
        yield files.try_lock(file)
