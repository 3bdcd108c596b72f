"""Databases in backups of directories that stand for servers, with dumps that are made up."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

import pytest
from msgspec import structs

from gatling.errors import CommandFailed, GatlingError, InvalidInput
from gatling.host import backup, restore
from gatling.host import databases as databases_of_hosts
from gatling.platform import lock
from gatling.state import backups, databases, former_clusters
from tests.host.archives import Server, after, member, read, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatling.host.databases import Used
    from gatling.state.database import Database

HEAD = {"database": "", "version": 15, "schema": "s", "tables": {"public.a": [2, "7"]},
        "roles": ["gatling-shop"], "extensions": []}  # fmt: skip


def dumped(used: Used, target: IO[bytes], _: Callable[[str], None]) -> str:
    """A dump that says whose it is."""
    head = HEAD | {"database": used.cluster.database}
    target.write(json.dumps(head).encode() + b"\nPGDMP " + used.cluster.database.encode())
    return f"database {used.cluster.database}: proved"


class Host(databases_of_hosts.Host):
    """A host that has a later version of PostgreSQL."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.loaded: dict[str, tuple[int, bytes]] = {}

    def version(self, wanted: int, database: str) -> int:
        assert wanted == 15
        if database == "none":
            raise InvalidInput("too old")
        return 17

    def load(self, used: Used, file: IO[bytes]) -> None:
        if used.cluster.database == self.broken:
            raise CommandFailed("The restored database is not the same.")
        self.loaded[used.cluster.database] = (used.cluster.version, file.read())

    def install_backups(self, db: Database) -> None:
        assert len(backups.plans(db)) == 1


@pytest.fixture
def old(old: Server) -> Server:
    """With two databases of an app, one of both apps, one of nobody, and one that is incomplete."""
    db = old.database()
    for name, app in (("shop", "shop"), ("both", "idle"), ("lost", "idle"), ("half", "idle")):
        databases.add(db, name, app, 15, f"{name.upper()}_URL")
        databases.mark(db, name, "creating" if name == "half" else "ready")
    databases.attach(db, databases.Attachment("both", "shop", "BOTH_URL", "read"))
    databases.detach(db, "lost", "idle")
    backups.plan(db, backups.Plan("shop", "03:15", 2, 14, "2026-01-01T00:00:00.000Z"))
    backups.record(db, "shop", "")
    record = databases.get(db, "shop")
    former_clusters.upgraded(db, structs.replace(record, version=14), 15, 1)
    db.close()
    return old


@pytest.fixture
def made(old: Server, tmp_path: Path) -> Path:
    backup.backup(tmp_path / "b.tar.gz", old.root, dump=dumped)
    return tmp_path / "b.tar.gz"


def bring(new: Server, file: Path, host: Host) -> str:
    return "\n".join(restore.restore(file, new.root, new.ask, new.start, host))


def test_each_database_is_dumped_while_no_app_that_uses_it_is_deployed(
    old: Server, tmp_path: Path
) -> None:
    seen = {}

    def spy(used: Used, target: IO[bytes], say: Callable[[str], None]) -> str:
        held = []
        for app in ("idle", "shop"):
            with lock.try_hold(old.app(app) / "lock") as free:
                held += [] if free else [app]
        seen[used.cluster.database] = held
        return dumped(used, target, say)

    said = backup.backup(tmp_path / "b.tar.gz", old.root, dump=spy)
    assert seen == {"both": ["idle", "shop"], "lost": ["idle", "shop"], "shop": ["shop"]}
    assert "database shop: proved" in said
    assert "left out: the database half" in said
    assert [path.name for path in tmp_path.iterdir() if path.name != "old"] == ["b.tar.gz"]


def test_a_dump_that_is_not_proved_is_in_no_backup(old: Server, tmp_path: Path) -> None:
    def fails(used: Used, *_: Any) -> str:
        raise CommandFailed(f"The copy of {used.cluster.database} is not the same.")

    with pytest.raises(CommandFailed, match="not the same"):
        backup.backup(tmp_path / "b.tar.gz", old.root, dump=fails)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    said = backup.backup(tmp_path / "b.tar.gz", old.root, databases=False, dump=fails)
    for name in ("shop", "both", "lost", "half"):
        assert f"left out: the database {name}" in said


def test_they_are_restored_before_apps_start(new: Server, made: Path) -> None:
    host = Host()
    said = bring(new, made, host)
    assert "The database shop is restored, with PostgreSQL 17." in said
    assert {name: version for name, (version, _) in host.loaded.items()} == {
        "both": 17, "lost": 17, "shop": 17
    }  # fmt: skip
    assert host.loaded["shop"][1].endswith(b"PGDMP shop")
    assert [verb for verb, _ in new.asked if verb.startswith("database")] == ["database-create"] * 3
    assert new.started == ["recover --units", "db scheduled"]
    db = new.database()
    assert {one.name: one.version for one in databases.every(db)} == {
        "both": 17, "half": 15, "lost": 17, "shop": 17
    }  # fmt: skip
    assert backups.every(db) == {}, "this host has none"
    assert former_clusters.of(db, "shop") == [], "they stay on the host of before"
    assert backups.plans(db)["shop"].changed_at > "2026-01-01T00:00:00.000Z"
    db.close()


def test_one_that_cannot_be_restored_undoes_everything(new: Server, made: Path) -> None:
    before = new.picture()
    with pytest.raises(CommandFailed, match="not the same"):
        bring(new, made, Host(broken="lost"))
    removed = [verb for verb, _ in new.asked if verb == "database-remove"]
    assert len(removed) == 2, "also what the failed one has left"
    assert new.picture() == before
    assert new.started == []


def test_a_version_that_this_host_cannot_have(
    new: Server, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_old(*_: object) -> int:
        raise InvalidInput("This host has an older PostgreSQL.")

    monkeypatch.setattr(Host, "version", too_old)
    before = new.picture()
    with pytest.raises(InvalidInput, match="older PostgreSQL"):
        bring(new, made, Host())
    assert new.picture() == before
    assert new.asked == []


def test_bad_archives(new: Server, made: Path, tmp_path: Path) -> None:
    every = read(made)
    names = [info.name for info, _ in every if info.name.startswith("databases")]
    assert names == ["databases", "databases/both", "databases/lost", "databases/shop"]
    less = [one for one in every if one[0].name != "databases/lost"]
    unknown = after(every, "databases/lost", member("databases/more"))
    for members, match in (
        (less, "lacks the database lost"),
        (unknown, "a database that it does not list"),
        ([(info, b"evil\n" if info.name == "databases/shop" else content)
          for info, content in every], "not the dump"),
    ):  # fmt: skip
        before = new.picture()
        with pytest.raises(GatlingError, match=match):
            bring(new, write(tmp_path / "bad.tar.gz", members), Host())
        assert new.picture() == before
        assert new.asked == []


def test_a_backup_of_before_has_no_databases(new: Server, old: Server, made: Path,
                                             tmp_path: Path) -> None:  # fmt: skip
    members = []
    for info, content in read(made):
        if info.name.startswith("databases"):
            continue
        if info.name == "manifest.json":
            manifest = json.loads(content) | {"format": 1}
            del manifest["databases"]
            content = json.dumps(manifest).encode()  # noqa: PLW2901
        members.append((info, content))
    said = bring(new, write(tmp_path / "old.tar.gz", members), Host())
    assert "The database shop is not in this backup" in said
