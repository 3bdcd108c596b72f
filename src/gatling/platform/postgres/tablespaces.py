"""Tablespaces: directories elsewhere in which a superuser has put a part of a cluster.

A copy must never write into those of the original. While it is made, it has them in a directory of
its own. A copy that stays has no tablespaces: their tables are moved into its data directory.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from gatling.errors import CommandFailed, InvalidInput
from gatling.platform.postgres.stanza import LONG_SECONDS, SHORT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatling.platform.postgres.session import Session

NAMES = """\
SELECT quote_ident(spcname) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global');
"""
DATABASES = "SELECT datname FROM pg_database WHERE datallowconn;\n"
DEFAULTS = """\
SELECT format('ALTER DATABASE %I SET TABLESPACE pg_default;', datname) FROM pg_database d
  JOIN pg_tablespace s ON s.oid = d.dattablespace
  WHERE s.spcname <> 'pg_default' AND datname <> current_database() \\gexec
"""


def links(data: Path) -> dict[str, float]:
    """The tablespaces of a cluster, by number, with the Unix times of their creation.

    There are none in a data directory that does not exist.
    """
    try:
        return {link.name: link.lstat().st_mtime for link in (data / "pg_tblspc").iterdir()}
    except FileNotFoundError:
        return {}


def mapping(data: Path, place: Path) -> list[str]:
    """Options with which pg_basebackup puts each tablespace of a cluster below a directory."""
    return [
        f"--tablespace-mapping={_escaped(link.readlink())}={_escaped(place / link.name)}"
        for link in sorted((data / "pg_tblspc").iterdir())
    ]


def check_replay(data: Path, database: str, since: int, until: str = "") -> None:
    """Raise InvalidInput if the log since a backup creates a tablespace that is in use.

    A replay of that log would write into the directory of the running cluster. `since` is the Unix
    time at which the backup began, and `until` the time up to which the log is replayed.
    """
    created = max(links(data).values(), default=0.0)
    if created < since or (until and datetime.fromisoformat(until).timestamp() < created):
        return
    raise InvalidInput(
        f"A tablespace was created in {database} after that backup began. Replaying the log would"
        " write into the tablespace.",
        hint="Make a backup and restore that one, or a time before the tablespace was created.",
    )


def check_same(data: Path, database: str, before: dict[str, float]) -> None:
    """Raise CommandFailed if tablespaces were created while a cluster was copied."""
    if links(data).keys() - before.keys():
        raise CommandFailed(
            f"A tablespace was created in {database} while it was being copied.", hint="Try again."
        )


def check_none(data: Path, database: str) -> None:
    """Raise InvalidInput for a cluster that has tablespaces."""
    if links(data):
        raise InvalidInput(
            f"{database} has tablespaces of its own, and cannot be upgraded.",
            hint="As the superuser, move the tables of each into the data directory and remove it:"
            " ALTER TABLE ALL IN TABLESPACE name SET TABLESPACE pg_default, the same for INDEX and"
            " MATERIALIZED VIEW, then DROP TABLESPACE name. A fork of the database has none.",
        )


def dissolve(superuser_of: Callable[[str], Session]) -> None:
    """Move everything into the data directory of a copy, and remove its tablespaces.

    `superuser_of` opens a session of the superuser in a database.
    """
    with superuser_of("postgres") as session:
        names = session.ask(f"SET search_path = '';\n{NAMES}", SHORT_SECONDS)
        if not names:
            return
        session.ask(f"SET search_path = '';\n{DEFAULTS}", LONG_SECONDS)
        databases = session.ask(DATABASES, SHORT_SECONDS)
    moves = "".join(
        f"ALTER {kind} ALL IN TABLESPACE {name} SET TABLESPACE pg_default;\n"
        for name in names for kind in ("TABLE", "INDEX", "MATERIALIZED VIEW")
    )  # fmt: skip
    for database in databases:
        with superuser_of(database) as session:
            session.ask(
                f"SET search_path = ''; SET client_min_messages = warning;\n{moves}", LONG_SECONDS
            )
    with superuser_of("postgres") as session:
        session.ask("".join(f"DROP TABLESPACE {name};\n" for name in names), LONG_SECONDS)


def _escaped(path: Path) -> str:
    return str(path).replace("=", "\\=")
