"""Upgrading a cluster to another major version with pg_upgrade, into a new data directory.

It runs as the OS user of the clusters. The old data directory stays as it is: files are copied, not
moved. The new one has its name only once everything in it was compared with the old one.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import files, process
from gatling.errors import CommandFailed, DiskFull, InvalidInput
from gatling.platform.postgres import cloning, pgbackrest, proof, scratch, settings, tablespaces
from gatling.platform.postgres.backups import COPY_SETTINGS, Backups
from gatling.platform.postgres.clusters import PORT, READER, SUPERUSER
from gatling.platform.postgres.restoring import DURABLE
from gatling.platform.postgres.session import Session
from gatling.platform.postgres.sites import Upgraded, archive
from gatling.platform.postgres.stanza import ENVIRONMENT, LONG_SECONDS, SHORT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from gatling.platform.postgres.proof import Sample, Table
    from gatling.platform.postgres.sites import Site

REPORTS = "pg_upgrade_output.d/**/*.txt"
"""The files, in the new data directory, in which pg_upgrade lists what it cannot upgrade."""
LOGS = "pg_upgrade_output.d/**/pg_upgrade_dump_*.log"
"""The logs of the programs that pg_upgrade starts for each database."""
LINES = 10
DEFINITIONS = """\
WITH n AS (SELECT oid, nspname FROM pg_namespace WHERE nspname <> 'information_schema'
           AND nspname NOT LIKE 'pg\\_%')
SELECT format('%s %I.%I', c.relkind, n.nspname, c.relname) FROM pg_class c
  JOIN n ON n.oid = c.relnamespace
UNION ALL SELECT format('column %I.%I.%I %s', n.nspname, c.relname, a.attname, concat_ws(' ',
    format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef, a.attidentity, a.attgenerated))
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  JOIN n ON n.oid = c.relnamespace
  WHERE a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT format('index %I.%I %s', n.nspname, c.relname, concat_ws(' ', i.indrelid::regclass,
    i.indisunique, i.indisprimary, i.indisvalid, i.indkey))
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
  JOIN n ON n.oid = c.relnamespace
UNION ALL SELECT format('constraint %I.%I %s', n.nspname, o.conname, concat_ws(' ', o.contype,
    o.conrelid::regclass, o.conkey, nullif(o.confrelid, 0)::regclass, o.confkey, o.convalidated))
  FROM pg_constraint o JOIN n ON n.oid = o.connamespace
  WHERE o.contype <> 'n'
UNION ALL SELECT format('function %I.%I(%s) %s', n.nspname, p.proname,
    pg_get_function_identity_arguments(p.oid), md5(p.prosrc))
  FROM pg_proc p JOIN n ON n.oid = p.pronamespace
UNION ALL SELECT format('trigger %I on %s: %s %s', t.tgname, t.tgrelid::regclass,
    t.tgfoid::regproc, t.tgenabled)
  FROM pg_trigger t WHERE NOT t.tgisinternal
UNION ALL SELECT format('value %s of %I.%I', e.enumlabel, n.nspname, t.typname)
  FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid
  JOIN n ON n.oid = t.typnamespace
UNION ALL SELECT format('sequence %I.%I %s %s', s.schemaname, s.sequencename, s.last_value,
    s.increment_by) FROM pg_sequences s
UNION ALL SELECT format('policy %I on %s', y.polname, y.polrelid::regclass) FROM pg_policy y
UNION ALL SELECT format('extension %I %s', x.extname, x.extversion) FROM pg_extension x
UNION ALL SELECT format('setting %s of %s in %s', v.setting, coalesce(r.rolname, 'all'),
    coalesce(d.datname, 'all'))
  FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase
  LEFT JOIN pg_roles r ON r.oid = s.setrole CROSS JOIN unnest(s.setconfig) AS v (setting);
