"""A database at one moment as a dump, which a later version of PostgreSQL reads as well.

`server backup` takes it to another host. It runs as the OS user of the clusters. A dump is only
given away once it was restored into a throw-away cluster and everything in it compared with the
database at that moment. The restored database is compared in the same way.

A dump creates what an app has made, and some of that can run functions of the app. So it is never
restored with the rights of the superuser, but with those of the database's owner.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatling import files
from gatling.errors import CommandFailed, InvalidInput
from gatling.platform.postgres import database_settings, proof, scratch, settings, sql
from gatling.platform.postgres.backups import COPY_SETTINGS, Backups
from gatling.platform.postgres.clusters import OWNER, PORT, READER, ROLE, SUPERUSER, version
from gatling.platform.postgres.restoring import DURABLE
from gatling.platform.postgres.session import Session
from gatling.platform.postgres.sql import identifier
from gatling.platform.postgres.stanza import ENVIRONMENT, LONG_SECONDS, SHORT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from typing import IO

    from gatling.platform.postgres.database_settings import OwnSettings
    from gatling.platform.postgres.sites import Site

LOADER = "gatling_loader"
"""The role that restores a dump: it has the rights of the owner, and nobody can log in as it."""
LARGEST_HEAD = 16 << 20
"""Bytes of the line that describes a dump."""
FASTER = {"wal_level": "minimal", "max_wal_senders": "0"}
"""Settings of a cluster that is filled from a dump."""
DEFINED = ("--no-owner", "--no-tablespaces")
"""Options of pg_dump for definitions that are compared: a restored database has no tablespaces."""
EXTENSION = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
TABLES = """\
SELECT coalesce(json_agg(json_build_array(c.oid::bigint, format('%I.%I', n.nspname, c.relname),
                                          pg_catalog.pg_relation_size(c.oid))
                         ORDER BY c.oid), '[]')::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'
                  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass);
"""
"""One line of JSON: the tables whose rows a dump has. Materialized views are built again, from
what the tables have then, and extensions bring their own tables."""
ABOUT = """\
SELECT json_build_object(
  'version', current_setting('server_version_num')::int / 10000,
  'roles', (SELECT coalesce(json_agg(rolname ORDER BY rolname), '[]') FROM pg_catalog.pg_roles
            WHERE rolname LIKE 'gatling-%'),
  'extensions', (SELECT coalesce(json_agg(e.extname ORDER BY e.extname), '[]')
                 FROM pg_catalog.pg_extension e WHERE e.extname <> 'plpgsql'
                   AND e.extowner = (SELECT oid FROM pg_catalog.pg_roles
                                     WHERE rolname = 'postgres')))::text;
