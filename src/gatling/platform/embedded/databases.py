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
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import files, process
from gatling.cleanup import cleaning, finally_
from gatling.errors import InvalidInput, MissingProgram
from gatling.platform import users
from gatling.platform.embedded import postgres_programs as programs
from gatling.platform.embedded.own_clusters import (
    KEPT,
    MAP,
    RELOAD,
    START_SECONDS,
    OwnClusters,
    program_name,
)
from gatling.platform.embedded.repository import OwnRepository
from gatling.platform.postgres import dump, points, settings, sql
from gatling.platform.postgres.clusters import (
    OWNER,
    Kept,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.platform.embedded.supervisord import Supervisord
    from gatling.platform.postgres.clusters import Cluster, Policy
    from gatling.platform.postgres.pgbackrest import Backup
    from gatling.platform.postgres.points import Place
    from gatling.platform.postgres.repository import Repository
    from gatling.platform.postgres.sites import (
        Chosen,
        Forked,
        ForkWish,
        Made,
        Restored,
        Site,
        Upgraded,
    )
    from gatling.platform.postgres.volume import Volume


class OwnDatabases(OwnClusters):
    """Implements `Databases`; see there for the calls."""

    def __init__(self, home: EmbeddedHome, programs: Supervisord) -> None:
        super().__init__(home, programs)
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

    def keep(self, cluster: Cluster, stamp: str) -> Kept:
        """See Databases."""
        return self._keep(cluster, f"{cluster.database}-{stamp}.dump")

    def _keep(self, cluster: Cluster, name: str) -> Kept:
        found = self.facts(cluster)
        self._need_room(found.bytes, "The last copy of the database")
        directory = self._home.databases / KEPT
        directory.mkdir(mode=0o700, exist_ok=True)
        final = directory / name
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

    def keep_former(self, cluster: Cluster, stamp: str) -> Kept:
        """See Databases: supervisord runs it in place of the one that is used."""
        self._there(cluster)
        if not programs.program(cluster.version, "postgres").exists():
            raise InvalidInput(f"PostgreSQL {cluster.version} is not installed any more.")
        with self._alone(cluster), finally_(
            lambda: self._programs.stop(program_name(cluster.database), START_SECONDS)
        ):  # fmt: skip
            self._programs.stop(program_name(cluster.database), START_SECONDS)
            self._write_settings(cluster, {})
            self._start(cluster)
            return self._keep(cluster, f"{cluster.label}-{stamp}.dump")

    def backup(
        self, cluster: Cluster, apps: Mapping[str, str], policy: Policy, say: Callable[[str], None]
    ) -> Made:
        """See Databases."""
        self._there(cluster)
        with self._alone(cluster):
            self._configure(cluster, apps)
            said = self._start(cluster, f"{RELOAD}SHOW archive_mode;\n")
            if said.split()[-1] != "on":
                say("Restarting the database once, so that it can archive its log")
                self._programs.stop(program_name(cluster.database), START_SECONDS)
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
            self._start(source, RELOAD)
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

    def can_install(self, version: int) -> bool:  # noqa: ARG002
        """See Databases: only root can."""
        return False

    def upgrade(
        self, old: Cluster, new: Cluster, say: Callable[[str], None], *, rehearsal: bool
    ) -> Upgraded:
        """See Databases."""
        self._there(old)
        sites = self._site(old), self._site(new)
        if rehearsal:
            with self._alone(old):  # the settings of an earlier Gatling allow no base backup
                hba = self._data(old) / "pg_hba.conf"
                files.write(hba, settings.authentication(old.database, MAP))
                self._start(old, RELOAD)
            return self._repository.upgrade(*sites, say, rehearsal=True)
        with self._alone(old):
            directory = self._directory(new)
            if directory.exists():  # of an upgrade that was killed: nobody has had access to it
                shutil.rmtree(directory)
            directory.mkdir(mode=0o700, parents=True)
            if self._fork_note(old).exists():
                self._fork_note(new).touch()
            self._stop_for_good(old)
            try:
                return self._repository.upgrade(*sites, say, rehearsal=False)
            except BaseException as error:
                with cleaning(error):
                    self._start(old)
                raise

    def retire(self, cluster: Cluster) -> None:
        """See Databases."""
        with self._alone(cluster):
            self._stop_for_good(cluster)

    def _stop_for_good(self, cluster: Cluster) -> None:
        """Stop a cluster, which supervisord must not start again when the home is started."""
        self._programs.stop(program_name(cluster.database), START_SECONDS)
        self._conf(cluster.database).unlink(missing_ok=True)

    def is_left(self, cluster: Cluster) -> bool:
        """See Databases."""
        conf = self._conf(cluster.database)
        return self.exists(cluster) and not (
            conf.exists() and str(self._data(cluster)) in conf.read_text()
        )

    def analyze(self, cluster: Cluster) -> None:
        """See Databases."""
        script = f"SET ROLE {OWNER};\nSET client_min_messages = error;\nANALYZE;\n"
        self._query(cluster, script, cluster.database)

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

    def volume(self, action: str, count: int = 0, *, move: bool = False) -> Volume:  # noqa: ARG002
        """See Databases: only root can mount file systems."""
        raise InvalidInput(
            "Only a server has a volume for databases.",
            hint="Put the home on XFS or btrfs: forks then share their files with the original.",
        )

    def can_create_volume(self) -> bool:
        """See Databases."""
        return False

    def install_volume(self, say: Callable[[str], None]) -> None:
        """See Databases: `volume` raises before."""

    def _site(self, cluster: Cluster) -> Site:
        return self._repository.site(
            cluster, self._data(cluster), self._sockets(cluster), self._own(cluster)
        )

    def remove(self, cluster: Cluster, kept: str) -> None:
        """See Databases."""
        with self._alone(cluster):
            data = self._data(cluster)
            is_fork = self._fork_note(cluster).exists()
            if data.is_dir() and not is_fork and not Path(kept).is_file():
                raise InvalidInput(f"There is no last copy of {cluster.database}.")
            link = self._link(cluster.database)
            if link.is_symlink() and str(link.readlink()) != str(cluster.generation):
                self._discard(cluster)  # another one is used, which goes after this one
                return
            self._conf(cluster.database).unlink(missing_ok=True)
            if self._programs.running() and self._programs.knows(program_name(cluster.database)):
                self._programs.stop(program_name(cluster.database), START_SECONDS)
                self._programs.update()
            link.unlink(missing_ok=True)
            place = self._discard(cluster).parent
            if place.exists():
                shutil.rmtree(place)

    def _discard(self, cluster: Cluster) -> Path:
        """Remove the directory of a cluster, which has its name no longer while that lasts."""
        directory = self._directory(cluster)
        gone = directory.with_name(f".{cluster.generation}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        if directory.exists():
            directory.rename(gone)
            shutil.rmtree(gone)
        return directory

    def _fork_note(self, cluster: Cluster) -> Path:
        return self._directory(cluster) / "fork"
