"""The places of a cluster's backups, and a backup that was made: pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Site:
    """A cluster, and the places of its backups."""

    database: str
    label: str
    programs: str
    """The directory of PostgreSQL's programs."""
    data: str
    sockets: str
    own: str
    """The directory of the files that make the cluster archive its log."""
    repository: str
    """The directory of the backups, or of the locks if the backups are on another machine."""
    settings: str
    """The file with the settings of a repository on another machine (repository.py)."""
    scratch: str
    """The directory of the throw-away cluster, which is removed."""


@dataclass(frozen=True)
class Chosen:
    """A backup that is to be restored, and up to when its log is replayed."""

    stanza: str
    label: str
    database: str
    """The name of the database in the backup."""
    bytes: int
    target: str
    """A time, as PostgreSQL reads it; empty for everything that the repository has."""
    point: str = ""
    """The name of a restore point, in place of a time."""


@dataclass(frozen=True)
class Restored:
    """A database that was restored."""

    tables: int
    rows: int
    last: str
    """The time of the last transaction that it has, as PostgreSQL prints it; empty: unknown."""


@dataclass(frozen=True)
class ForkWish:
    """The content of a fork of a cluster."""

    app: str
    """The app that it is for, whose rights the script has."""
    schema_only: bool = False
    """Whether it has definitions alone, and the rows of `schema_migrations`."""
    scrub: str = ""
    """SQL that runs in the fork before anybody else can connect to it."""


@dataclass(frozen=True)
class Forked:
    """A fork that was made."""

    how: str
    """`clone` (copy-on-write), `copy` (of a base backup) or `schema`."""
    tables: int
    bytes: int
    """The size of the database that it is a fork of."""
    copy_seconds: float
    scrub_seconds: float


@dataclass(frozen=True)
class Made:
    """A backup that was made, with the result of its proof."""

    stanza: str
    label: str
    kind: str
    bytes: int
    stored: int
    state: str
    reason: str
    tables: int
    rows: int
    written: int
    migrations: str
    backup_seconds: float
    proof_seconds: float
    full_kept: int


@dataclass(frozen=True)
class Upgraded:
    """An upgrade of a cluster, or its rehearsal."""

    tables: int
    rows: int
    migrations: str
    """The number and the newest of Ecto's migrations, `12|20260101000000`; empty without them."""
    seconds: float
    """The time that pg_upgrade took."""


def archive(own: str) -> Path:
    """The script that archives a segment; without it, a cluster keeps no log.

    pgBackRest wants its name in the archive_command.
    """
    return Path(own) / "pgbackrest-archive"
