"""Comparing a cluster that was restored from a backup with the one that was backed up. Pure.

Both are read as a role that can read everything and change nothing: what an app has made in its
database may run functions of the app, and those get no other rights.

A restore point is exactly a snapshot if no transaction ended between the two. Transactions that had
not ended may have written their end to the log already. They still hold their locks, so tables that
nobody was writing to are the same in the snapshot and at the restore point.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatling.platform.postgres.clusters import READER
from gatling.platform.postgres.sql import identifier, literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LARGE_BYTES = 1 << 30
"""The size of a table from which on its rows are counted and not compared."""
SHARE, LEAST_ROWS = 0.01, 1000
"""By how much a table may differ that was written to: a hundredth of its rows, or so many."""
STYLE = (
    "SET search_path = ''; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD';"
    " SET intervalstyle = 'postgres'; SET bytea_output = 'hex'; SET extra_float_digits = 3;"
    " SET xmlbinary = 'base64'; SET lc_monetary = 'C'; SET statement_timeout = 0;"
    " SET max_parallel_workers_per_gather = 0; SET row_security = on;"
)
"""Both sides print values in the same way."""
TABLES = """\
SELECT coalesce(json_agg(json_build_array(c.oid::bigint, format('%I.%I', n.nspname, c.relname),
                                          pg_catalog.pg_relation_size(c.oid))
                         ORDER BY c.oid), '[]')::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND c.relispopulated
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%';
"""
"""One line of JSON: the tables and materialized views that a backup holds, with their sizes."""
BEGIN = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
    " SELECT pg_catalog.pg_current_snapshot() || ' ' || pg_catalog.pg_export_snapshot();\n"
)
"""One line: a snapshot, and the name by which another session can use it."""
MIGRATIONS = "SELECT count(*), max(version) FROM public.schema_migrations;\n"
MIGRATIONS_TABLE = "public.schema_migrations"


@dataclass(frozen=True)
class Table:
    """A table, by its quoted name, and whether its rows are compared or only counted."""

    oid: int
    name: str
    whole: bool


@dataclass(frozen=True)
class Sample:
    """The content of a cluster, as it was read."""

    schema: str
    """A digest of the definitions."""
    tables: Mapping[str, tuple[int, str]]
    """The number of rows, and a digest of them; empty where they are only counted."""


@dataclass(frozen=True)
class Moment:
    """A restore point, and what is known about it."""

    name: str
    lsn: str
    written: frozenset[int]
    """The tables that transactions were writing to."""


@dataclass(frozen=True)
class Outcome:
    """The result of a proof: a fault, or the numbers that were compared."""

    fault: str
    tables: int = 0
    rows: int = 0
    written: int = 0
    """Tables that were written to at that moment, and compared only roughly."""
    migrations: str = ""
    """The number and the newest of Ecto's migrations."""
    final: bool = False
    """Whether another proof would find the same fault."""


def reader(database: str) -> str:
    """SQL of the superuser: the role that reads, in a cluster that may have it already."""
    return (
        f"SELECT 'CREATE ROLE {READER}'"
        f" WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{READER}') \\gexec\n"
        f"ALTER ROLE {READER} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS;\n"
        f"GRANT pg_read_all_data TO {READER};\n"
        f"GRANT CONNECT ON DATABASE {identifier(database)} TO {READER};\n"
    )


def state(database: str) -> str:
    """SQL of the superuser: the cluster's identifier, whether it archives its log, its size."""
    return (
        "SELECT system_identifier FROM pg_control_system(); SHOW archive_mode;"
        f" SELECT pg_database_size({literal(database)});\n"
    )


def segment(lsn: str) -> str:
    """SQL of the superuser: the segment with a place in the log, which is completed."""
    return f"SELECT pg_walfile_name({literal(lsn)}); SELECT 1 FROM pg_switch_wal();\n"


def last_segment() -> str:
    """SQL of the superuser: a transaction, then the segment with its end, which is completed."""
    return "SELECT pg_current_xact_id(); SELECT pg_walfile_name(pg_switch_wal());\n"


def archived(segment: str) -> str:
    """SQL of the superuser: whether a segment, or a later one, is in the repository."""
    return (
        f"SELECT length(last_archived_wal) = 24 AND last_archived_wal >= {literal(segment)}"
        " FROM pg_stat_archiver;\n"
    )


def point(database: str, name: str) -> str:
    """SQL of the superuser, three lines: a restore point, the tables written to, a snapshot."""
    # each is a statement of its own, so that the snapshot is taken after the other two
    return (
        f"SELECT pg_create_restore_point({literal(name)});"
        " SELECT coalesce(json_agg(DISTINCT relation::bigint), '[]')::text FROM pg_locks"
        f" WHERE database = (SELECT oid FROM pg_database WHERE datname = {literal(database)})"
        " AND locktype = 'relation' AND relation >= 16384 AND mode IN ('RowExclusiveLock',"
        " 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock');"
        " SELECT pg_current_snapshot();\n"
    )


def tables(line: str) -> list[Table]:
    """The tables that `TABLES` lists."""
    return [Table(oid, name, size < LARGE_BYTES) for oid, name, size in json.loads(line)]


def contents(every: Iterable[Table]) -> str:
    """SQL of the reader: a line for each table, its number of rows and a digest of them."""
    # functions are called by name, since a cast of a row to text could be one of the app's
    digest = (
        "coalesce(pg_catalog.sum(pg_catalog.hashtextextended("
        "pg_catalog.textin(pg_catalog.record_out(gatling_row.*)), 0)), 0)"
    )
    return "".join(
        f"SELECT pg_catalog.count(*) || ' ' || {digest if table.whole else literal('-')}"
        f" FROM ONLY {table.name} AS gatling_row;\n"
        for table in every
    )


def schema(dump: str) -> str:
    """The digest of `pg_dump --schema-only`, without the lines that differ each time."""
    lines = (line for line in dump.split("\n")
             if not line.startswith(("\\restrict", "\\unrestrict", "--")))  # fmt: skip
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def sample(every: Iterable[Table], digest: str, output: str) -> Sample:
    """The sample from the lines that `contents` printed, and the digest of the definitions."""
    found = {}
    for table, line in zip(every, output.splitlines(), strict=True):
        count, value = line.split(" ")
        found[table.name] = (int(count), value if table.whole else "")
    return Sample(digest, found)


def compare(live: Sample, copy: Sample, written: Iterable[str]) -> Outcome:
    """The result of comparing a restored cluster with the live one.

    `written` names the tables that transactions were writing to.
    """
    loose = set(written) & set(live.tables)
    if copy.schema != live.schema:
        return Outcome("the definitions of the tables differ")
    for name, (count, digest) in live.tables.items():
        got, other = copy.tables.get(name, (-1, ""))
        if got < 0:
            return Outcome(f"{name} is missing")
        if abs(got - count) > (max(LEAST_ROWS, int(count * SHARE)) if name in loose else 0):
            return Outcome(f"{name} has {count} rows, and the copy has {got}")
        if other != digest and name not in loose:
            return Outcome(f"the rows of {name} differ")
    return Outcome("", len(live.tables), sum(count for count, _ in copy.tables.values()),
                   len(loose))  # fmt: skip
