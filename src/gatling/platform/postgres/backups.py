"""Backups of a cluster with pgBackRest, each proved by a restore into a throw-away cluster.

It runs as the OS user of the cluster. A backup counts once it was restored, its log replayed up to
a restore point, and everything in it compared with the database at that moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shlex
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import files, process, times
from gatling.errors import (
    CommandFailed,
    DiskFull,
    GatlingError,
    InvalidInput,
    MissingProgram,
    TimedOut,
)
from gatling.platform.postgres import pgbackrest, proof, settings, tablespaces
from gatling.platform.postgres.clusters import PORT, READER, SUPERUSER
from gatling.platform.postgres.pgbackrest import DOUBTED, PROVED, REFUTED, ROWS, TABLES
from gatling.platform.postgres.session import Session
from gatling.platform.postgres.sites import Made
from gatling.platform.postgres.stanza import ENVIRONMENT, LONG_SECONDS, SHORT_SECONDS, Stanza
from gatling.times import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatling.platform.postgres.pgbackrest import Backup
    from gatling.platform.postgres.proof import Moment, Outcome, Sample
    from gatling.platform.postgres.sites import Chosen, Site

QUIET_SECONDS, BUSY_SECONDS = 5.0, 30.0
"""How long a moment is looked for in which nothing is written, and in which nothing ends."""
ARCHIVE_SECONDS = 90.0
NOT_ARCHIVED = 82
"""pgBackRest's exit status when the log of a backup did not come."""
FULL_DAYS = 7
"""The age of a full backup from which on the next backup is a full one."""
COPY_SETTINGS = {
    "listen_addresses": "", "port": str(PORT), "ssl": "off", "archive_mode": "off",
    "hot_standby": "off", "autovacuum": "off", "shared_buffers": "64MB", "work_mem": "8MB",
    "maintenance_work_mem": "32MB", "max_connections": "10", "max_worker_processes": "4",
    "fsync": "off", "full_page_writes": "off", "jit": "off", "logging_collector": "off",
    "log_destination": "stderr", "external_pid_file": "", "lc_messages": "C",
    "shared_preload_libraries": "", "max_parallel_workers": "0",
}  # fmt: skip
"""The throw-away cluster takes little, writes only to its own directory, and is never kept."""


