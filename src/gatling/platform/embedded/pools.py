"""Pools of connections of an embedded home: a PgBouncer for each app, run by supervisord.

pools/APP/                  configuration, log, and the socket of the pool
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
from typing import TYPE_CHECKING

from gatling import files, process, times
from gatling.errors import CommandFailed, InvalidInput, MissingProgram
from gatling.paths import exclusively
from gatling.platform import users
from gatling.platform.embedded import configuration, pooler
from gatling.platform.postgres import clusters
from gatling.platform.postgres import pooler as text
from gatling.platform.postgres.clusters import PORT, SOCKET_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.platform.embedded.supervisord import Supervisord

START_SECONDS = 30.0
DEBIAN = "/usr/sbin"
"""The directory of Debian's PgBouncer, which is not on the PATH of every user."""


class OwnPools:
    """Implements `Pools`; see there for the calls."""

    def __init__(self, home: EmbeddedHome, programs: Supervisord) -> None:
        self._home = home
        self._programs = programs

    def version(self) -> tuple[int, int] | None:
        """See Pools."""
        program = _program()
        if program is None:
            return None
        return text.version(process.run([program, "--version"], timeout=30, check=False).text)

    def install(self, say: object) -> None:  # noqa: ARG002
        """See Pools: only root can."""
        raise _missing()

    def check(self, app: str) -> None:
        """See Pools."""
        if os.geteuid() == 0:
            raise InvalidInput(
                "PgBouncer does not run as root, and this home is root's.",
                hint="Use Gatling as another user, or `gatling server install` for a server.",
            )
        place = self._directory(app)
        if len(os.fsencode(place)) > SOCKET_BYTES:
            raise InvalidInput(
                f"The path of the home is too long for the socket of a pool: {self._home.root}",
                hint="Set GATLING_HOME to a shorter path.",
            )
        if not re.fullmatch(r"[ -~]+", str(place)):
            raise InvalidInput(
                f"PgBouncer cannot use the path of this home: {self._home.root}",
                hint="Set GATLING_HOME to a path in plain ASCII.",
            )

    def url(self, app: str, database: str) -> str:
        """See Pools."""
        return clusters.url(users.of_app(app), database, str(self._directory(app)))

    def exists(self, app: str) -> bool:
        """See Pools."""
        return self._conf(app).exists() or self._directory(app).exists()

    def set(self, app: str, databases: Sequence[str], size: int) -> None:
        """See Pools."""
        program, version = _program(), self.version()
        if program is None or version is None:
            raise _missing()
        directory, name = self._directory(app), program_name(app)
        wanted = text.configuration(
            users.of_app(app), str(directory),
            {one: str(self._home.databases / one / "current" / "socket") for one in databases},
            size, prepared=version >= text.PREPARED, pid_file=str(directory / pooler.PID_FILE),
        )  # fmt: skip
        with exclusively(self._home, f"pool-{app}"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(directory / pooler.CONFIGURATION, wanted)
            _write(self._conf(app), configuration.pool(name, directory, program))
            if not self._programs.running():
                return
            self._programs.update()
            if self._programs.has_ended(name):
                self._programs.start(name)
            # always: a command may have been killed after it wrote
            if (pid := pooler.running(directory)) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGHUP)
            self._wait(app)

    def remove(self, app: str) -> None:
        """See Pools."""
        with exclusively(self._home, f"pool-{app}"):
            self._programs.stop(program_name(app), text.STOP_SECONDS)
            self._conf(app).unlink(missing_ok=True)
            if self._programs.running():
                self._programs.update()
            shutil.rmtree(self._directory(app), ignore_errors=True)

    def _wait(self, app: str) -> None:
        """Wait until the pool of an app takes connections."""
        address = str(self._directory(app) / f".s.PGSQL.{PORT}")
        for _ in times.looks(START_SECONDS, 0.02):
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
                if probe.connect_ex(address) == 0:
                    return
        log = self._directory(app) / configuration.POOL_LOG
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        raise CommandFailed(f"The pool of {app} does not start.", log=lines[-10:])

    def _directory(self, app: str) -> Path:
        return self._home.root / "pools" / app

    def _conf(self, app: str) -> Path:
        return self._home.supervisor / "apps" / f"_pool-{app}.conf"


def program_name(app: str) -> str:
    """The name of a pool's program in supervisord; that of an app's slot has a dot."""
    return f"pool-{app}"


def _program() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:{DEBIAN}")


def _missing() -> MissingProgram:
    return MissingProgram(
        "PgBouncer, which pools connections, is not installed.",
        hint="On Debian and Ubuntu: `sudo apt install pgbouncer`, then"
        " `sudo systemctl disable --now pgbouncer`, because Gatling runs its own.",
    )


def _write(file: Path, wanted: str) -> None:
    """Give a file this text, unless it has it already."""
    if not file.exists() or file.read_text() != wanted:
        files.write(file, wanted)
