"""Backups of an embedded home's databases, and the repository that has them.

databases/.backups/         the repository of pgBackRest, or its locks
databases/.repository.json  the repository on another machine, if there is one; with secrets
databases/.proof/           throw-away clusters, into which backups are restored
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from gatling import files, process
from gatling.cleanup import finally_
from gatling.paths import exclusively
from gatling.platform.embedded import postgres_programs as programs
from gatling.platform.postgres import answers, repository, worker
from gatling.platform.postgres.pgbackrest import Backup
from gatling.platform.postgres.sites import Forked, Made, Restored, Site, Upgraded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.platform.postgres.clusters import Cluster, Policy
    from gatling.platform.postgres.repository import Repository
    from gatling.platform.postgres.sites import Chosen, ForkWish

LIST_SECONDS = 300.0
BACKUP_SECONDS = 2 * 86400.0
"""More than all steps of a backup and its proof may take together."""
_WORKER = (sys.executable, "-I", "-S", str(worker.__file__))


class OwnRepository:
    """The repository of a home; pgBackRest runs in processes of its own (worker.py)."""

    def __init__(self, home: EmbeddedHome) -> None:
        self._home = home
        self._settings = home.databases / ".repository.json"
        self._directory = home.databases / ".backups"

    def site(self, cluster: Cluster, data: Path, sockets: Path, own: Path) -> Site:
        """The places of a cluster's backups."""
        return Site(
            cluster.database, cluster.label,
            str(programs.program(cluster.version, "postgres").parent),
            str(data), str(sockets), str(own), str(self._directory), str(self._settings),
            str(self._home.databases / ".proof" / cluster.label),
        )  # fmt: skip

    def back_up(self, site: Site, policy: Policy, say: Callable[[str], None]) -> Made:
        """Make a backup and prove it."""
        request = {"verb": "backup", "site": asdict(site), **asdict(policy)}
        return Made(**_work(request, say))

    def backups(self, database: str) -> list[Backup]:
        """The backups of a database."""
        if not self._settings.exists() and not (self._directory / "backup").is_dir():
            return []
        request = {"verb": "list", "database": database, "repository": str(self._directory),
                   "settings": str(self._settings)}  # fmt: skip
        return [Backup(**one) for one in _listed(request)["backups"]]

    def restore(
        self, site: Site, source: Site, chosen: Chosen, say: Callable[[str], None]
    ) -> Restored:
        """Restore a backup into a new cluster, whose site comes first."""
        request = {"verb": "restore", "site": asdict(site), "source": asdict(source),
                   "chosen": asdict(chosen)}  # fmt: skip
        return Restored(**_work(request, say))

    def await_end(self, label: str, say: Callable[[str], None]) -> None:
        """Wait until a program that a killed command has left no longer works on a cluster."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        with files.open_lock(self._directory / f".{label}.lock") as lock:
            if not files.try_lock(lock):
                say("Waiting for an earlier attempt to end")
                with files.locked(self._directory / f".{label}.lock"):
                    pass

    def fork(
        self, site: Site, source: Site, role: str, wish: ForkWish, say: Callable[[str], None]
    ) -> Forked:
        """Fork a running cluster into a new one, whose site comes first."""
        request = {"verb": "fork", "site": asdict(site), "source": asdict(source), "role": role,
                   "wish": asdict(wish)}  # fmt: skip
        return Forked(**_work(request, say))

    def upgrade(
        self, old: Site, new: Site, say: Callable[[str], None], *, rehearsal: bool
    ) -> Upgraded:
        """Upgrade a cluster into a new one, or rehearse that."""
        request = {"verb": "rehearse" if rehearsal else "upgrade", "site": asdict(new),
                   "source": asdict(old)}  # fmt: skip
        return Upgraded(**_work(request, say))

    def get(self) -> Repository:
        """The place of backups, without secrets."""
        return repository.load(str(self._settings)).public

    def set(self, wanted: Repository, *, keep: bool) -> None:
        """Set the place of backups once it can be used; `keep` the passphrase that is recorded."""
        file = self._settings
        with exclusively(self._home, "repository"):
            if keep:
                passphrase = repository.load(str(file)).passphrase
                wanted = dataclasses.replace(wanted, passphrase=passphrase)
            repository.checked(wanted)
            if wanted.is_usual:
                file.unlink(missing_ok=True)
                return
            file.parent.mkdir(mode=0o700, exist_ok=True)
            new = file.with_name(".repository.new")
            files.write(new, repository.text(wanted))
            with finally_(lambda: new.unlink(missing_ok=True)):
                _listed({"verb": "check", "settings": str(new), "repository": str(self._directory)})
                new.rename(file)
                files.sync(file.parent)


def _work(request: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """The answer of the program that makes and restores backups."""
    answer = answers.Answer(say)
    argv = [*_WORKER, json.dumps(request)]
    done = process.run(
        argv, timeout=BACKUP_SECONDS, env=programs.environment(), on_line=answer.take,
        check=False, nice=process.BACKGROUND,
    )  # fmt: skip
    return answer.result(done.tail)


def _listed(request: dict[str, Any]) -> dict[str, Any]:
    """The answer of the program that lists backups."""
    argv = [*_WORKER, json.dumps(request)]
    return answers.last(process.output(argv, env=programs.environment(), timeout=LIST_SECONDS))
