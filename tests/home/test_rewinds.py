"""Rollbacks with the data of their time: a real PostgreSQL, pgBackRest, and pushes that migrate."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from tests.api.served import Served, server
from tests.dashboard.opened import opened
from tests.home.test_databases import UNPRIVILEGED, Home
from tests.home.test_restore_points import Shop
from tests.scale import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(shutil.which("pgbackrest") is None, reason="needs pgBackRest")


class Rewound(Shop):
    """An app with two releases: one that has orders with a name, one that has renamed it."""

    def main(self) -> str:
        """The database that the live release uses, and that Gatling takes for the main one."""
        url = self.home.run("config", "get", "shop", "DATABASE_URL").strip()
        used = [one["name"] for one in self.home.json("db", "list")
                for use in one["used_by"] if use["variable"] == "DATABASE_URL"]  # fmt: skip
        assert [f"/{name}?" in url for name in used] == [True]
        return str(used[0])

    def read(self, database: str, statement: str) -> str:
        """What psql prints in a database."""
        words = ("db", "psql", "shop", "--name", database, "--", "-XqAt", "-c", statement)
        return self.home.run(*words).strip()

    def live(self) -> int:
        with sqlite3.connect(self.home.home / "state.db") as db:
            return int(db.execute("SELECT live_release FROM apps").fetchone()[0])

    def pair(self) -> tuple[str, str]:
        """The column that the code of the live release is for, and the one that its data has."""
        with sqlite3.connect(self.home.home / "state.db") as db:
            base, config = db.execute(
                "SELECT coalesce(base, number), config FROM releases"
                " WHERE number = (SELECT live_release FROM apps)"
            ).fetchone()
        main = self.main()
        assert f"/{main}?" in config  # the config of the release, and that of the app
        column = self.read(
            main, "SELECT column_name FROM information_schema.columns"
            " WHERE table_name = 'orders' AND column_name <> 'id'",
        )  # fmt: skip
        return ("name" if base == 1 else "title"), column


@pytest.fixture(scope="module")
def shop() -> Iterator[Rewound]:
    home = Home(Path(tempfile.mkdtemp(prefix="gt-", dir="/dev/shm")))
    try:
        made = Rewound(home)
        router = "lib/counter/router.ex"
        made.project.replace(router, '"/health" =>', '"/broken" => ["GET"],\n    "/health" =>')
        healthy = '  defp answer("/health")'
        broken = '  defp answer("/broken"), do: text(503, "broken")\n'
        made.project.replace(router, healthy, broken + healthy)
        made.migration("1_orders", "CREATE TABLE orders (id serial, name text)")
        made.project.push()
        home.sql("shop", "INSERT INTO orders (name) VALUES ('before')")
        home.run("db", "backup", "shop")
        made.migration("2_title", "ALTER TABLE orders RENAME name TO title")
        made.project.push()
        home.sql("shop", "INSERT INTO orders (title) VALUES ('after'), ('later')",
                 "UPDATE orders SET title = 'changed' WHERE id = 1")  # fmt: skip
        yield made
    finally:
        home.close()


def test_it_asks_and_says_what_would_be_lost(shop: Rewound) -> None:
    refused = shop.home.try_run("rollback", "shop", "--with-data", "--confirm", "blog")
    assert refused.returncode == Exit.INVALID
    assert "before the migrations of v2" in refused.stdout
    assert "transactions since then, in these tables:" in refused.stdout
    line = next(line for line in refused.stdout.splitlines() if line.startswith("orders"))
    assert line.split() == ["orders", "2", "1", "0"]
    assert "Nothing was changed" in refused.stdout
    assert [one["name"] for one in shop.home.json("db", "list")] == ["shop"]
    assert shop.pair() == ("title", "title")
    for words, said in (
        (("v2",), "v2 is already live"), (("v9",), "v9"), (("x",), "not a release"),
    ):  # fmt: skip
        assert said in shop.home.run("rollback", "shop", *words, "--with-data", "--confirm", "shop",
                                     ok=False)  # fmt: skip


STEPS = [
    ("gatling.platform.embedded.databases", "OwnDatabases.restore", False),
    ("gatling.releases.store", "copy", False),
    ("gatling.deploy.evidence.health", "wait_healthy", False),
    ("gatling.state.apps", "make_live", True),
]
"""Calls after which a rollback with data is killed, and whether it has taken place then."""
NEAR = [
    ("gatling.state.databases", "add", False),
    ("gatling.operations.restoring", "restore", False),
    ("gatling.deploy.cutover.instance", "start", False),
    ("gatling.deploy.settle", "settle", True),
]
"""Calls beside those, after which there is hardly anything else on the disk."""


@pytest.mark.parametrize(("module", "after", "goes_on"), [*STEPS, *(NEAR if LONG else [])])
def test_killed_at_any_step_code_and_data_fit(
    shop: Rewound, module: str, after: str, goes_on: bool
) -> None:
    """Before the decision both are those of before, after it those of the rollback."""
    shop.home.killed(module, after, "rollback", "shop", "v1", "--with-data", "--confirm", "shop")
    shop.home.settled()
    shop.home.run("recover", "shop")
    assert shop.pair() == (("name", "name") if goes_on else ("title", "title"))
    if goes_on:
        shop.home.run("rollback", "shop", "v2", "--confirm", "shop")
    assert shop.pair() == ("title", "title")
    assert shop.main() == "shop"
    assert shop.home.sql("shop", "SELECT count(*) FROM orders") == "3"
    for one in shop.home.json("db", "list"):
        if one["name"] != "shop":
            shop.home.run("db", "destroy", "shop", "--name", one["name"], "--confirm", one["name"])


def test_code_and_data_go_back_together_and_forward_again(shop: Rewound) -> None:
    shop.home.run("db", "schedule", "shop", "--at", "03:15")
    said = shop.home.run("rollback", "shop", "v1", "--with-data", "--confirm", "shop")
    assert "v1 is live again, as v" in said
    assert "0 of " in said  # requests failed
    new = shop.main()
    assert new == "shop-v1"
    assert shop.pair() == ("name", "name")
    assert shop.read("shop-v1", "SELECT string_agg(name, ',') FROM orders") == "before"
    # the database of before has all that was written to it
    assert shop.read("shop", "SELECT count(*) FROM orders") == "3"
    assert "gatling rollback shop v2" in said
    assert "03:15" in shop.home.run("db", "schedule", "shop", "--name", "shop-v1")
    # to where it was, in one decision as well
    shop.home.run("rollback", "shop", "v2", "--confirm", "shop")
    assert shop.pair() == ("title", "title")
    assert shop.main() == "shop"


def test_it_is_done_over_http_and_shown_on_a_page(shop: Rewound) -> None:
    served = Served(shop.home.root, shop.home.env)
    reader = served.token("rita", "reader", "shop")
    token, live = served.token("ci", "deployer", "shop"), shop.live()
    with server(served, run_by=UNPRIVILEGED):
        path, wanted = "/v1/apps/shop/rewind?release=v1", {"release": "v1", "with_data": True}
        assert served.ask("GET", path, reader).status == 403
        plan = served.ask("GET", path, token).json
        assert (plan["release"], plan["live"], plan["database"]) == ("v1", f"v{live}", "shop")
        (orders,) = [one for one in plan["lost"]["tables"] if one["table"] == "orders"]
        assert (orders["inserted"], orders["updated"]) == (2, 1)
        refused = served.ask("POST", "/v1/apps/shop/rollback", token, wanted)
        assert (refused.status, refused.code) == (422, "invalid-input")
        assert "All changes of shop since then are missing there" in refused.text
        assert shop.live() == live
        with opened(shop.home.env, before=UNPRIVILEGED) as here:
            here.enter()
            assert "/apps/shop/rewind?release=v1" in here.get("/apps/shop/rollback?release=v1").text
            page = here.get("/apps/shop/rewind?release=v1").text
            assert "<td><code>orders</code></td>" in page
            assert here.get(f"/apps/shop/rewind?release=v{live}").status == 422
            # the form without its check box
            sent = {"token": here.token(), "release": "v1"}
            assert here.ask("POST", "/apps/shop/rewind", sent).status == 422
        # once more, under another name
        done = served.ask("POST", "/v1/apps/shop/rollback", token, wanted | {"confirm": "shop"})
        assert done.json["outcome"] == "succeeded", done.text
        assert done.json["actor"] == "ci"
    assert shop.main() == "shop-v1-2"
    assert shop.pair() == ("name", "name")
    shop.home.run("rollback", "shop", "v2", "--confirm", "shop")


def test_an_old_release_that_does_not_boot_on_the_data_changes_nothing(shop: Rewound) -> None:
    live = shop.live()
    shop.home.run("settings", "set", "shop", "health.path=/broken", "health.timeout=2")
    failed = shop.home.try_run("rollback", "shop", "v1", "--with-data", "--confirm", "shop")
    shop.home.run("settings", "unset", "shop", "health.path", "health.timeout")
    assert failed.returncode != 0
    assert shop.live() == live
    assert shop.pair() == ("title", "title")
    assert shop.main() == "shop"


def test_without_data_all_is_as_before(shop: Rewound) -> None:
    asked = shop.home.try_run("rollback", "shop", "v1", stdin="no\n")
    assert "Deploy v1 on a database with migrations that it does not have" in asked.stdout
    shop.home.run("rollback", "shop", "v1", "--confirm", "shop")
    assert shop.main() == "shop"
    assert shop.pair() == ("name", "title")
    shop.home.run("rollback", "shop", "v2", "--confirm", "shop")


def test_no_restore_point_no_rewind(shop: Rewound) -> None:
    shop.project.title("no migrations")
    shop.project.push()
    live = shop.live()
    refused = shop.home.try_run("rollback", "shop", "v2", "--with-data", "--confirm", "shop")
    assert refused.returncode == Exit.NOT_FOUND
    assert "No release after v2 ran migrations on shop" in refused.stdout
    assert shop.live() == live