"""
"""A line for each definition. Versions print views, and defaults, in different ways; and not-null
constraints have names in later ones."""


class Side(Backups):
    """One of the two clusters, while only this program uses it."""

    def __init__(self, site: Site, data: Path, scratch: Path, values: dict[str, str]) -> None:
        super().__init__(site, lambda _: None)
        self.data = self._copy = data
        self._scratch, self._settings = scratch, values
        self._roles = [READER, SUPERUSER]

    def options(self) -> str:
        """Options of the server with which pg_upgrade runs this cluster."""
        place = self._scratch
        place.mkdir(mode=0o700, exist_ok=True)
        (place / "postgresql.conf").write_text("")
        (place / "hba").write_text("local all all peer map=gatling\n")
        (place / "ident").write_text(settings.identities("gatling", self._user, self._roles))
        values = {"config_file": "postgresql.conf", "hba_file": "hba", "ident_file": "ident"}
        return shlex.join(f"-c{name}={place / file}" for name, file in values.items())

    def read(self, tables: list[Table] | None) -> tuple[list[Table], Sample, list[str], str]:
        """Its tables, what they contain, its definitions, and Ecto's migrations.

        `tables` are those that are compared; None for all that there are.
        """
        self._scratch.mkdir(mode=0o700, exist_ok=True)
        shutil.rmtree(self._scratch / "s", ignore_errors=True)
        with self._running():
            sockets, database = str(self._scratch / "s"), self._site.database
            with Session(self._psql_argv(READER, database, sockets), ENVIRONMENT) as reading:
                reading.ask(proof.STYLE + "\n", SHORT_SECONDS)
                definitions = reading.ask(DEFINITIONS, SHORT_SECONDS)
                found = proof.tables(reading.ask(proof.TABLES, SHORT_SECONDS)[0])
                # large tables are counted in the same cases, whatever their sizes have become
                used = found if tables is None else tables
                lines = reading.ask(proof.contents(used), LONG_SECONDS)
                migrations = ""
                if any(one.name == proof.MIGRATIONS_TABLE for one in found):
                    with contextlib.suppress(CommandFailed):  # not Ecto's
                        migrations = reading.ask(proof.MIGRATIONS, SHORT_SECONDS)[0]
        content = proof.sample(used, "", "\n".join(lines))
        return found, content, definitions, migrations


class Upgrade:
    """The upgrade of one cluster to another version, whose site is the second one."""

    def __init__(self, old: Site, new: Site, say: Callable[[str], None]) -> None:
        self._old, self._new, self._say = old, new, say
        self._scratch = Path(f"{new.scratch}.upgrade")
        self._result = Path(f"{new.data}.new")

    def rehearse(self) -> Upgraded:
        """Upgrade a copy of the running cluster, compare both, and remove all of it again.

        Raises InvalidInput and DiskFull before anything is written, and CommandFailed with
        pg_upgrade's reasons.
        """
        source, copy = Path(self._old.data), self._scratch / "old"
        with self._alone():
            tablespaces.check_none(source, self._old.database)
            self._need_room(2 if cloning.possible(source, self._scratch.parent) else 3)
            # before its roles are read: the comparison of an earlier Gatling may not have been made
            script = f"SET search_path = '';\n{proof.reader(self._old.database)}"
            self._run_old("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1",
                          "--dbname", SUPERUSER, stdin=script)  # fmt: skip
            self._say(f"Copying {self._old.database} for a rehearsal")
            self._run_old("pg_basebackup", f"--pgdata={copy}", "--checkpoint=fast",
                          "--wal-method=stream", "--no-password", "--no-manifest")  # fmt: skip
            old = Side(self._old, copy, self._scratch / "a", COPY_SETTINGS)
            new = Side(self._new, self._scratch / "new", self._scratch / "b", COPY_SETTINGS)
            return self._upgrade(old, new)

    def run(self) -> Upgraded:
        """Upgrade the cluster, which is stopped. Raises as `rehearse`."""
        with self._alone():
            if Path(self._new.data).exists():
                raise InvalidInput(f"The new cluster of {self._new.database} is there already.")
            place, source = self._result.parent, Path(self._old.data)
            near = place if place.exists() else place.parent
            self._need_room(0 if cloning.possible(source, near) else 1)
            if not place.exists():
                place.mkdir(parents=True)
                place.chmod(0o755)
            old = Side(self._old, source, self._scratch / "a", DURABLE)
            new = Side(self._new, self._result, self._scratch / "b", DURABLE)
            done = self._upgrade(old, new)
            shutil.rmtree(self._result / "pg_upgrade_output.d", ignore_errors=True)
            self._result.rename(self._new.data)
            files.sync(place)
        return done

    def _upgrade(self, old: Side, new: Side) -> Upgraded:
        self._say("Reading the database for the comparison")
        tables, before, defined, migrations = old.read(None)
        version = Path(self._new.programs)
        process.output(
            [str(version / "initdb"), f"--pgdata={new.data}", *settings.LOCALE,
             f"--username={SUPERUSER}", "--data-checksums", "--auth=reject"],
            env=ENVIRONMENT, timeout=LONG_SECONDS,
        )  # fmt: skip
        self._check_backups(new)
        how = " by copy-on-write" if cloning.possible(old.data, new.data.parent) else ""
        self._say(f"Upgrading with pg_upgrade{how}")
        began = time.monotonic()
        self._pg_upgrade(old, new)
        seconds = time.monotonic() - began
        shutil.copy(old.data / "postgresql.auto.conf", new.data / "postgresql.auto.conf")
        self._say("Comparing both")
        _, after, now_defined, migrated = new.read(tables)
        wrong = proof.compare(before, after, ()).fault or _difference(defined, now_defined)
        if not wrong and migrations != migrated:
            wrong = "the migrations differ"
        if wrong:
            raise CommandFailed(f"The upgraded database is not the same: {wrong}.")
        rows = sum(count for count, _ in after.tables.values())
        return Upgraded(len(after.tables), rows, migrations, seconds)

    def _check_backups(self, new: Side) -> None:
        """Raise InvalidInput if pgBackRest is too old to back the new cluster up."""
        if not archive(self._old.own).exists():  # it was never backed up
            return
        repository, config = self._scratch / "repository", self._scratch / "pgbackrest.conf"
        repository.mkdir(mode=0o700)
        config.write_text(
            pgbackrest.configuration(
                "check", str(new.data), str(self._scratch), str(repository), {}
            )
        )
        argv = ["pgbackrest", f"--config={config}", "--stanza=check", "--no-online",
                "stanza-create"]  # fmt: skip
        try:
            process.output(argv, env=ENVIRONMENT, timeout=SHORT_SECONDS)
        except CommandFailed as error:
            raise InvalidInput(
                f"{self._old.database} was not upgraded, because the installed pgBackRest cannot"
                f" back up the new version: {' '.join(error.log[:1]) or error.what}",
                hint="Install a later pgBackRest, for example from the packages of postgresql.org.",
            ) from None

    def _pg_upgrade(self, old: Side, new: Side) -> None:
        sockets = self._scratch / "u"
        sockets.mkdir(mode=0o700, exist_ok=True)
        argv = [
            str(Path(self._new.programs) / "pg_upgrade"),
            f"--old-bindir={self._old.programs}", f"--new-bindir={self._new.programs}",
            f"--old-datadir={old.data}", f"--new-datadir={new.data}",
            f"--old-options={old.options()}", f"--new-options={new.options()}",
            f"--socketdir={sockets}", f"--username={SUPERUSER}", "--jobs=2",
            f"--old-port={PORT}", f"--new-port={PORT}",
        ]  # fmt: skip
        if cloning.possible(old.data, new.data.parent):  # both clusters stay complete
            argv.append("--clone")
        done = process.run(argv, cwd=self._scratch, env=ENVIRONMENT, timeout=LONG_SECONDS,
                           check=False)  # fmt: skip
        if done.status == 0:
            return
        lines = [line for line in done.tail if line.strip()][-LINES:]
        for report in sorted(new.data.glob(REPORTS)):
            lines += [line for line in report.read_text(errors="replace").splitlines()[:LINES]
                      if line.strip()]  # fmt: skip
        for report in sorted(new.data.glob(LOGS)):
            said = report.read_text(errors="replace").splitlines()
            lines += [line for line in said if "error:" in line.lower()][:LINES]
        raise CommandFailed(
            f"pg_upgrade cannot upgrade {self._old.database} to another version.", log=lines
        )

    def _run_old(self, program: str, *words: str, stdin: str = "") -> None:
        argv = [str(Path(self._old.programs) / program), *words, "--host", self._old.sockets,
                "--port", str(PORT), "--username", SUPERUSER]  # fmt: skip
        process.output(argv, env=ENVIRONMENT, timeout=LONG_SECONDS, stdin=stdin)

    def _need_room(self, times: int) -> None:
        size = sum(file.stat().st_size for file in Path(self._old.data).glob("base/*/*"))
        place = self._scratch.parent
        free, wanted = shutil.disk_usage(place).free, times * size + files.RESERVE_BYTES
        if free < wanted:
            raise DiskFull(
                f"An upgrade needs {wanted >> 20} MB: {free >> 20} MB are free on the disk of"
                f" {place}."
            )

    def _alone(self) -> AbstractContextManager[None]:
        lock = f".{self._new.label}.upgrade.lock"
        busy = f"{self._old.database} is already being upgraded."
        return scratch.alone(self._scratch, lock, busy, self._clean)

    def _clean(self) -> None:
        """Stop and remove what an upgrade has left, also one that was killed."""
        for data, site in (
            (self._scratch / "old", self._old), (self._scratch / "new", self._new),
            (self._result, self._new), (Path(self._old.data), self._old),
        ):  # fmt: skip
            # the old cluster itself only if a killed upgrade has started it for itself
            log = self._scratch / "a" / "log"
            if (data / "postmaster.pid").exists() and (data != Path(self._old.data) or (
                log.exists() and str(self._scratch) in (data / "postmaster.opts").read_text()
            )):  # fmt: skip
                with contextlib.suppress(CommandFailed):
                    process.output(
                        [str(Path(site.programs) / "pg_ctl"), "-D", str(data), "-m", "fast", "-w",
                         "stop"],
                        env=ENVIRONMENT, timeout=SHORT_SECONDS,
                    )  # fmt: skip
        for place in (self._scratch, self._result):
            if place.exists():
                shutil.rmtree(place)


def _difference(before: list[str], after: list[str]) -> str:
    """The first lines in which two sets of definitions differ, in words; empty: they are equal."""
    lost, new = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    return f"the definitions differ: {', '.join((lost + new)[:2])}" if lost or new else ""
