"""A fork of a cluster: a new one with the data of now, or only with its definitions.

The original is only read, and goes on working. Nobody can connect to the fork before it is
complete: its data directory has its name only once the script that cleans the data has succeeded.
Statements of the app run with the rights of the app, never with those of the superuser.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import files, process
from gatling.errors import CommandFailed, InvalidInput
from gatling.platform.postgres import cloning, database_settings, proof, settings, sql, tablespaces
from gatling.platform.postgres.clusters import OWNER, PORT, READER, SUPERUSER, WRITE
from gatling.platform.postgres.restoring import Restore
from gatling.platform.postgres.session import Session
from gatling.platform.postgres.sites import Forked
from gatling.platform.postgres.sql import identifier
from gatling.platform.postgres.stanza import ENVIRONMENT, LONG_SECONDS, SHORT_SECONDS

if TYPE_CHECKING:
    from gatling.platform.postgres.sites import ForkWish, Site

EXTENSIONS = """\
SELECT coalesce(json_agg(json_build_array(e.extname, n.nspname)), '[]')::text
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql';
"""
_OWN = re.compile(r"[0-9]+; [0-9]+ [0-9]+ (?:EXTENSION - |COMMENT - EXTENSION )")
"""Lines of pg_restore's list that only the superuser can restore."""
_QUIET = "SET client_min_messages = warning;\n"
_SCHEMA = re.compile(r"[0-9]+; [0-9]+ [0-9]+ SCHEMA - (\S+) ")


