"""A tablespace of a cluster of an embedded home, as its superuser creates it."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from tests.conftest import files_below
from tests.home.test_databases import UNPRIVILEGED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.home.test_databases import Home

OF_CLUSTER = (
    "SELECT string_agg(spcname, ',' ORDER BY spcname) FROM pg_tablespace"
    " WHERE spcname <> 'pg_global'"
)
NONE = "pg_default"
"""What this prints in a cluster without tablespaces of its own."""


def create(home: Home, name: str, database: str = "shop") -> Path:
    """Create one that everybody may use; its directory."""
    place = home.root / f"tablespace {name}"
    place.mkdir(mode=0o700)
    _superuser(home, database, f"CREATE TABLESPACE {name} LOCATION '{place}'",
               f"GRANT CREATE ON TABLESPACE {name} TO PUBLIC")  # fmt: skip
    return place


@contextlib.contextmanager
def tablespace(home: Home, name: str) -> Iterator[Path]:
    """The same, until the end of the block, which must leave it empty."""
    place = create(home, name)
    yield place
    _superuser(home, "shop", f"DROP TABLESPACE {name}")
    place.rmdir()


def files(place: Path) -> set[str]:
    """The files of tables in a directory, without those that come and go."""
    return {str(path.relative_to(place)) for path in files_below(place)
            if not path.name.endswith(("_fsm", "_vm"))}  # fmt: skip


def _superuser(home: Home, database: str, *statements: str) -> None:
    sockets = home.home / "databases" / database / "current/socket"
    words = [word for each in statements for word in ("-c", each)]
    argv = [*UNPRIVILEGED, "psql", "-Xq", "-h", str(sockets), "-U", "postgres", *words]
    subprocess.run(argv, env=home.env, check=True)
