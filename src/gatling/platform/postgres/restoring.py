"""Restoring a backup, as of a moment, into the data directory of a new cluster.

The data directory has its name only when it is complete: recovered, with all checksums right.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import files
from gatling.errors import CommandFailed, InvalidInput
from gatling.platform.postgres import pgbackrest, proof, tablespaces
from gatling.platform.postgres.backups import COPY_SETTINGS, Backups
from gatling.platform.postgres.clusters import READER, SUPERUSER
from gatling.platform.postgres.session import Session
from gatling.platform.postgres.sites import Restored
from gatling.platform.postgres.sql import identifier
from gatling.platform.postgres.stanza import ENVIRONMENT, LONG_SECONDS, SHORT_SECONDS, Stanza

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.platform.postgres.sites import Chosen, Site

DURABLE = COPY_SETTINGS | {"fsync": "on", "full_page_writes": "on",
                           "log_timezone": "UTC"}  # fmt: skip
_LAST = re.compile(r"last completed transaction was at log time ([0-9: .-]+ UTC)")
_RECOVERY = ("restore_command", "recovery_target", "recovery_end_command", "archive_mode")


class Restore(Backups):
    """A restore into a new cluster, whose site this is."""

    def __init__(self, site: Site, say: Callable[[str], None]) -> None:
        super().__init__(site, say)
        self._copy = Path(f"{site.data}.new")
        self._settings = DURABLE
        self._roles = [READER, SUPERUSER]
        self._config = self._scratch / "pgbackrest.conf"
        self._stanza = Stanza(site, self._config)

    def run(self, chosen: Chosen, source: Backups) -> Restored:
        """Restore a backup. Raises InvalidInput and DiskFull before anything is written."""
        with self._stanza.exclusively():
            if Path(self._site.data).exists():
                raise InvalidInput(f"The database {self._site.database} is there already.")
            self._clean()
            try:
                return self._run(chosen, source)
            finally:
                self._clean()

    def _run(self, chosen: Chosen, source: Backups) -> Restored:
        self._copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_place(self._copy.parent, chosen.bytes, "The restored database")
        self._say("Archiving the log up to now")
        source.flush()
        self._scratch.parent.mkdir(mode=0o700, exist_ok=True)
        self._scratch.mkdir(mode=0o700)
        self._stanza.name = chosen.stanza
        repository = self._site.repository
        options = self._stanza.remote.options(repository)
        text = pgbackrest.configuration(chosen.stanza, str(self._copy), self._site.sockets,
                                        repository, options)  # fmt: skip
        files.write(self._config, text)
        source.check_replay(chosen, self._stanza)
        self._say(f"Restoring the backup {chosen.label}")
        self._copy.mkdir(mode=0o700)
        self._stanza.run("restore", f"--set={chosen.label}", *_target(chosen),
                         *self._elsewhere(), seconds=LONG_SECONDS)  # fmt: skip
        self._say("Replaying the log")
        with self._running():
            tables, rows = self._take_over(chosen)
        log = (self._scratch / "log").read_text(errors="replace")
        self._program("pg_checksums", "--check", f"--pgdata={self._copy}")
        self._without_recovery()
        self._copy.rename(self._site.data)
        files.sync(self._copy.parent)
        last = _LAST.findall(log)
        return Restored(tables, rows, last[-1] if last else "")

    def _take_over(self, chosen: Chosen) -> tuple[int, int]:
        """Give the database its new name, and count what is in it."""
        sockets, name = str(self._scratch / "s"), self._site.database
        with Session(self._psql_argv(SUPERUSER, sockets=sockets), ENVIRONMENT) as superuser:
            superuser.ask("SET search_path = '';\n", SHORT_SECONDS)
            if chosen.database != name:
                superuser.ask(f"ALTER DATABASE {identifier(chosen.database)}"
                              f" RENAME TO {identifier(name)};\n", SHORT_SECONDS)  # fmt: skip
        tablespaces.dissolve(self._superuser_of_copy)
        with Session(self._psql_argv(READER, name, sockets), ENVIRONMENT) as reading:
            reading.ask(proof.STYLE + "\n", SHORT_SECONDS)
            tables = proof.tables(reading.ask(proof.TABLES, SHORT_SECONDS)[0])
            counted = [proof.Table(one.oid, one.name, whole=False) for one in tables]
            lines = reading.ask(proof.contents(counted), LONG_SECONDS)
        return len(tables), sum(int(line.split(" ")[0]) for line in lines)

    def _superuser_of_copy(self, database: str) -> Session:
        sockets = str(self._scratch / "s")
        return Session(self._psql_argv(SUPERUSER, database, sockets), ENVIRONMENT)

    def _without_recovery(self) -> None:
        """Take out what the restore has put into the settings."""
        file = self._copy / "postgresql.auto.conf"
        lines = file.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(_RECOVERY)]
        files.write(file, "".join(kept))

    def _clean(self) -> None:
        super()._clean()
        if self._copy.exists():
            shutil.rmtree(self._copy)


def _target(chosen: Chosen) -> list[str]:
    """The options of pgBackRest for the end of the replay."""
    if not (chosen.target or chosen.point):
        return ["--type=default"]
    kind = "name" if chosen.point else "time"
    return [f"--type={kind}", f"--target={chosen.point or chosen.target}",
            "--target-action=promote"]  # fmt: skip


def explained(error: CommandFailed, chosen: Chosen) -> CommandFailed:
    """The error of a restore, in words where the log ends too early."""
    if any("recovery ended before configured recovery target" in line for line in error.log):
        return CommandFailed(
            f"The log in the repository ends before {chosen.target or 'that moment'}.",
            hint="Without `--to`, everything that the repository has is restored.",
        )
    return error
