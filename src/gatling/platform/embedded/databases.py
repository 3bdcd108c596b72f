"""Databases of an embedded home: clusters of its user's own, run by supervisord.

databases/NAME/1/data       the cluster; 2 is that of a restore, and so on
databases/NAME/1/socket     the directory of its socket
databases/NAME/1/fork       only of a fork, which may be removed without a last copy
databases/NAME/current      a link to the cluster that the database stands for
databases/kept/             last copies of databases that were removed

repository.py has the places of backups.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import files, process
from gatling.errors import CommandFailed, DiskFull, InvalidInput, MissingProgram
from gatling.paths import exclusively
from gatling.platform import users
from gatling.platform.base import Task
from gatling.platform.embedded import configuration
from gatling.platform.embedded import postgres_programs as programs
from gatling.platform.embedded.repository import OwnRepository
from gatling.platform.postgres import clusters, dump, points, settings, sql
from gatling.platform.postgres.clusters import (
    PORT,
    READER,
    SOCKET_BYTES,
    SUPERUSER,
    Facts,
    Kept,
)
from gatling.platform.postgres.sites import archive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.platform.embedded.supervisord import Supervisord
    from gatling.platform.postgres.clusters import Cluster, Policy
    from gatling.platform.postgres.pgbackrest import Backup
    from gatling.platform.postgres.points import Place
    from gatling.platform.postgres.repository import Repository
    from gatling.platform.postgres.sites import Chosen, Forked, ForkWish, Made, Restored, Site

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


class OwnDatabases:
    """Implements `Databases`; see there for the calls."""

    def __init__(self, home: EmbeddedHome, programs: Supervisord) -> None:
        self._home = home
        self._programs = programs
        self._repository = OwnRepository(home)

    def versions(self) -> list[int]:
        """See Databases."""
        return sorted(programs.installed(), reverse=True)

    def offered(self) -> int | None:
        """See Databases: only root can install packages."""
        return None

    def install(self, version: int | None, say: Callable[[str], None]) -> None:  # noqa: ARG002
        """See Databases: only root can."""
        wanted = f"postgresql-{version}" if version else "postgresql"
        raise MissingProgram(
            f"PostgreSQL{f' {version}' if version else ''} is not installed.",
            hint=f"On Debian and Ubuntu: `sudo apt install {wanted}`.",
        )

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
            self._start(cluster)
            setup = RELOAD + sql.setup(cluster.database)
            self._query(cluster, setup + sql.access(cluster.database, _roles(apps)))

    def allow(self, cluster: Cluster, apps: Mapping[str, str]) -> None:
        """See Databases."""
        self._there(cluster)
        with self._alone(cluster):
            self._configure(cluster, apps)
            self._start(cluster)
            self._query(cluster, RELOAD + sql.access(cluster.database, _roles(apps)))

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

    def keep(self, cluster: Cluster, stamp: str) -> Kept:
        """See Databases."""
        found = self.facts(cluster)
        self._need_room(found.bytes, "The last copy of the database")
        directory = self._home.databases / KEPT
        directory.mkdir(mode=0o700, exist_ok=True)
        final = directory / f"{cluster.database}-{stamp}.dump"
        new = directory / f".{cluster.database}.new"
        new.touch(mode=0o600)
        self._run(cluster, "pg_dump", "--format=custom", f"--file={new}", *self._bound(cluster),
                  "--dbname", cluster.database)  # fmt: skip
        with new.open("rb") as file:
            os.fsync(file.fileno())
        tables = json.loads(self._query(cluster, sql.TABLES, cluster.database))
        numbers = self._query(cluster, sql.counts(tables), cluster.database).split()
        expected = dict(zip(tables, map(int, numbers), strict=True))
        restored = [str(programs.program(cluster.version, "pg_restore")), "--data-only", "--file=-",
                    str(new)]  # fmt: skip
        copied = process.take_output(restored, dump.rows, env=programs.environment())
        if wrong := dump.difference(expected, copied):
            new.unlink()
            raise InvalidInput(f"The copy of {cluster.database} is not complete: {wrong}.")
        new.rename(final)
        files.sync(directory)
        return Kept(str(final), final.stat().st_size, len(tables), sum(expected.values()))

    def backup(
        self, cluster: Cluster, apps: Mapping[str, str], policy: Policy, say: Callable[[str], None]
    ) -> Made:
        """See Databases."""
        self._there(cluster)
        with self._alone(cluster):
            self._configure(cluster, apps)
            self._start(cluster)
            self._query(cluster, RELOAD)
            if self._query(cluster, "SHOW archive_mode;").strip() != "on":
                say("Restarting the database once, so that it can archive its log")
                self._programs.stop(_name(cluster.database), START_SECONDS)
                self._start(cluster)
        return self._repository.back_up(self._site(cluster), policy, say)

    def backups(self, database: str) -> list[Backup]:
        """See Databases."""
        return self._repository.backups(database)

    def restore(
        self, cluster: Cluster, source: Cluster, chosen: Chosen, say: Callable[[str], None]
    ) -> Restored:
        """See Databases."""
        self.check(cluster.database)
        self._repository.await_end(cluster.label, say)
        with self._alone(cluster):
            directory = self._directory(cluster)
            if directory.exists():  # of a restore that was killed: nobody has had access to it
                shutil.rmtree(directory)
            directory.mkdir(mode=0o700, parents=True)
        return self._repository.restore(self._site(cluster), self._site(source), chosen, say)

    def fork(
        self,
        cluster: Cluster,
        source: Cluster,
        apps: Mapping[str, str],
        wish: ForkWish,
        say: Callable[[str], None],
    ) -> Forked:
        """See Databases."""
        self.check(cluster.database)
        self._there(source)
        with self._alone(source):  # one of an older Gatling allowed no base backup
            self._configure(source, apps)
            self._start(source)
            self._query(source, RELOAD)
        self._repository.await_end(cluster.label, say)
        if self._directory(cluster).exists():  # of a fork that was killed
            self.remove(cluster, "")
        with self._alone(cluster):
            self._directory(cluster).mkdir(mode=0o700, parents=True)
            self._fork_note(cluster).touch()
        role = users.of_app(wish.app)
        return self._repository.fork(self._site(cluster), self._site(source), role, wish, say)

    def own(self, cluster: Cluster) -> None:
        """See Databases."""
        self._fork_note(cluster).unlink(missing_ok=True)
        files.sync(self._directory(cluster))

    def point(self, cluster: Cluster, name: str) -> Place:
        """See Databases."""
        self._there(cluster)
        said = self._query(cluster, points.create(name), seconds=points.SECONDS)
        return points.place(cluster.label, said)

    def can_back_up(self) -> bool:
        """See Databases."""
        return shutil.which("pgbackrest") is not None

    def install_backups(self, say: Callable[[str], None]) -> None:  # noqa: ARG002
        """See Databases: only root can."""
        raise MissingProgram(
            "pgBackRest, which makes backups, is not installed.",
            hint="On Debian and Ubuntu: `sudo apt install pgbackrest`.",
        )

    def repository(self) -> Repository:
        """See Databases."""
        return self._repository.get()

    def set_repository(self, wanted: Repository, *, keep: bool) -> None:
        """See Databases."""
        self._repository.set(wanted, keep=keep)

    def _site(self, cluster: Cluster) -> Site:
        return self._repository.site(
            cluster, self._data(cluster), self._sockets(cluster), self._own(cluster)
        )

    def _own(self, cluster: Cluster) -> Path:
        return self._directory(cluster) / "backup"

    def remove(self, cluster: Cluster, kept: str) -> None:
        """See Databases."""
        with self._alone(cluster):
            data = self._data(cluster)
            is_fork = self._fork_note(cluster).exists()
            if data.is_dir() and not is_fork and not Path(kept).is_file():
                raise InvalidInput(f"There is no last copy of {cluster.database}.")
            self._conf(cluster.database).unlink(missing_ok=True)
            if self._programs.running() and self._programs.knows(_name(cluster.database)):
                self._programs.stop(_name(cluster.database), START_SECONDS)
                self._programs.update()
            self._link(cluster.database).unlink(missing_ok=True)
            gone = data.parent.with_name(f".{cluster.generation}.gone")
            shutil.rmtree(gone, ignore_errors=True)
            if data.parent.exists():
                data.parent.rename(gone)
            if gone.parent.exists():
                shutil.rmtree(gone.parent)

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
        link = self._link(cluster.database)
        if not link.is_symlink():
            link.symlink_to(str(cluster.generation))

    def _start(self, cluster: Cluster) -> None:
        """Have supervisord run the cluster, and wait until it takes queries."""
        self._programs.ensure_running()
        conf = self._conf(cluster.database)
        text = configuration.database(
            _name(cluster.database), self._data(cluster),
            str(programs.program(cluster.version, "postgres")), self._log(cluster.database),
        )  # fmt: skip
        if not conf.exists() or conf.read_text() != text:
            files.write(conf, text)
        self._programs.update()
        if self._programs.has_ended(_name(cluster.database)):
            self._programs.start(_name(cluster.database))
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._query(cluster, "SELECT 1;")
            except CommandFailed as error:
                if time.monotonic() > deadline:
                    log = self._log(cluster.database)
                    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
                    raise CommandFailed(
                        f"The database {cluster.database} does not start.",
                        log=[*error.log, *lines[-10:]],
                    ) from None
                time.sleep(0.1)
            else:
                return

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

    def _data(self, cluster: Cluster) -> Path:
        return self._directory(cluster) / "data"

    def _sockets(self, cluster: Cluster) -> Path:
        return self._directory(cluster) / "socket"

    def _fork_note(self, cluster: Cluster) -> Path:
        return self._directory(cluster) / "fork"

    def _link(self, database: str) -> Path:
        return self._home.databases / database / "current"

    def _log(self, database: str) -> Path:
        return self._home.databases / database / "postgresql.log"

    def _conf(self, database: str) -> Path:
        return self._home.supervisor / "apps" / f"_database-{database}.conf"


def _name(database: str) -> str:
    """The name of a database's program in supervisord; that of an app's slot has a dot."""
    return f"database-{database}"


def _roles(apps: Mapping[str, str]) -> dict[str, str]:
    return {users.of_app(app): kind for app, kind in apps.items()}
