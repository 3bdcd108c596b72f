"""The clusters of an embedded home, each of which supervisord runs."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from typing import TYPE_CHECKING

from gatling import files, process, times
from gatling.errors import CommandFailed, DiskFull, InvalidInput
from gatling.paths import exclusively
from gatling.platform import users
from gatling.platform.base import Task
from gatling.platform.embedded import configuration
from gatling.platform.embedded import postgres_programs as programs
from gatling.platform.postgres import clusters, settings, sql
from gatling.platform.postgres.clusters import (
    PORT,
    READER,
    SOCKET_BYTES,
    SUPERUSER,
    Facts,
)
from gatling.platform.postgres.sites import archive

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.platform.embedded.supervisord import Supervisord
    from gatling.platform.postgres.clusters import Cluster

START_SECONDS = 60.0
INIT_SECONDS = 300.0
QUERY_SECONDS = 3600.0
RELOAD = "SELECT pg_reload_conf();\n"
KEPT = "kept"
"""The directory of last copies, among those of the databases."""
MAP = "gatling"
"""The map of pg_ident.conf: the home's user takes the roles of its apps."""
MOST_SHARED_MB = 4096
"""A home is one of several things that its user runs: a quarter of the settings of a server."""


class OwnClusters:
    """Makes, starts and asks them. Of `Databases`; see there for the calls."""

    def __init__(self, home: EmbeddedHome, programs: Supervisord) -> None:
        self._home = home
        self._programs = programs

    def check(self, database: str) -> None:
        """See Databases."""
        if os.geteuid() == 0:
            raise InvalidInput(
                "PostgreSQL does not run as root, and this home is root's.",
                hint="Use Gatling as another user, or `gatling server install` for a server.",
            )
        if database == KEPT:
            raise InvalidInput(f"The name {KEPT} is taken.", hint="Use `--name` for another name.")
        if len(os.fsencode(self._link(database) / "socket")) > SOCKET_BYTES:
            raise InvalidInput(
                f"The path of the home is too long for the socket of a database: {self._home.root}",
                hint="Set GATLING_HOME to a shorter path, or use a shorter name.",
            )

    def exists(self, cluster: Cluster) -> bool:
        """See Databases."""
        return self._data(cluster).is_dir()

    def create(self, cluster: Cluster, apps: Mapping[str, str]) -> None:
        """See Databases."""
        self.check(cluster.database)
        with self._alone(cluster):
            data = self._data(cluster)
            if not data.is_dir():
                self._need_room(settings.LEAST_BYTES, "A database")
                self._initialize(cluster)
            self._configure(cluster, apps)
            setup = RELOAD + sql.setup(cluster.database)
            self._start(cluster, setup + sql.access(cluster.database, _roles(apps)))

    def allow(self, cluster: Cluster, apps: Mapping[str, str]) -> None:
        """See Databases."""
        self._there(cluster)
        with self._alone(cluster):
            self._configure(cluster, apps)
            self._start(cluster, RELOAD + sql.access(cluster.database, _roles(apps)))

    def url(self, app: str, database: str) -> str:
        """See Databases."""
        return clusters.url(users.of_app(app), database, str(self._link(database) / "socket"))

    def facts(self, cluster: Cluster) -> Facts:
        """See Databases."""
        self._there(cluster)
        found = json.loads(self._query(cluster, sql.facts(cluster.database)))
        dead = json.loads(self._query(cluster, sql.DEAD, cluster.database))
        return Facts(**found, **dead, free_bytes=shutil.disk_usage(self._data(cluster)).free)

    def shell(self, app: str, cluster: Cluster, words: Sequence[str]) -> Task:
        """See Databases."""
        paths = self._home.app(app)
        argv = [str(programs.program(cluster.version, "psql")),
                "--host", str(self._link(cluster.database) / "socket"), "--port", str(PORT),
                "--username", users.of_app(app), "--dbname", cluster.database, *words]  # fmt: skip
        return Task(paths, "run", argv, programs.environment(), paths.root)

    def _initialize(self, cluster: Cluster) -> None:
        """Make the data directory; under its name only when it is complete."""
        data = self._data(cluster)
        new = data.with_name("data.new")
        shutil.rmtree(new, ignore_errors=True)
        data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        process.run(
            [str(programs.program(cluster.version, "initdb")), f"--pgdata={new}", *settings.LOCALE,
             f"--username={SUPERUSER}", "--data-checksums", "--auth=reject"],
            timeout=INIT_SECONDS, env=programs.environment(),
        )  # fmt: skip
        new.rename(data)
        files.sync(data.parent)

    def _configure(self, cluster: Cluster, apps: Mapping[str, str]) -> None:
        """Write the settings of a cluster, and let its database stand for it."""
        self._write_settings(cluster, apps)
        link = self._link(cluster.database)
        if not link.is_symlink() or str(link.readlink()) != str(cluster.generation):
            new = link.with_name("current.new")
            new.unlink(missing_ok=True)
            new.symlink_to(str(cluster.generation))
            new.rename(link)

    def _write_settings(self, cluster: Cluster, apps: Mapping[str, str]) -> None:
        data, sockets = self._data(cluster), self._sockets(cluster)
        sockets.mkdir(mode=0o700, exist_ok=True)
        memory = min(settings.machine_memory() // 4, MOST_SHARED_MB)
        roles = {SUPERUSER, READER, *_roles(apps)}
        script = archive(str(self._own(cluster)))
        for name, text in (
            ("postgresql.conf", settings.configuration(str(sockets), memory, str(script))),
            ("pg_hba.conf", settings.authentication(cluster.database, MAP)),
            ("pg_ident.conf", settings.identities(MAP, pwd.getpwuid(os.geteuid()).pw_name, roles)),
        ):
            if (data / name).read_text() != text:
                files.write(data / name, text)

    def _start(self, cluster: Cluster, script: str = "SELECT 1;\n") -> str:
        """Have supervisord run the cluster, and run a script once it takes queries; its output."""
        self._programs.ensure_running()
        conf = self._conf(cluster.database)
        text = configuration.database(
            program_name(cluster.database), self._data(cluster),
            str(programs.program(cluster.version, "postgres")), self._log(cluster.database),
        )  # fmt: skip
        before = conf.read_text() if conf.exists() else ""
        if before and str(self._data(cluster)) not in before:
            # a command was killed while another cluster of the database ran
            self._programs.stop(program_name(cluster.database), START_SECONDS)
        if before != text:
            files.write(conf, text)
        self._programs.update()
        if self._programs.has_ended(program_name(cluster.database)):
            self._programs.start(program_name(cluster.database))
        for last in times.looks(START_SECONDS, 0.1):
            try:
                return self._query(cluster, script)
            except CommandFailed as error:
                if error.status not in (None, sql.NOT_CONNECTED):  # None: it exceeded its time
                    raise
                if last:
                    log = self._log(cluster.database)
                    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
                    raise CommandFailed(
                        f"The database {cluster.database} does not start.",
                        log=[*error.log, *lines[-10:]],
                    ) from None
        raise AssertionError  # the last look has returned or raised

    def _query(
        self, cluster: Cluster, script: str, database: str = SUPERUSER, *,
        seconds: float = QUERY_SECONDS,
    ) -> str:  # fmt: skip
        """Run a script of SQL as the superuser; its output."""
        words = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1",
                 *self._bound(cluster), "--dbname", database]  # fmt: skip
        script = f"SET search_path = '';\n{script}"
        return self._run(cluster, "psql", *words, stdin=script, seconds=seconds)

    def _run(
        self, cluster: Cluster, program: str, *words: str, stdin: str = "",
        seconds: float = QUERY_SECONDS,
    ) -> str:  # fmt: skip
        argv = [str(programs.program(cluster.version, program)), *words]
        return process.output(argv, env=programs.environment(), timeout=seconds, stdin=stdin)

    def _bound(self, cluster: Cluster) -> list[str]:
        return ["--host", str(self._sockets(cluster)), "--port", str(PORT),
                "--username", SUPERUSER]  # fmt: skip

    def _there(self, cluster: Cluster) -> None:
        if not self.exists(cluster):
            raise InvalidInput(f"The database {cluster.database} is not in this home.")

    def _need_room(self, least: int, what: str) -> None:
        free, wanted = shutil.disk_usage(self._home.root).free, least + files.RESERVE_BYTES
        if free < wanted:
            raise DiskFull(
                f"{what} needs {wanted >> 20} MB: {free >> 20} MB are free on the disk of"
                f" {self._home.root}."
            )

    def _alone(self, cluster: Cluster) -> AbstractContextManager[None]:
        self._home.databases.mkdir(mode=0o700, exist_ok=True)
        return exclusively(self._home, f"database-{cluster.database}")

    def _directory(self, cluster: Cluster) -> Path:
        return self._home.databases / cluster.database / str(cluster.generation)

    def _own(self, cluster: Cluster) -> Path:
        return self._directory(cluster) / "backup"

    def _data(self, cluster: Cluster) -> Path:
        return self._directory(cluster) / "data"

    def _sockets(self, cluster: Cluster) -> Path:
        return self._directory(cluster) / "socket"

    def _link(self, database: str) -> Path:
        return self._home.databases / database / "current"

    def _log(self, database: str) -> Path:
        return self._home.databases / database / "postgresql.log"

    def _conf(self, database: str) -> Path:
        return self._home.supervisor / "apps" / f"_database-{database}.conf"


def program_name(database: str) -> str:
    """The name of a database's program in supervisord; that of an app's slot has a dot."""
    return f"database-{database}"


def _roles(apps: Mapping[str, str]) -> dict[str, str]:
    return {users.of_app(app): kind for app, kind in apps.items()}
