"""A cluster's place in the repository of backups, which pgBackRest calls its stanza.

All programs of pgBackRest that read or write the repository for one cluster are started here.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import files, process
from gatling.errors import CommandFailed, InvalidInput
from gatling.platform.postgres import pgbackrest, repository
from gatling.platform.postgres.sites import archive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.platform.postgres.pgbackrest import Backup
    from gatling.platform.postgres.sites import Site

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/",
               "PGCONNECT_TIMEOUT": "10"}  # fmt: skip
"""The environment of pgBackRest's and PostgreSQL's programs."""
LONG_SECONDS = 12 * 3600.0
"""The time limit of each long step: a backup, a restore, a comparison."""
SHORT_SECONDS = 120.0
LOCK_TAKEN = 50
"""pgBackRest's exit status while another one works on the same cluster."""


class Stanza:
    """The stanza of one cluster. It has no name before the cluster's identity is known."""

    def __init__(self, site: Site, config: Path) -> None:
        self._site = site
        self._config = config
        self.name = ""
        self.remote = repository.load(site.settings)

    @contextlib.contextmanager
    def exclusively(self) -> Iterator[None]:
        """One backup of a cluster at a time; raises InvalidInput while another is made."""
        place = Path(self._site.repository)
        place.mkdir(mode=0o700, exist_ok=True)
        with files.open_lock(place / f".{self._site.label}.lock") as lock:
            if not files.try_lock(lock):
                raise self._taken()
            yield

    def prepare(self) -> None:
        """Have the cluster archive its log to the repository."""
        place = Path(self._site.repository)
        for directory in (place, place / ".lock", place / ".spool"):
            directory.mkdir(mode=0o700, exist_ok=True)
        self._config.parent.mkdir(mode=0o700, exist_ok=True)
        self._configure()
        program = shutil.which("pgbackrest", path=ENVIRONMENT["PATH"]) or "pgbackrest"
        script, text = (
            archive(self._site.own),
            pgbackrest.archiving(program, str(self._config), self.name),
        )
        if not script.exists() or script.read_text() != text:
            files.write(script, text)

    def backups(self) -> list[Backup]:
        """The backups of the cluster, oldest first."""
        report = self.run("info", "--output=json")
        return [one for one in pgbackrest.backups(report, self._site.database)
                if one.stanza == self.name]  # fmt: skip

    def annotate(self, backup: Backup, **notes: str) -> None:
        """Record notes with a backup; an empty one is removed."""
        words = [f"--annotation={name}={value}" for name, value in notes.items()]
        self.run("annotate", f"--set={backup.label}", *words)

    def expire(self, count: int, days: int) -> None:
        """Remove old backups: all but `count` full ones and those of the last `days` days."""
        full = pgbackrest.kept(self.backups(), count, days, time.time())
        self.run("expire", f"--repo1-retention-full={full}", seconds=LONG_SECONDS)

    def run(
        self, verb: str, *words: str, seconds: float = SHORT_SECONDS, config: Path | None = None
    ) -> str:
        """The output of a command of pgBackRest.

        Raises InvalidInput while another one works on the cluster, and CommandFailed.
        """
        argv = ["pgbackrest", f"--config={config or self._config}", f"--stanza={self.name}",
                verb, *words]  # fmt: skip
        try:
            return process.output(argv, env=ENVIRONMENT, timeout=seconds)
        except CommandFailed as error:
            if error.status == LOCK_TAKEN:  # of a program that outlives the one that started it
                raise self._taken() from None
            said = repository.explained("\n".join(error.log), self.remote)
            if said is not None:
                raise CommandFailed(said.what, hint=said.hint, status=error.status) from None
            raise

    def _configure(self) -> None:
        """Write the configuration by which the cluster archives its log, if it can be used.

        One that cannot be used would let the log pile up.
        """
        site, used = self._site, self._config
        wanted = pgbackrest.configuration(self.name, site.data, site.sockets, site.repository,
                                          self.remote.options(site.repository))  # fmt: skip
        if used.exists() and used.read_text() == wanted:
            self._create(used)
            return
        new = used.with_name("pgbackrest.conf.new")
        files.write(new, wanted)
        try:
            self._create(new)
        except BaseException:
            new.unlink()
            raise
        new.rename(used)
        files.sync(used.parent)

    def _create(self, config: Path) -> None:
        """Have pgBackRest make the stanza, if it is not there.

        One that is half made, by a program that was killed or lost its connection, is made again:
        pgBackRest itself refuses it.
        """
        try:
            self.run("stanza-create", config=config)
        except CommandFailed:
            if not self._is_half_made(config):
                raise
            self.run("stop", config=config)
            try:
                self.run("stanza-delete", "--force", config=config)
            finally:  # also one that was stopped, and then killed
                self.run("start", config=config)
            self.run("stanza-create", config=config)

    def _is_half_made(self, config: Path) -> bool:
        """Whether the repository has nothing of the cluster but some of the first files."""
        found: set[str] = set()
        for kind in ("archive", "backup"):
            argv = ["pgbackrest", f"--config={config}", "repo-ls", "--output=json", "--recurse",
                    f"{kind}/{self.name}"]  # fmt: skip
            try:
                listed = json.loads(process.output(argv, env=ENVIRONMENT, timeout=SHORT_SECONDS))
            except CommandFailed:
                return False
            found |= {name for name, one in listed.items() if one["type"] != "path"}
        return bool(found) and found < pgbackrest.INFO_FILES

    def _taken(self) -> InvalidInput:
        return InvalidInput(f"A backup of {self._site.database} is already being made.")
