"""Databases of a server: clusters of postgresql-common, made by root's helper."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatling import process
from gatling.errors import CommandFailed, HelperFailed, InvalidInput
from gatling.platform.base import Task
from gatling.platform.limits import Limits
from gatling.platform.postgres import clusters
from gatling.platform.postgres.answers import Answer
from gatling.platform.postgres.clusters import OLDEST, Cluster, Facts, Kept
from gatling.platform.postgres.pgbackrest import Backup
from gatling.platform.postgres.points import Place
from gatling.platform.postgres.repository import Repository
from gatling.platform.postgres.sites import Forked, Made, Restored, Upgraded
from gatling.platform.postgres.volume import Volume
from gatling.platform.server import cluster_units as places
from gatling.platform.server import units
from gatling.platform.server.helper import client
from gatling.platform.server.tasks import attend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gatling.platform.postgres.clusters import Policy
    from gatling.platform.postgres.sites import Chosen, ForkWish
    from gatling.platform.server.home import ServerHome

SHELL_LIMITS = Limits(memory="25%", tasks=64)


class UnitDatabases:
    """Implements `Databases`; see there for the calls."""

    def __init__(self, home: ServerHome) -> None:
        self._home = home

    def versions(self) -> list[int]:
        """See Databases."""
        found = [program.parents[1].name for program in places.PROGRAMS.glob("*/bin/postgres")]
        return sorted((int(name) for name in found if name.isdecimal() and int(name) >= OLDEST),
                      reverse=True)  # fmt: skip

    def offered(self) -> int | None:
        """See Databases."""
        shown = process.run(["apt-cache", "show", "--no-all-versions", "postgresql"], timeout=60,
                            check=False)  # fmt: skip
        found = re.search(r"^Depends: .*?\bpostgresql-(\d+)\b", shown.text, re.MULTILINE)
        return int(found[1]) if found else None

    def can_install(self, version: int) -> bool:
        """Whether the package lists of this host offer a version."""
        words = ["apt-cache", "show", "--no-all-versions", f"postgresql-{version}"]
        return process.run(words, timeout=60, check=False).status == 0

    def install(self, version: int | None, say: Callable[[str], None]) -> None:
        """See Databases: by root's helper."""
        arguments = {"version": str(version) if version else ""}
        answer, tail, _ = asked(lambda: attend("database-install", arguments, say))
        if answer.get("status") != 0:
            raise CommandFailed("PostgreSQL was not installed.", log=tail)

    def check(self, database: str) -> None:
        """See Databases."""

    def exists(self, cluster: Cluster) -> bool:
        """See Databases."""
        return places.configuration(cluster).is_dir() and not places.restored(cluster).exists()

    def create(self, cluster: Cluster, apps: Mapping[str, str]) -> None:
        """See Databases."""
        _ask("database-create", cluster, apps=dict(apps))

    def allow(self, cluster: Cluster, apps: Mapping[str, str]) -> None:
        """See Databases."""
        _ask("database-access", cluster, apps=dict(apps))

    def url(self, app: str, database: str) -> str:
        """See Databases."""
        return clusters.url(units.user(app), database, str(places.SOCKETS / database))

    def facts(self, cluster: Cluster) -> Facts:
        """See Databases."""
        return Facts(**_ask("database-facts", cluster))

    def shell(self, app: str, cluster: Cluster, words: Sequence[str]) -> Task:
        """See Databases: as the app's user, in its sandbox."""
        paths = self._home.app(app)
        program = places.PROGRAMS / str(cluster.version) / "bin" / "psql"
        connected = ["--host", str(places.SOCKETS / cluster.database),
                     "--username", units.user(app), "--dbname", cluster.database]  # fmt: skip
        env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(paths.state)}
        return Task(paths, "run", [str(program), *connected, *words], env, paths.state,
                    limits=SHELL_LIMITS)  # fmt: skip

    def keep(self, cluster: Cluster, stamp: str) -> Kept:
        """See Databases."""
        return Kept(**_ask("database-keep", cluster, stamp=stamp))

    def keep_former(self, cluster: Cluster, stamp: str) -> Kept:
        """See Databases."""
        return Kept(**_ask("database-keep-former", cluster, stamp=stamp))

    def backup(
        self, cluster: Cluster, apps: Mapping[str, str], policy: Policy, say: Callable[[str], None]
    ) -> Made:
        """See Databases: in a unit of its own."""
        answer = Answer(say)
        arguments = _named(cluster) | {"apps": dict(apps), **asdict(policy)}
        _, tail, _ = asked(lambda: attend("database-backup", arguments, answer.take))
        return Made(**answer.result(tail))

    def backups(self, database: str) -> list[Backup]:
        """See Databases."""
        found = _ask("database-backups", Cluster(database, OLDEST))["backups"]
        return [Backup(**one) for one in found]

    def restore(
        self, cluster: Cluster, source: Cluster, chosen: Chosen, say: Callable[[str], None]
    ) -> Restored:
        """See Databases: in a unit of its own."""
        if self.exists(cluster):  # killed when all was done: apps may have had access to it
            self.allow(cluster, {})
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            self.remove(cluster, self.keep(cluster, stamp).path)
        answer = Answer(say)
        arguments = _named(cluster) | {
            "source": source.database, "source_generation": source.generation,
            "stanza": chosen.stanza, "label": chosen.label, "bytes": chosen.bytes,
            "target": chosen.target, "point": chosen.point,
        }  # fmt: skip
        _, tail, _ = asked(lambda: attend("database-restore", arguments, answer.take))
        return Restored(**answer.result(tail))

    def fork(
        self,
        cluster: Cluster,
        source: Cluster,
        apps: Mapping[str, str],
        wish: ForkWish,
        say: Callable[[str], None],
    ) -> Forked:
        """See Databases: in a unit of its own."""
        if self.exists(cluster):  # killed when all was done
            self.remove(cluster, "")
        answer = Answer(say)
        arguments = _named(cluster) | {
            "source": source.database, "source_generation": source.generation, "apps": dict(apps),
            **asdict(wish),
        }  # fmt: skip
        _, tail, _ = asked(lambda: attend("database-fork", arguments, answer.take))
        return Forked(**answer.result(tail))

    def own(self, cluster: Cluster) -> None:
        """See Databases."""
        _ask("database-own", cluster)

    def upgrade(
        self, old: Cluster, new: Cluster, say: Callable[[str], None], *, rehearsal: bool
    ) -> Upgraded:
        """See Databases: in a unit of its own."""
        answer = Answer(say)
        arguments = _named(old) | {"to_version": new.version, "to_generation": new.generation,
                                   "rehearsal": rehearsal}  # fmt: skip
        _, tail, _ = asked(lambda: attend("database-upgrade", arguments, answer.take))
        return Upgraded(**answer.result(tail))

    def retire(self, cluster: Cluster) -> None:
        """See Databases."""
        _ask("database-retire", cluster)

    def is_left(self, cluster: Cluster) -> bool:
        """See Databases."""
        if not places.data(cluster).is_dir():  # its volume is not mounted, say
            return False
        start = places.configuration(cluster) / "start.conf"
        return places.restored(cluster).exists() or (
            start.exists() and start.read_text().strip() == places.MANUAL
        )

    def analyze(self, cluster: Cluster) -> None:
        """See Databases."""
        _ask("database-analyze", cluster)

    def point(self, cluster: Cluster, name: str) -> Place:
        """See Databases."""
        return Place(**_ask("database-point", cluster, name=name))

    def can_back_up(self) -> bool:
        """See Databases."""
        return Path("/usr/bin/pgbackrest").exists()

    def install_backups(self, say: Callable[[str], None]) -> None:
        """See Databases: by root's helper."""
        answer, tail, _ = asked(lambda: attend("database-backup-install", {}, say))
        if answer.get("status") != 0:
            raise CommandFailed("pgBackRest was not installed.", log=tail)

    def repository(self) -> Repository:
        """See Databases."""
        return Repository(**asked(lambda: client.ask("database-repository")))

    def set_repository(self, wanted: Repository, *, keep: bool) -> None:
        """See Databases: by root's helper, which alone reads the secrets again."""
        arguments = {"repository": asdict(wanted), "keep": keep}
        asked(lambda: client.ask("database-repository-set", **arguments))

    def volume(self, action: str, count: int = 0, *, move: bool = False) -> Volume:
        """See Databases: by root's helper."""
        arguments = {"action": action, "bytes": count, "move": move}
        return Volume(**asked(lambda: client.ask("database-volume", **arguments)))

    def can_create_volume(self) -> bool:
        """See Databases."""
        return Path("/usr/sbin/mkfs.xfs").exists()

    def install_volume(self, say: Callable[[str], None]) -> None:
        """See Databases: by root's helper."""
        answer, tail, _ = asked(lambda: attend("database-volume-install", {}, say))
        if answer.get("status") != 0:
            raise CommandFailed("xfsprogs was not installed.", log=tail)

    def remove(self, cluster: Cluster, kept: str) -> None:
        """See Databases."""
        _ask("database-remove", cluster, kept=kept)


def _ask(verb: str, cluster: Cluster, **arguments: Any) -> dict[str, Any]:
    answer: dict[str, Any] = asked(lambda: client.ask(verb, **_named(cluster), **arguments))
    return answer


def _named(cluster: Cluster) -> dict[str, Any]:
    return {"database": cluster.database, "version": cluster.version,
            "generation": cluster.generation}  # fmt: skip


def asked(request: Callable[[], Any]) -> Any:
    """The answer to a request; an error that the user can correct becomes an InvalidInput."""
    try:
        return request()
    except HelperFailed as error:
        if error.reason == client.INVALID:
            raise InvalidInput(error.what, hint=error.hint) from None
        raise
