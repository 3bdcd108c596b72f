"""The URL of a pool of connections follows that of its database, and the pool the records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gatling.deploy import pools
from gatling.errors import CommandFailed
from gatling.state import apps, config, databases
from gatling.state import pools as sizes
from gatling.state.database import open_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.state.database import Database

POOL, DIRECT = "DATABASE_CONNECTION_POOL_URL", "DATABASE_URL"


class Running:
    """The pools of a platform, which notes what it has."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[list[str], int]] = {}

    def url(self, _: str, database: str) -> str:
        return f"pool/{database}"

    def exists(self, app: str) -> bool:
        return app in self.found

    def set(self, app: str, databases: list[str], size: int) -> None:
        if size == 666:
            raise CommandFailed("It does not start.")
        self.found[app] = (list(databases), size)

    def remove(self, app: str) -> None:
        del self.found[app]


class Home:
    def __init__(self, db: Database) -> None:
        self.db, self.pools = db, Running()
        self.databases = SimpleNamespace(url=lambda _, database: f"direct/{database}")

    def config(self, **values: str) -> None:
        config.replace(self.db, "shop", values)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Any]:
    with_records = open_database(tmp_path / "state.db")
    apps.create(with_records, "shop", lambda _: True)
    for name, variable in (("shop", DIRECT), ("restored", "RESTORED_URL")):
        databases.add(with_records, name, "shop", 17, variable)
        databases.mark(with_records, name, "ready")
    yield Home(with_records)
    with_records.close()


def test_the_url_of_the_pool_follows_that_of_the_database(home: Any) -> None:
    home.config(**{DIRECT: "direct/shop", POOL: "pool/shop"})
    assert pools.follow(home, "shop", {DIRECT: "direct/restored"}) == {
        DIRECT: "direct/restored", POOL: "pool/restored",
    }  # fmt: skip
    assert home.pools.found == {"shop": (["restored", "shop"], 20)}, "it runs with all of them"
    for elsewhere in (None, "ecto://db.example.com/shop", "direct/unknown"):
        assert pools.follow(home, "shop", {DIRECT: elsewhere})[POOL] is None
    # the user's own, and a variable that has no pool
    assert pools.follow(home, "shop", {DIRECT: "x", POOL: "y"}) == {DIRECT: "x", POOL: "y"}
    assert pools.follow(home, "shop", {"RESTORED_URL": None}) == {"RESTORED_URL": None}
    home.config(**{DIRECT: "direct/shop", POOL: "https://another.example.com"})
    assert pools.follow(home, "shop", {DIRECT: None}) == {DIRECT: None}


def test_another_config_is_the_base_of_a_rewind(home: Any) -> None:
    before = {DIRECT: "direct/shop", POOL: "pool/shop"}
    assert pools.follow(home, "shop", {DIRECT: "direct/restored"}) == {DIRECT: "direct/restored"}
    assert pools.follow(home, "shop", {DIRECT: "direct/restored"}, before)[POOL] == "pool/restored"


def test_migrations_get_the_urls_of_the_databases(home: Any) -> None:
    values = {DIRECT: "direct/shop", POOL: "pool/shop", "OTHER": "pool/restored"}
    # by their values: a release may be of a time when another database was the main one
    databases_own = {DIRECT: "direct/shop", POOL: "direct/shop", "OTHER": "direct/restored"}
    assert pools.direct(home, "shop", values) == databases_own
    assert pools.used(home, "shop", values) == {"shop": POOL, "restored": "OTHER"}


def test_the_pool_runs_while_a_config_or_a_release_has_its_url(home: Any) -> None:
    pools.settle(home, "shop")
    assert home.pools.found == {}
    sizes.set_size(home.db, "shop", 7)
    pools.settle(home, "shop")
    assert home.pools.found["shop"] == (["restored", "shop"], 7)
    home.config(**{POOL: "pool/shop"})
    sizes.set_size(home.db, "shop", None)
    pools.settle(home, "shop")
    assert home.pools.found["shop"] == (["restored", "shop"], 20)
    home.config()
    home.db.execute(
        "INSERT INTO releases (app, number, origin, commit_id, name, version, elixir, otp, bytes,"
        " config, manifest, created_at) VALUES ('shop', 1, 'build', 'c', 'n', '1', '1', '1', 1,"
        " ?, '{}', 't')", f'{{"{POOL}": "pool/shop"}}',
    )  # fmt: skip
    pools.retire(home, "shop")
    assert "shop" in home.pools.found, "a rollback to v1 would use it"
    home.db.execute("UPDATE releases SET removed_at = 't', config = '{}'")
    pools.retire(home, "shop")
    assert home.pools.found == {}


def test_without_databases_there_is_no_pool(home: Any) -> None:
    sizes.set_size(home.db, "shop", 7)
    pools.settle(home, "shop")
    for name in ("shop", "restored"):
        databases.detach(home.db, name, "shop")
    pools.settle(home, "shop")
    assert home.pools.found == {}


def test_a_pool_that_does_not_start_keeps_no_app_from_its_recovery(home: Any) -> None:
    sizes.set_size(home.db, "shop", 666)
    assert pools.settled(home, "shop") == ["the connection pool of shop: It does not start."]