"""
"""One line of JSON: the version, the roles of apps, and the extensions that only the superuser can
have created."""


@dataclass(frozen=True)
class Head:
    """The description of a dump, which is the line before it."""

    database: str
    version: int
    """The major version of PostgreSQL that the dump is from."""
    schema: str
    """A digest of the definitions, as that version prints them."""
    tables: Mapping[str, tuple[int, str]]
    """The number of rows of each table, and a digest of them; empty where they are only counted."""
    roles: tuple[str, ...]
    """The roles of apps that were there: definitions may grant them something."""
    extensions: tuple[str, ...]
    """The extensions that the superuser creates."""
    own: OwnSettings = database_settings.NONE
    """The settings of the database and the roles; none in the dump of an earlier Gatling."""

    @property
    def rows(self) -> int:
        """The number of rows of all tables."""
        return sum(count for count, _ in self.tables.values())


def read_head(file: IO[bytes]) -> Head:
    """The description at the beginning of a dump; raises InvalidInput for anything else."""
    line = file.readline(LARGEST_HEAD)
    try:
        found = json.loads(line)
        head = Head(
            str(found["database"]), version(str(found["version"])), str(found["schema"]),
            {str(name): (int(count), str(digest))
             for name, (count, digest) in found["tables"].items()},
            tuple(map(str, found["roles"])), tuple(map(str, found["extensions"])),
            database_settings.from_json(found.get("own", database_settings.NONE)),
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput(f"This is not the dump of a database: {error!r}") from None
    if not all(ROLE.fullmatch(role) for role in head.roles) or not all(
        EXTENSION.fullmatch(name) for name in head.extensions
    ):
        raise InvalidInput("The dump names a role or an extension that cannot be.")
    return head


def difference(
    expected: Mapping[str, tuple[int, str]], found: Mapping[str, tuple[int, str]]
) -> str:
    """The difference between the tables of a restored dump and the original ones; empty: none."""
    for name, (count, digest) in expected.items():
        got, other = found.get(name, (-1, ""))
        if got < 0:
            return f"{name} is missing"
        if got != count:
            return f"{name} has {count} rows, and the copy has {got}"
        if digest and other and digest != other:
            return f"the rows of {name} differ"
    more = sorted(found.keys() - expected.keys())
    return f"{more[0]} was not there before" if more else ""


def wanted_entries(listed: str, extensions: tuple[str, ...]) -> str:
    """The entries of `pg_restore --list` without the extensions that are there already."""
    known = {f"{kind}{name}" for name in extensions
             for kind in ("EXTENSION - ", "COMMENT - EXTENSION ")}  # fmt: skip
    lines = (line for line in listed.splitlines()
             if not any(f" {one} " in f"{line} " for one in known))  # fmt: skip
    return "".join(f"{line}\n" for line in lines)


class _Filled(Backups):
    """A cluster that is filled from a dump."""

    def __init__(self, site: Site, say: Callable[[str], None]) -> None:
        super().__init__(site, say)
        self._scratch = Path(f"{site.scratch}.dump")
        self._roles = [READER, SUPERUSER, LOADER]
        self._dump = self._scratch / "dump"

    def _alone(self) -> AbstractContextManager[None]:
        """One at a time for a cluster, whatever its other backups do."""
        lock = f".{self._site.label}.dump.lock"
        busy = f"{self._site.database} is already being copied."
        return scratch.alone(self._scratch, lock, busy, self._clean)

    def _fill(self, head: Head) -> tuple[str, dict[str, tuple[int, str]]]:
        """Restore the dump into a new cluster; its definitions and tables as they then are."""
        programs = ["initdb", f"--pgdata={self._copy}", *settings.LOCALE,
                    f"--username={SUPERUSER}", "--data-checksums", "--auth=reject"]  # fmt: skip
        self._program(*programs)
        with self._running():
            sockets = str(self._scratch / "s")
            self._prepare_for(head, sockets)
            bound = ["--host", sockets, "--port", str(PORT)]
            entries = self._scratch / "entries"
            entries.write_text(
                wanted_entries(self._program("pg_restore", "--list", str(self._dump)),
                               head.extensions)
            )  # fmt: skip
            self._program(
                "pg_restore", *bound, "--username", LOADER, f"--role={OWNER}", "--no-owner",
                "--no-tablespaces", "--exit-on-error", f"--use-list={entries}",
                "--dbname", self._site.database, str(self._dump),
            )  # fmt: skip
            self._superuser(sockets, SUPERUSER, f"ALTER ROLE {LOADER} NOLOGIN;\n"
                            f"REVOKE {OWNER} FROM {LOADER};\n")  # fmt: skip
            self._say("Comparing it with the database")
            schema = proof.schema(self._schema(sockets, *DEFINED))
            if schema != head.schema:  # the dump of an earlier Gatling
                schema = proof.schema(self._schema(sockets, "--no-owner"))
            with Session(self._psql_argv(READER, self._site.database, sockets), ENVIRONMENT) as one:
                one.ask(proof.STYLE + "\n", SHORT_SECONDS)
                tables = self._tables(one)
            for what, script in database_settings.statements(
                self._site.database, head.own.of(head.roles)
            ):
                try:
                    self._superuser(sockets, SUPERUSER, script)
                except CommandFailed as error:  # a later version may lack it
                    self._say(f"The setting {what} is left out: {' '.join(error.log[:1])}")
        return schema, tables

    def _prepare_for(self, head: Head, sockets: str) -> None:
        """Create the roles, the database, and the extensions that only the superuser can create."""
        database = self._site.database
        # they log in once an app may use the database
        roles = "".join(f"CREATE ROLE {identifier(role)} NOLOGIN;\n" for role in head.roles)
        self._superuser(
            sockets, SUPERUSER,
            roles + sql.setup(database) + proof.reader(database)
            + f"CREATE ROLE {LOADER} LOGIN; GRANT {OWNER} TO {LOADER};\n"
            f"GRANT CONNECT, TEMPORARY ON DATABASE {identifier(database)} TO {LOADER};\n",
        )  # fmt: skip
        for name in head.extensions:
            try:
                self._superuser(sockets, database, "SET search_path = public;\n"
                                f"CREATE EXTENSION {identifier(name)};\n")  # fmt: skip
            except CommandFailed as error:
                raise InvalidInput(
                    f"The database {database} needs the extension {name}, which PostgreSQL on this"
                    " host cannot create.",
                    hint="Install the package of the extension.",
                ) from error

    def _superuser(self, sockets: str, database: str, script: str) -> None:
        with Session(self._psql_argv(SUPERUSER, database, sockets), ENVIRONMENT) as superuser:
            superuser.ask(script, SHORT_SECONDS)

    def _tables(self, reading: Session) -> dict[str, tuple[int, str]]:
        """The tables of a database with the numbers and the digests of their rows."""
        every = proof.tables(reading.ask(TABLES, SHORT_SECONDS)[0])
        lines = reading.ask(proof.contents(every), LONG_SECONDS)
        return dict(proof.sample(every, "", "\n".join(lines)).tables)


class Dump(_Filled):
    """The dump of a running cluster."""

    def __init__(self, site: Site, say: Callable[[str], None]) -> None:
        super().__init__(site, say)
        self._settings = COPY_SETTINGS | FASTER
        self._copy = self._scratch / "data"

    def write(self, target: int) -> Head:
        """Write a dump to an open file, with its description, once it is proved.

        Raises DiskFull, and CommandFailed for a dump that cannot be made or is not the same.
        """
        with self._alone():
            database = self._site.database
            found = self._psql(proof.state(database) + proof.reader(database)).split()
            self._check_place(self._scratch.parent, 2 * int(found[2]), "The copy of the database")
            self._say(f"Copying the database {database}")
            head = self._taken_dump()
            self._say("Restoring the copy into a throw-away cluster")
            schema, tables = self._fill(head)
            wrong = difference(head.tables, tables)
            if schema != head.schema:
                wrong = "the definitions of the tables differ"
            if wrong:
                raise CommandFailed(f"The copy of {database} is not the same: {wrong}.")
            with os.fdopen(os.dup(target), "wb") as file, self._dump.open("rb") as dump:
                file.write(json.dumps(asdict(head)).encode() + b"\n")
                shutil.copyfileobj(dump, file, 1 << 20)
        return head

    def _taken_dump(self) -> Head:
        database, sockets = self._site.database, self._site.sockets
        with Session(self._psql_argv(READER, database), ENVIRONMENT) as reading:
            reading.ask(proof.STYLE + "\n", SHORT_SECONDS)
            snapshot = reading.ask(proof.BEGIN, SHORT_SECONDS)[-1].split(" ")[1]
            about: dict[str, Any] = json.loads(reading.ask(ABOUT, SHORT_SECONDS)[0])
            own = database_settings.parse(reading.ask(database_settings.READ, SHORT_SECONDS)[0])
            taken = f"--snapshot={snapshot}"
            schema = proof.schema(self._schema(sockets, *DEFINED, taken))
            self._program(
                "pg_dump", "--format=custom", f"--file={self._dump}", "--host", sockets,
                "--port", str(PORT), "--username", SUPERUSER, "--lock-wait-timeout=60s", taken,
                "--compress=1", database,
            )  # fmt: skip
            tables = self._tables(reading)
        return Head(database, about["version"], schema, tables, tuple(about["roles"]),
                    tuple(about["extensions"]), own)  # fmt: skip


class Load(_Filled):
    """A new cluster with the database of a dump."""

    def __init__(self, site: Site, say: Callable[[str], None]) -> None:
        super().__init__(site, say)
        self._settings = DURABLE | FASTER
        self._copy = Path(f"{site.data}.new")

    def read(self, source: int) -> Head:
        """Make the cluster's data directory, complete and compared, from an open file.

        Raises InvalidInput and DiskFull before anything is written, and CommandFailed.
        """
        with self._alone():
            data = Path(self._site.data)
            if data.exists():
                raise InvalidInput(f"The database {self._site.database} is there already.")
            size = os.fstat(source).st_size
            self._check_place(self._scratch.parent, 5 * size, "The restored database")
            with os.fdopen(os.dup(source), "rb") as file, self._dump.open("wb") as dump:
                head = read_head(file)
                shutil.copyfileobj(file, dump, 1 << 20)
            if not data.parent.exists():
                data.parent.mkdir(parents=True)
                data.parent.chmod(0o755)
            self._say(f"Restoring the database {self._site.database}")
            schema, tables = self._fill(head)
            wrong = difference(head.tables, tables)
            own = self._program("postgres", "--version").split()[2].split(".")[0]
            if str(head.version) == own and schema != head.schema:
                wrong = "the definitions of the tables differ"
            if wrong:
                raise CommandFailed(
                    f"The restored database {self._site.database} is not the same: {wrong}."
                )
            self._copy.rename(data)
            files.sync(data.parent)
        return head

    def _clean(self) -> None:
        super()._clean()
        if self._copy.exists():
            shutil.rmtree(self._copy)


def described(head: Head) -> dict[str, int | str]:
    """The numbers that a caller reports about a dump."""
    return {"database": head.database, "version": head.version, "tables": len(head.tables),
            "rows": head.rows}  # fmt: skip
