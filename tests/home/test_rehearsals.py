"""Rehearsals of migrations on a fork of the database, with pushes and a real PostgreSQL."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until
from tests.home.test_databases import Home
from tests.home.test_restore_points import RELEASE, Shop

if TYPE_CHECKING:
    from collections.abc import Iterator

TOGETHER = "sql(\"BEGIN; #{script}; INSERT INTO schema_migrations VALUES ('#{file}'); COMMIT\")"
APART = "sql(script)\n      sql(\"INSERT INTO schema_migrations VALUES ('#{file}')\")"
"""As Ecto does with @disable_ddl_transaction."""


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    home = Home(Path(tempfile.mkdtemp(prefix="gt-", dir="/dev/shm")))
    try:
        made = Shop(home)
        made.migration("1_orders", "CREATE TABLE orders (id serial, name text)")
        made.project.push()
        home.sql("shop", "INSERT INTO orders (name) VALUES ('a'), ('a')")
        home.run("settings", "set", "shop", "migrate.rehearse=true")
        yield made
    finally:
        home.close()


def names(shop: Shop) -> list[str]:
    return [one["name"] for one in shop.home.json("db", "list")]


def columns(shop: Shop) -> str:
    return shop.home.sql(
        "shop", "SELECT string_agg(column_name::text, ',' ORDER BY column_name)"
        " FROM information_schema.columns WHERE table_name = 'orders'",
    )  # fmt: skip


def test_migrations_that_succeed_report_time_and_locks(shop: Shop) -> None:
    shop.migration("2_price", "ALTER TABLE orders ADD price int; SELECT pg_sleep(0.6)")
    said = shop.project.push()
    assert "rehearsing the migrations on a fork of shop (" in said
    assert "the rehearsed migrations took " in said
    (line,) = [line for line in said.splitlines() if "keeps the app from reading" in line]
    assert "orders: a lock that keeps the app from reading and writing for" in line
    seconds = float(line.rpartition(" for ")[2].split(" ")[0])
    assert 0.4 <= seconds <= 5
    assert columns(shop) == "id,name,price"
    assert names(shop) == ["shop"]
    assert shop.home.json("db", "forks") == []
    assert "REHEARSAL" not in shop.home.run("config", "list", "shop")
    steps = shop.home.json("deployments", "shop")
    assert steps


def test_a_release_without_migrations_makes_no_fork(shop: Shop) -> None:
    shop.project.title("no migrations")
    assert "rehears" not in shop.project.push()


def test_indexes_that_wait_for_transactions(shop: Shop) -> None:
    """The session that reads the locks holds no transaction for which such an index waits."""
    assert TOGETHER in RELEASE
    shop.project.write("lib/counter/release.ex", RELEASE.replace(TOGETHER, APART))
    shop.migration("3_index", "CREATE INDEX CONCURRENTLY ON orders (name)")
    said = shop.project.push()
    assert "no lock kept the app from reading or writing for 0.1 s" in said
    assert names(shop) == ["shop"]


def test_migrations_that_fail_with_real_data_stop_the_deployment(shop: Shop) -> None:
    """The database is as it was, and the app as well."""
    shop.migration("4_unique", "CREATE UNIQUE INDEX ON orders (name)")
    before = shop.home.sql("shop", "SELECT count(*) FROM schema_migrations")
    push = shop.project.start_push()
    said, _ = push.communicate(timeout=300)
    assert push.returncode != 0
    assert "The rehearsal of the migrations of v" in said
    assert "could not create unique index" in said
    assert "The rehearsal ran on a fork, so the database is as it was." in said
    assert shop.home.sql("shop", "SELECT count(*) FROM schema_migrations") == before
    assert "restore shop as it is now" not in said
    assert names(shop) == ["shop"]
    # corrected, and rehearsed because the command says so
    shop.home.run("settings", "unset", "shop", "migrate.rehearse")
    shop.migration("4_unique", "CREATE INDEX ON orders (name)")
    deployments = shop.home.json("deployments", "shop")
    for wrong in ("rehearse=yes", "rehears"):
        said = shop.project.push(options=(f"--push-option={wrong}",), ok=False)
        assert "rehearse" in said
    assert shop.home.json("deployments", "shop") == deployments, "rejected before anything is built"
    said = shop.project.push(options=("--push-option=rehearse",))
    assert "rehearsing the migrations on a fork of shop (" in said
    assert names(shop) == ["shop"]


def test_a_rehearsal_by_the_command(shop: Shop) -> None:
    shop.migration("5_note", "ALTER TABLE orders ADD note text")
    refused = shop.home.try_run("rollback", "shop", "--rehearse", "--confirm", "shop")
    assert "rehearsing the migrations" not in refused.stdout
    shop.project.git("push", "-q", "gatling", "HEAD:refs/heads/next")
    said = shop.home.run("deploy", "shop", "next", "--rehearse")
    assert "rehearsing the migrations on a fork of shop (" in said
    assert "note" in columns(shop)
    assert names(shop) == ["shop"]


def test_a_killed_rehearsal_leaves_no_fork(shop: Shop) -> None:
    shop.home.run("settings", "set", "shop", "migrate.rehearse=true")
    shop.migration("6_slow", "ALTER TABLE orders ADD slow text; SELECT pg_sleep(30)")
    push = shop.project.start_push()
    shop.home.at_step("rehearse_migrations")
    until(lambda: "shop-rehearsal" in _ready(shop), "the fork")
    os.kill(shop.home.hook(), signal.SIGKILL)
    push.communicate(timeout=60)
    shop.home.settled()
    assert names(shop) == ["shop"]
    assert not (shop.home.home / "databases/shop-rehearsal").exists()
    assert "slow" not in columns(shop)


def test_a_database_of_the_name_stays(shop: Shop) -> None:
    shop.home.run("db", "fork", "shop", "shop-rehearsal")
    shop.migration("6_slow", "ALTER TABLE orders ADD slow text")
    push = shop.project.start_push()
    said, _ = push.communicate(timeout=300)
    assert (
        "The rehearsal needs a fork shop-rehearsal, and there is a database of that name." in said
    )
    assert names(shop) == ["shop", "shop-rehearsal"]
    shop.home.run("db", "fork", "shop", "shop-rehearsal", "--destroy", "--confirm",
                  "shop-rehearsal")  # fmt: skip


def test_a_database_of_somebody_else_s_is_not_rehearsed(shop: Shop) -> None:
    """The migrations run without a rehearsal, and the push says so."""
    url = shop.home.run("config", "get", "shop", "DATABASE_URL").strip()
    shop.home.run("config", "set", "shop", f"DATABASE_URL={url}&pool=1")
    said = shop.project.push("HEAD:main")
    assert "the app uses no database that Gatling created" in said
    assert "slow" in columns(shop)


def _ready(shop: Shop) -> list[str]:
    return [one["name"] for one in shop.home.json("db", "list") if one["state"] == "ready"]
