"""A database has a name; a cluster holds its data. A promoted restore is another cluster of it.

The name, the socket's directory and the URL of a database stay the same for its whole life. The
cluster that they stand for has a version and a generation, and is chosen by a link.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from gatling import names
from gatling.errors import InvalidInput

OLDEST = 15
"""The first version in which others cannot create tables in the schema public unasked."""
NEWEST = 99
PORT = 5432
"""The number in the names of all sockets: each is in a directory of its own."""
OWNER = "gatling_owner"
"""The role that owns a database and all that apps create in it; nobody can log in as this role."""
SUPERUSER = "postgres"
READER = "gatling_reader"
"""The role that compares a backup with its database: it reads everything and changes nothing."""
ROLE = re.compile(r"gatling-[a-z0-9-]{1,63}")
SOCKET_BYTES = 107 - len(f"/.s.PGSQL.{PORT}")
"""Bytes that the path of a socket's directory may have: unix(7)."""
WRITE, READ = "write", "read"
ACCESS = (WRITE, READ)


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL cluster of a database."""

    database: str
    version: int
    generation: int = 1

    def __post_init__(self) -> None:
        names.app_name(self.database)
        if not OLDEST <= self.version <= NEWEST or not 1 <= self.generation <= 999_999:
            raise InvalidInput(f"{self.version} is not a version of PostgreSQL.")

    @property
    def label(self) -> str:
        """Its database and generation, `my-shop.1`: the name of its socket's directory."""
        return f"{self.database}.{self.generation}"

    @property
    def name(self) -> str:
        """Its name for postgresql-common, which takes no hyphens; an app's name has no `_`."""
        return f"gatling.{self.label.replace('-', '_')}"


@dataclass(frozen=True)
class Facts:
    """The state of a running cluster, as its own statistics show it."""

    version: str
    bytes: int
    connections: int
    active: int
    max_connections: int
    started_at: str
    cache_hits: float | None
    """The share of blocks that were found in memory; None before the first read."""
    longest_query: float
    """Seconds since the oldest running statement began."""
    longest_transaction: float
    """Seconds since the oldest open transaction began. Rows that it may read stay until it ends."""
    checksums: bool
    dead_bytes: int
    """Estimate of what rows take in tables that were deleted or changed, and not yet removed."""
    log_bytes: int
    """The write-ahead log on the disk."""
    log_limit: int
    """Bytes up to which the log grows by itself (max_wal_size)."""
    log_waiting: int
    """Complete segments of the log that are still to be archived."""
    archiving_failed: bool
    """Whether the last attempt to archive a segment failed."""
    slot_bytes: int
    """Bytes of the log that stay for the replication slot which is farthest behind."""
    age: float
    """The share of transaction numbers that are used up since the oldest row was frozen."""
    free_bytes: int
    """Room on the disk."""


@dataclass(frozen=True)
class Policy:
    """How a backup is made, and which older ones stay."""

    full: bool = False
    """Whether it is a full one in any case."""
    count: int = 2
    """Full backups that stay, with those that build on them."""
    days: int = 14
    """The age up to which all full backups stay."""


@dataclass(frozen=True)
class Kept:
    """The last copy of a database that was removed."""

    path: str
    bytes: int
    tables: int
    rows: int


def version(text: str) -> int:
    """A major version of PostgreSQL that databases can have; raises InvalidInput."""
    if not re.fullmatch(r"[1-9][0-9]", text) or int(text) < OLDEST:
        raise InvalidInput(
            f"{text!r} is not a version of PostgreSQL that Gatling can use.",
            hint=f"Use a major version from {OLDEST} on, such as 17.",
        )
    return int(text)


def url(role: str, database: str, sockets: str) -> str:
    """The URL with which an app connects over the socket, in the form that Ecto reads."""
    return f"ecto://{role}@localhost/{database}?socket_dir={quote(sockets)}"