class Fork(Restore):
    """A fork into a new cluster, whose site this is."""

    def fork(self, source: Site, role: str, wish: ForkWish) -> Forked:
        """Fork a running cluster, for the role of an app.

        Raises InvalidInput and DiskFull before anything is written,
        and CommandFailed for a fork that could not be made, and InvalidInput for statements of
        `wish.scrub` that failed. Nothing of the fork is left then.
        """
        with self._stanza.exclusively():
            if Path(self._site.data).exists():
                raise InvalidInput(f"The database {self._site.database} is there already.")
            self._clean()
            try:
                return self._make(source, role, wish)
            finally:
                self._clean()

    def _make(self, source: Site, role: str, wish: ForkWish) -> Forked:
        began = time.monotonic()
        self._roles = [READER, SUPERUSER, role]
        reader = proof.reader(source.database) if wish.schema_only else ""  # it dumps the source
        script = proof.state(source.database) + reader
        with self._superuser_of(source.sockets) as superuser:
            size = int(superuser.ask(f"SET search_path = '';\n{script}", SHORT_SECONDS)[2])
        for place in (self._copy.parent, self._scratch.parent):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        how, before = self._how(source, wish), tablespaces.links(Path(source.data))
        least = 0 if how == "clone" else settings.LEAST_BYTES
        self._check_place(self._copy.parent, least + (size if how == "copy" else 0), "The fork")
        self._scratch.mkdir(mode=0o700)
        self._copy.mkdir(mode=0o700)
        if how == "schema":
            self._say(f"Copying the definitions of {source.database}")
            self._initialize()
        elif how == "clone":
            self._say(f"Cloning the files of {source.database}")
            with self._superuser_of(source.sockets) as superuser:
                cloning.cluster(superuser, Path(source.data), self._copy)
        else:
            self._say(f"Copying {source.database} ({size >> 20} MB)")
            self._copy_files(source)
        if how != "schema":
            tablespaces.check_same(Path(source.data), source.database, before)
        with self._running():
            self._open(source, role, how)
            tablespaces.dissolve(self._superuser_of_copy)
            if how == "schema":
                self._define(source, role)
            copied = time.monotonic()
            if wish.scrub:
                self._say("Running the script in the fork")
                self._scrub(role, wish.scrub)
            tables = self._tables()
        self._without_recovery()
        self._copy.rename(self._site.data)
        files.sync(self._copy.parent)
        return Forked(how, len(tables), size, copied - began, time.monotonic() - copied)

    def _how(self, source: Site, wish: ForkWish) -> str:
        if wish.schema_only:
            return "schema"
        return "clone" if cloning.possible(Path(source.data), self._copy.parent) else "copy"

    def _copy_files(self, source: Site) -> None:
        self._program(
            "pg_basebackup", f"--pgdata={self._copy}", "--host", source.sockets, "--port",
            str(PORT), "--username", SUPERUSER, "--checkpoint=fast", "--wal-method=stream",
            "--no-password", "--no-manifest",
            *tablespaces.mapping(Path(source.data), self._scratch / "tablespaces"),
        )  # fmt: skip

    def _initialize(self) -> None:
        self._program(
            "initdb", f"--pgdata={self._copy}", *settings.LOCALE, f"--username={SUPERUSER}",
            "--data-checksums", "--auth=reject",
        )  # fmt: skip

    def _open(self, source: Site, role: str, how: str) -> None:
        """Give the database its new name, and let the app's role use it."""
        name = self._site.database
        renamed = f"ALTER DATABASE {identifier(source.database)} RENAME TO {identifier(name)};\n"
        begin = sql.setup(name) if how == "schema" else renamed
        script = begin + proof.reader(name) + sql.access(name, {role: WRITE})
        with self._superuser_of(self._sockets) as superuser:
            superuser.ask(f"SET search_path = '';\n{script}", SHORT_SECONDS)

    def _define(self, source: Site, role: str) -> None:
        """Create what the database of the source defines, with no rows but those of migrations."""
        with self._reader_of(source.database, source.sockets) as reading:
            reading.ask(proof.STYLE + "\n", SHORT_SECONDS)
            extensions = json.loads(reading.ask(EXTENSIONS, SHORT_SECONDS)[0])
            tables = proof.tables(reading.ask(proof.TABLES, SHORT_SECONDS)[0])
            own = database_settings.parse(reading.ask(database_settings.READ, SHORT_SECONDS)[0])
        schemas = {schema for _, schema in extensions} - {"public", "pg_catalog"}
        script = "SET search_path = '';\n"
        for schema in sorted(schemas):
            script += f"CREATE SCHEMA {identifier(schema)} AUTHORIZATION {OWNER};\n"
        for extension, schema in extensions:
            where = "" if schema == "pg_catalog" else f" SCHEMA {identifier(schema)}"
            script += f"CREATE EXTENSION IF NOT EXISTS {identifier(extension)}{where} CASCADE;\n"
        with self._superuser_of(self._sockets, self._site.database) as superuser:
            superuser.ask(script, SHORT_SECONDS)
        self._transfer(source, role, schemas, "--schema-only")
        for table in tables:
            if table.name.rpartition(".")[2] == "schema_migrations":
                self._transfer(source, role, schemas, "--data-only", f"--table={table.name}")
        with self._superuser_of(self._sockets) as superuser:
            for _, sets in database_settings.statements(self._site.database, own.of([role])):
                superuser.ask(sets, SHORT_SECONDS)

    def _transfer(self, source: Site, role: str, schemas: set[str], *words: str) -> None:
        """Dump a part of the source, and restore it with the rights of the app."""
        dump, listed = self._scratch / "dump", self._scratch / "list"
        self._program(
            "pg_dump", "--format=custom", f"--file={dump}", "--host", source.sockets, "--port",
            str(PORT), "--username", READER, "--lock-wait-timeout=60s", *words, source.database,
        )  # fmt: skip
        lines = self._program("pg_restore", "--list", str(dump)).splitlines()
        kept = [line for line in lines if not _is_superuser_s(line, schemas)]
        files.write(listed, "\n".join(kept) + "\n")
        self._program(
            "pg_restore", f"--use-list={listed}", "--no-owner", "--no-privileges",
            "--no-tablespaces", "--no-publications", "--no-subscriptions",
            "--single-transaction", "--exit-on-error", "--host", self._sockets,
            "--port", str(PORT), "--username", role, "--dbname", self._site.database, str(dump),
        )  # fmt: skip

    def _scrub(self, role: str, script: str) -> None:
        """Run a script in one transaction, with the rights of the app.

        As a string of `--command` it cannot have commands of psql, which would run programs. All
        statements of such a string are one transaction.
        """
        argv = self._psql_argv(role, self._site.database, self._sockets)
        try:
            process.output(
                [*argv, "--command", f"{_QUIET}{script}"], env=ENVIRONMENT, timeout=LONG_SECONDS
            )
        except CommandFailed as error:
            said = [line for line in error.log if line.strip()]
            raise InvalidInput(
                "The script failed, and the fork was removed: " + (" ".join(said[:3]) or error.what)
            ) from None

    def _tables(self) -> list[proof.Table]:
        with self._reader_of(self._site.database, self._sockets) as reading:
            reading.ask(proof.STYLE + "\n", SHORT_SECONDS)
            return proof.tables(reading.ask(proof.TABLES, SHORT_SECONDS)[0])

    @property
    def _sockets(self) -> str:
        """The directory of the socket of the fork, while nobody else uses it."""
        return str(self._scratch / "s")

    def _superuser_of(self, sockets: str, database: str = SUPERUSER) -> Session:
        return Session(self._psql_argv(SUPERUSER, database, sockets), ENVIRONMENT)

    def _reader_of(self, database: str, sockets: str) -> Session:
        return Session(self._psql_argv(READER, database, sockets), ENVIRONMENT)


def _is_superuser_s(line: str, schemas: set[str]) -> bool:
    made = _SCHEMA.match(line)
    return bool(_OWN.match(line)) or (made is not None and made[1] in schemas)
