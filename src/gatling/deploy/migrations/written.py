"""The changes of a database between two moments, by PostgreSQL's own counters.

They are read with the rights of the app. A crash of the database and pg_stat_reset set the counters
of rows to zero, but not that of transactions.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, structs

from gatling import decoding
from gatling.errors import CommandFailed
from gatling.platform.base import run_mark

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.platform.postgres.clusters import Cluster

SECONDS = 30.0
MAX_BYTES = 1 << 20
"""Bytes of the counters that are recorded; those of a database with more tables are not."""
_MARK = "gatling written: "
SCRIPT = f"""\
SELECT '{_MARK}' || json_build_object(
  'xid', pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
  'tables', (SELECT coalesce(json_object_agg(relid::text, json_build_array(
               CASE schemaname WHEN 'public' THEN '' ELSE schemaname || '.' END || relname,
               n_tup_ins, n_tup_upd, n_tup_del)), '{{}}') FROM pg_stat_user_tables))
"""  # noqa: S608 (the mark is a constant)


class Counters(Struct, frozen=True):
    """The counters of a database at a moment."""

    xid: int
    """The number of the next transaction that writes; 0: the counters are not known."""
    tables: dict[str, tuple[str, int, int, int]]
    """By its number: a table's name, and the rows inserted, updated and deleted in it."""


UNKNOWN = Counters(0, {})


class Touched(Struct, frozen=True):
    """A table that was written to."""

    table: str
    inserted: int
    updated: int
    deleted: int


class Lost(Struct, frozen=True):
    """The changes since a moment."""

    transactions: int
    """Also those that wrote and were rolled back."""
    tables: list[Touched]


def read(gatling: Gatling, app: str, cluster: Cluster) -> Counters:
    """The counters of a database now. Raises CommandFailed, and what running a program raises."""
    words = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--command", SCRIPT]
    task = gatling.databases.shell(app, cluster, words)
    task = structs.replace(task, mark=run_mark(task.paths, os.urandom(8).hex()))
    lines: list[str] = []
    gatling.tasks.run(task, timeout=SECONDS, on_line=lines.append)
    for line in lines:
        if line.startswith(_MARK):
            return decode(line.removeprefix(_MARK))
    raise CommandFailed(f"The counters of {cluster.database} could not be read.")


def decode(text: str) -> Counters:
    """The counters of a record; UNKNOWN for a record that has none."""
    try:
        return decoding.from_json(text, Counters)
    except msgspec.MsgspecError:
        return UNKNOWN


def encode(counters: Counters) -> str:
    """The record of counters."""
    text = msgspec.json.encode(counters).decode()
    return text if len(text) <= MAX_BYTES else json.dumps({"xid": counters.xid, "tables": {}})


def since(before: Counters, now: Counters) -> Lost | None:
    """The changes between two moments; None where the first is not known."""
    if not before.xid:
        return None
    touched = []
    for number, (name, *rows) in now.tables.items():
        earlier = before.tables.get(number, ("", 0, 0, 0))[1:]
        was_reset = any(new < old for new, old in zip(rows, earlier, strict=True))
        change = rows if was_reset else [
            new - old for new, old in zip(rows, earlier, strict=True)
        ]  # fmt: skip
        if any(change):
            touched.append(Touched(name, *change))
    touched.sort(key=lambda one: (-(one.inserted + one.updated + one.deleted), one.table))
    return Lost(max(0, now.xid - before.xid), touched)
