"""The files of a copy by copy-on-write; tests/home/test_forks.py makes real ones."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, cast

from gatling.platform.postgres import cloning

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from gatling.platform.postgres.session import Session

COPIED = [
    "PG_VERSION",
    "backup_label",
    "base/5/1259",
    "pg_wal/00000002.history",
    "pg_wal/000000020000000000000003",
    "pg_wal/000000020000000000000004",
]
LEFT_OUT = [
    "base/pgsql_tmp/t1",
    "pg_replslot/x/state",
    "pg_wal/000000020000000000000002",
    "pg_wal/000000020000000000000005",
    "pg_wal/archive_status/000000020000000000000002.done",
    "postmaster.pid",
]


class Superuser:
    """A session in which a backup is begun and ended."""

    def ask(self, script: str, _: float) -> list[str]:
        segment = "000000020000000000000004" if script == cloning.END else COPIED[4][7:]
        return [f"{segment} {b'START'.hex()}" if script == cloning.END else segment]


def test_what_a_copy_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history of its timeline, too: pg_basebackup asks for it, and so an upgrade does."""
    monkeypatch.setattr(cloning, "_clone", shutil.copyfile)
    data, copy = tmp_path / "data", tmp_path / "copy"
    copy.mkdir()
    for name in {*COPIED, *LEFT_OUT} - {"backup_label"}:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    cloning.cluster(cast("Session", Superuser()), data, copy)
    found = sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file())
    assert found == COPIED
    assert (copy / "backup_label").read_text() == "START"