class Backups:
    """The backups of one cluster."""

    def __init__(self, site: Site, say: Callable[[str], None]) -> None:
        self._site = site
        self._say = say
        self._user = pwd.getpwuid(os.geteuid()).pw_name
        self._scratch = Path(site.scratch)
        self._copy = self._scratch / "data"
        self._settings = COPY_SETTINGS
        self._roles = [READER]
        self._stanza = Stanza(site, Path(site.own) / "pgbackrest.conf")

    def make(self, *, full: bool, count: int, days: int) -> Made:
        """Make a backup, prove it, and remove old ones once it is proved.

        Raises InvalidInput, DiskFull and MissingProgram before anything is written, and
        CommandFailed for a backup that could not be made.
        """
        with self._stanza.exclusively():
            self._check_room(self._prepare())
            began, before = time.monotonic(), self._stanza.backups()
            kind = "full" if full or _needs_full(before, time.time()) else "incr"
            self._say(f"Copying the database ({kind})")
            self._back_up(kind)
            labels = {one.label for one in before}
            new = [one for one in self._stanza.backups() if one.label not in labels]
            if not new:
                raise CommandFailed("pgBackRest reported success, and there is no new backup.")
            copied = time.monotonic()
            outcome = self._prove(new[-1])
            made = next(one for one in self._stanza.backups() if one.label == new[-1].label)
            proved = time.monotonic()
            if made.state == "proved":
                self._stanza.expire(count, days)
        return Made(
            self._stanza.name, made.label, made.kind, made.bytes, made.stored, made.state,
            made.reason, made.tables, made.rows, outcome.written, outcome.migrations,
            copied - began, proved - copied,
            sum(1 for one in self._stanza.backups() if one.kind == "full"),
        )  # fmt: skip

    def _back_up(self, kind: str) -> None:
        try:
            self._stanza.run("backup", f"--type={kind}", seconds=LONG_SECONDS)
        except CommandFailed as error:
            if error.status == NOT_ARCHIVED:  # archive a segment that waits: it fails for the cause
                log = Path(self._site.data) / "pg_wal"
                for waiting in sorted((log / "archive_status").glob("*.ready"))[:1]:
                    self._stanza.run("archive-push", str(log / waiting.stem))
            raise

    def _prepare(self) -> int:
        """Have the cluster archive its log to the repository; the size of the database."""
        site = self._site
        if shutil.which("pgbackrest", path=ENVIRONMENT["PATH"]) is None:
            raise MissingProgram(
                "pgBackRest, which makes backups, is not installed.",
                hint="On Debian and Ubuntu: `sudo apt install pgbackrest`.",
            )
        script = proof.state(site.database) + proof.reader(site.database)
        system, mode, size = self._psql(script).split()
        if mode != "on":
            raise InvalidInput(
                f"The database {site.database} has to be restarted once before its first backup."
            )
        self._stanza.name = pgbackrest.stanza(site.label, system)
        self._stanza.prepare()
        return int(size)

    def _check_room(self, size: int) -> None:
        """Raise DiskFull where a full copy, or the throw-away cluster, has no room."""
        self._scratch.parent.mkdir(mode=0o700, exist_ok=True)
        if not self._stanza.remote.is_remote:
            self._check_place(Path(self._site.repository), size, "A backup")
        self._check_place(self._scratch.parent, size, "The proof of a backup")

    def _check_place(self, place: Path, size: int, what: str) -> None:
        free, wanted = shutil.disk_usage(place).free, size + files.RESERVE_BYTES
        if free < wanted:
            raise DiskFull(
                f"{what} needs {wanted >> 20} MB: {free >> 20} MB are free on the disk of {place}."
            )

    def flush(self) -> None:
        """Archive the log up to now, with a transaction at its end, if the cluster runs.

        A restore up to a time needs a later transaction to know that the time has passed.
        """
        try:
            self._await_archived(self._psql(proof.last_segment()).split()[-1])
        except CommandFailed as error:
            self._say(f"The newest part of the log may be missing: {error.what}")

    def check_replay(self, chosen: Chosen, stanza: Stanza) -> None:
        """Raise InvalidInput if a restore would write into a tablespace of the running cluster."""
        data = Path(self._site.data)
        if tablespaces.links(data):
            every = pgbackrest.backups(stanza.run("info", "--output=json"), chosen.database)
            began = [one.started for one in every if one.label == chosen.label]
            until = "" if chosen.point else chosen.target
            tablespaces.check_replay(data, chosen.database, min(began, default=0), until)

    def _prove(self, backup: Backup) -> Outcome:
        """Prove a backup, and record the result in the repository."""
        try:
            outcome = self._proof(backup)
            if outcome.fault and not outcome.final:
                # a definition that was being changed looks like a fault
                self._say(f"{outcome.fault}: comparing it again")
                outcome = self._proof(backup)
        except GatlingError as error:
            doubt = " ".join([error.what, *error.log[-3:]])
            self._stanza.annotate(backup, **{DOUBTED: pgbackrest.note(doubt)})
            return proof.Outcome(doubt)
        if outcome.fault:
            self._stanza.annotate(backup, **{REFUTED: pgbackrest.note(outcome.fault), PROVED: ""})
        else:
            numbers = {TABLES: str(outcome.tables), ROWS: str(outcome.rows)}
            self._stanza.annotate(backup, **{PROVED: now(), REFUTED: "", DOUBTED: ""}, **numbers)
        return outcome

    def _proof(self, backup: Backup) -> Outcome:
        """Compare what a restore of a backup yields with the database."""
        self._clean()
        try:
            self._say("Reading the database for the comparison")
            tables, live, moment = self._live()
            self._await_archived(self._psql(proof.segment(moment.lsn)).split()[0])
            self._say("Restoring the backup into a throw-away cluster")
            is_restored = False
            try:
                self._restore(backup, moment)
                is_restored = True
                with self._running():
                    copy, migrations = self._read_copy(tables)
                self._program("pg_checksums", "--check", f"--pgdata={self._copy}")
            except TimedOut:
                raise
            except CommandFailed as error:
                self._check_room(0)  # a disk that is full refutes nothing
                # pgBackRest tries three times to restore a file before it reports an error
                final = not is_restored and (error.status or 0) > 0
                return proof.Outcome(" ".join([error.what, *error.log[-3:]]), final=final)
            written = [one.name for one in tables if one.oid in moment.written]
            found = proof.compare(live, copy, written)
            return proof.Outcome(found.fault, found.tables, found.rows, found.written, migrations)
        finally:
            self._clean()

    def _live(self) -> tuple[list[proof.Table], Sample, Moment]:
        """Read the database as it is at a restore point."""
        database = self._site.database
        with Session(self._psql_argv(READER, database), ENVIRONMENT) as reading:
            reading.ask(proof.STYLE + "\n", SHORT_SECONDS)
            with Session(self._psql_argv(SUPERUSER), ENVIRONMENT) as superuser:
                moment, snapshot = self._moment(reading, superuser)
            tables = proof.tables(reading.ask(proof.TABLES, SHORT_SECONDS)[0])
            dump = self._schema(self._site.sockets, f"--snapshot={snapshot}")
            output = reading.ask(proof.contents(tables), LONG_SECONDS)
        return tables, proof.sample(tables, proof.schema(dump), "\n".join(output)), moment

    def _moment(self, reading: Session, superuser: Session) -> tuple[Moment, str]:
        """A restore point that is the same as the snapshot of a session, and the snapshot's name.

        One is looked for at which no table is being written to.
        """
        name, tries, began = f"gatling-proof-{time.time_ns():x}", 0, time.monotonic()
        while time.monotonic() < began + BUSY_SECONDS:
            tries += 1
            snapshot, exported = reading.ask(proof.BEGIN, SHORT_SECONDS)[-1].split(" ")
            script = proof.point(self._site.database, f"{name}-{tries}")
            lsn, written, after = superuser.ask(script, SHORT_SECONDS)
            tables = frozenset(json.loads(written))
            late = time.monotonic() > began + QUIET_SECONDS
            if snapshot == after and (late or not tables):
                return proof.Moment(f"{name}-{tries}", lsn, tables), exported
            reading.ask("ROLLBACK;\n", SHORT_SECONDS)
        raise InvalidInput("the database is too busy for a comparison")

    def _await_archived(self, segment: str) -> None:
        """Wait until the log is in the repository up to a segment."""
        for _ in times.looks(ARCHIVE_SECONDS, 0.2):
            if self._psql(proof.archived(segment)).strip() == "t":
                return
        raise CommandFailed(f"The database {self._site.database} does not archive its log.")

    def _restore(self, backup: Backup, moment: Moment) -> None:
        # the log since the backup is replayed, up to the present
        tablespaces.check_replay(Path(self._site.data), self._site.database, backup.started)
        self._scratch.mkdir(mode=0o700)
        self._copy.mkdir(mode=0o700)
        self._stanza.run(
            "restore", f"--set={backup.label}", f"--pg1-path={self._copy}",
            "--type=name", f"--target={moment.name}", "--target-action=promote",
            "--archive-mode=off", *self._elsewhere(), seconds=LONG_SECONDS,
        )  # fmt: skip

    def _elsewhere(self) -> list[str]:
        """Options with which pgBackRest restores tablespaces beside a copy, and not in place."""
        place = self._scratch / "tablespaces"
        place.mkdir(mode=0o700)
        return [f"--tablespace-map-all={place}"]

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Run the throw-away cluster, which only the reader uses."""
        place = self._scratch
        (place / "s").mkdir(mode=0o700)
        (place / "postgresql.conf").write_text("")
        (place / "hba").write_text("local all all peer map=gatling\n")
        (place / "ident").write_text(settings.identities("gatling", self._user, self._roles))
        values = self._settings | {
            "config_file": str(place / "postgresql.conf"), "hba_file": str(place / "hba"),
            "ident_file": str(place / "ident"), "unix_socket_directories": str(place / "s"),
        }  # fmt: skip
        options = shlex.join(f"--{name}={value}" for name, value in values.items())
        log = place / "log"
        control = ["-D", str(self._copy), "-w", "-t", str(int(LONG_SECONDS))]
        try:
            self._program("pg_ctl", *control, "-l", str(log), "-o", options, "start")
            self._await_recovered()
        except CommandFailed:
            lines = log.read_text(errors="replace").splitlines()[-10:] if log.exists() else []
            fatal = [line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line]
            what = "The restored cluster does not start."
            raise CommandFailed(what, log=fatal or lines) from None
        try:
            yield
        finally:
            self._program("pg_ctl", *control, "-m", "fast", "stop")

    def _await_recovered(self) -> None:
        """Wait until the throw-away cluster has replayed its log, as its own file says."""
        file = self._copy / "postmaster.pid"
        for _ in times.looks(LONG_SECONDS, 0.1):
            try:
                if file.read_text().split("\n")[7].strip() == "ready":
                    return
            except FileNotFoundError:
                raise CommandFailed("PostgreSQL has ended.") from None
            except IndexError:  # it is being written
                pass
        raise TimedOut("The log was not replayed in time.")

    def _read_copy(self, tables: list[proof.Table]) -> tuple[Sample, str]:
        self._say("Comparing it with the database")
        sockets = str(self._scratch / "s")
        digest = proof.schema(self._schema(sockets))
        with Session(self._psql_argv(READER, self._site.database, sockets), ENVIRONMENT) as copy:
            copy.ask(proof.STYLE + "\n", SHORT_SECONDS)
            output = copy.ask(proof.contents(tables), LONG_SECONDS)
            migrations = ""
            if any(table.name == proof.MIGRATIONS_TABLE for table in tables):
                with contextlib.suppress(CommandFailed):  # not Ecto's
                    migrations = copy.ask(proof.MIGRATIONS, SHORT_SECONDS)[0]
        return proof.sample(tables, digest, "\n".join(output)), migrations

    def _schema(self, sockets: str, *options: str) -> str:
        return self._program(
            "pg_dump", "--schema-only", "--host", sockets, "--port", str(PORT),
            "--username", READER, "--lock-wait-timeout=60s", *options, self._site.database,
        )  # fmt: skip

    def _clean(self) -> None:
        """Stop and remove a throw-away cluster, also one that a killed proof has left."""
        if (self._copy / "postmaster.pid").exists():
            with contextlib.suppress(CommandFailed):
                self._program("pg_ctl", "-D", str(self._copy), "-m", "immediate", "-w", "stop")
        if self._scratch.exists():
            shutil.rmtree(self._scratch)

    def _psql(self, script: str) -> str:
        argv = self._psql_argv(SUPERUSER)
        return process.output(argv, env=ENVIRONMENT, timeout=SHORT_SECONDS,
                              stdin=f"SET search_path = '';\n{script}")  # fmt: skip

    def _psql_argv(self, role: str, database: str = SUPERUSER, sockets: str = "") -> list[str]:
        return [str(Path(self._site.programs) / "psql"), "--no-psqlrc", "--quiet", "--no-align",
                "--tuples-only", "--set=ON_ERROR_STOP=1", "--host", sockets or self._site.sockets,
                "--port", str(PORT), "--username", role, "--dbname", database]  # fmt: skip

    def _program(self, name: str, *words: str) -> str:
        argv = [str(Path(self._site.programs) / name), *words]
        return process.output(argv, env=ENVIRONMENT, timeout=LONG_SECONDS)


def _needs_full(every: list[Backup], at: float) -> bool:
    """Whether the next backup has nothing sound and recent to build on."""
    full = [one for one in every if one.kind == "full"]
    if not full or full[-1].stopped < at - FULL_DAYS * 86400:
        return True
    chain = [one for one in every if one.label.startswith(full[-1].label)]
    return any(one.state == "refuted" for one in chain)
