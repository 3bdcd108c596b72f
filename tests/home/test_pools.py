"""Pools of connections: a real PgBouncer between an app and a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from gatling.errors import Exit
from tests.api.served import Served, server
from tests.conftest import kill_and_wait, until
from tests.dashboard.opened import opened
from tests.home import pgbouncer
from tests.home.test_databases import EMBEDDED, UNPRIVILEGED, Home
from tests.home.test_restore_points import RELEASE, Shop

if TYPE_CHECKING:
    from collections.abc import Iterator

POOL = "DATABASE_CONNECTION_POOL_URL"
THROUGH_POOL = (
    RELEASE.replace(
        'System.fetch_env!("DATABASE_URL")',
        f'System.get_env("{POOL}", System.fetch_env!("DATABASE_URL"))',
    )
    .replace("#{script}; INSERT", "#{script}; INSERT INTO urls VALUES ('#{url()}'); INSERT")
    .replace(
        "defp sql(script)",
        f'defp url, do: System.get_env("{POOL}")\n\n  defp sql(script)',
    )
)
"""Migrations that connect by the variable of the pool, and record its value."""
POOLS = "gatling.platform.embedded.pools"


class Pooled(Shop):
    """An app with a database, and a pool."""

    def url(self, variable: str = POOL) -> str:
        return self.home.run("config", "get", "shop", variable).strip()

    def words(self, url: str, program: str = "psql") -> list[str]:
        """The words with which a program connects by a URL."""
        parts = urlsplit(url)
        (sockets,) = parse_qs(parts.query)["socket_dir"]
        return [*UNPRIVILEGED, program, "-h", sockets, "-U", str(parts.username), parts.path[1:]]

    def ask(self, statement: str) -> str:
        """What psql prints through the pool."""
        words = [*self.words(self.url()), "-XqAt", "-c", statement]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    def main(self) -> str:
        return self.ask("SELECT current_database()")

    def poolers(self) -> list[str]:
        return [line for line in self.home.processes() if "pgbouncer.ini" in line]

    def is_gone(self) -> bool:
        return not self.poolers() and not (self.home.home / "pools/shop").exists()


@pytest.fixture(scope="module")
def shop() -> Iterator[Pooled]:
    home = Home(Path(tempfile.mkdtemp(prefix="gt-", dir="/dev/shm")))
    try:
        made = Pooled(home)
        if shutil.which("pgbouncer", path="/usr/sbin:/usr/bin") is None:
            said = home.try_run("db", "pool", "shop")
            assert "PgBouncer, which pools connections, is not installed." in said.stdout
            assert said.returncode == Exit.HOST
            assert "no variable" in home.run("config", "get", "shop", POOL, ok=False)
        home.env["PATH"] += f":{pgbouncer.directory(home.root)}"
        made.project.write("lib/counter/release.ex", THROUGH_POOL)
        home.sql("shop", "CREATE TABLE urls (url text)")
        made.project.commit()
        made.project.push()
        yield made
    finally:
        home.close()


def test_it_is_turned_on_and_shared(shop: Pooled) -> None:
    refused = shop.home.run("db", "pool", "shop", "--size", "500", ok=False)
    assert "A pool of 500 connections is too large: the database shop takes" in refused
    said = shop.home.run("db", "pool", "shop", "--size", "2")
    assert f"shop has a pool of 2 connections to shop. Its URL is {POOL}" in said
    assert "PgBouncer 1.18 does not support" not in said or "`prepare: :unnamed`" in said
    assert shop.url() != shop.url("DATABASE_URL")
    assert shop.home.json("status", "shop")["release"] == "v2"
    (one,) = shop.home.facts("db", "info", "shop")["pools"]
    assert one == {"app": "shop", "variable": POOL, "size": 2}
    assert "up to 2 connections" in shop.home.run("db", "info", "shop")

    # twelve clients at once, and two sessions
    words = [*shop.words(shop.url()), "-XqAt", "-c", "SELECT pg_backend_pid(), pg_sleep(0.2)"]
    clients = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(12)]
    sessions = {client.communicate()[0].split("|")[0] for client in clients}
    assert len(sessions) == 2
    assert (shop.home.home / "pools/shop").stat().st_mode & 0o077 == 0

    # another size needs no deployment
    shop.home.run("db", "pool", "shop", "--size", "3")
    assert shop.home.json("status", "shop")["release"] == "v2"
    assert shop.home.facts("db", "info", "shop")["pools"][0]["size"] == 3


def test_it_is_turned_off_and_on_over_http(shop: Pooled) -> None:
    home, path = shop.home, "/v1/apps/shop/database/pool"
    served = Served(home.root, home.env)
    reader = served.token("rita", "reader", "shop")
    token = served.token("ci", "deployer", "shop")
    with server(served, run_by=UNPRIVILEGED):
        assert served.ask("PUT", path, reader, {"size": 4}).status == 403
        done = served.ask("PUT", path, token, {"size": 2}).json
        assert (done["changed"], done["deployment"]) == (True, None)
        assert done["pool"]["size"] == 2
        assert done["notes"] == [] or "`prepare: :unnamed`" in done["notes"][0]
        done = served.ask("DELETE", path, token).json
        assert (done["pool"], done["deployment"]["actor"]) == (None, "ci")
        assert "no variable" in home.run("config", "get", "shop", POOL, ok=False)
        assert served.ask("DELETE", path, token).status == 404
        done = served.ask("PUT", path, token, {"size": 3}).json
        assert done["deployment"]["outcome"] == "succeeded"
        assert shop.main() == "shop"
        refused = served.ask("PUT", path, token, {"size": 500})
        assert (refused.status, refused.code) == (422, "invalid-input")
    with opened(home.env, before=UNPRIVILEGED) as here:
        here.enter()
        shown = here.get("/databases").text
        assert "3 connections" in shown
        assert "/apps/shop/pool/off?name=shop" in shown
        assert POOL in here.get("/apps/shop/pool/off?name=shop").text
        sent = {"token": here.token(), "name": "shop", "size": "4"}
        found = here.ask("POST", "/apps/shop/pool", sent)
        assert home.facts("db", "info", "shop")["pools"][0]["size"] == 4, found.text
    wanted = {("ci", "shop, 2 connections"), ("ci", "shop, off"), ("ci", "shop, 3 connections")}
    assert wanted <= {(one.actor, one.detail) for one in served.audit()}


def test_migrations_and_their_rehearsal_go_to_the_database_itself(shop: Pooled) -> None:
    shop.home.run("settings", "set", "shop", "migrate.rehearse=true")
    shop.migration("1_orders", "CREATE TABLE orders (id serial)")
    assert "the rehearsed migrations took" in shop.project.push()
    # one that the rehearsal had run here would be there twice, or by another URL
    assert shop.home.sql("shop", "SELECT url FROM urls") == shop.url("DATABASE_URL")
    assert "pools" in shop.url()
    shown = f'IO.puts(System.get_env("{POOL}"))'
    assert shop.home.run("run", "shop", "eval", shown).strip() == shop.url("DATABASE_URL")
    shop.home.run("settings", "set", "shop", "migrate.rehearse=false")


def test_it_follows_the_database(shop: Pooled) -> None:
    """To one that is promoted, back by a rollback, and not to one elsewhere."""
    assert shop.main() == "shop"
    shop.home.run("db", "fork", "shop", "shop-try")
    shop.home.run("db", "promote", "shop", "--name", "shop-try")
    assert "/shop-try?" in shop.url("DATABASE_URL")
    assert shop.main() == "shop-try"
    shop.home.run("rollback", "shop")
    assert "/shop?" in shop.url("DATABASE_URL")
    assert shop.main() == "shop"
    direct = shop.url("DATABASE_URL")
    elsewhere = "DATABASE_URL=ecto://db.example.com/shop"
    shop.home.run("config", "set", "shop", "--no-restart", elsewhere)
    assert "no variable" in shop.home.run("config", "get", "shop", POOL, ok=False)
    assert "is not the URL of the database shop" in shop.home.run("db", "pool", "shop", ok=False)
    shop.home.run("config", "set", "shop", "--no-restart", f"DATABASE_URL={direct}")
    shop.home.run("db", "pool", "shop")
    assert shop.main() == "shop"


@pytest.mark.skipif(shutil.which("pgbackrest") is None, reason="needs pgBackRest")
def test_it_follows_a_rollback_with_data(shop: Pooled) -> None:
    shop.home.run("db", "backup", "shop")
    shop.migration("2_more", "CREATE TABLE more (id int)")
    shop.project.push()
    migrated = shop.home.json("status", "shop")["release"]
    shop.home.run("rollback", "shop", "--with-data", "--confirm", "shop")
    restored = shop.main()
    assert restored.startswith("shop-v")
    assert f"/{restored}?" in shop.url("DATABASE_URL")
    assert shop.ask("SELECT to_regclass('more') IS NULL") == "t"
    shop.home.run("rollback", "shop", migrated, "--confirm", "shop")
    assert shop.main() == "shop"
    shop.home.run("db", "destroy", "shop", "--name", restored, "--confirm", restored)
    assert shop.main() == "shop"


def test_killed_at_any_step(shop: Pooled) -> None:
    on, off = ("db", "pool", "shop", "--size", "4"), ("db", "pool", "shop", "--off")
    for module, after in (
        ("gatling.operations.config", "change"), ("gatling.state.pools", "set_size"),
    ):  # fmt: skip
        shop.home.killed(module, after, *off)
        shop.home.settled()
    shop.home.run("recover", "shop")
    assert "does not use the database shop through a pool" in shop.home.run(*off, ok=False)
    assert "no variable" in shop.home.run("config", "get", "shop", POOL, ok=False)
    assert shop.poolers(), "a rollback would use it"

    for module, after in (
        ("gatling.state.pools", "set_size"), ("gatling.files", "write"),
        (POOLS, "OwnPools.set"), ("gatling.deploy.pools", "settle"),
        ("gatling.releases.store", "copy"),
    ):  # fmt: skip
        shop.home.killed(module, after, *on)
        shop.home.settled()
        shop.home.run("recover", "shop")
        assert len(shop.poolers()) == 1
    shop.home.run(*on)
    assert shop.main() == "shop"


def test_a_kill_of_the_pool_and_of_its_supervisor(shop: Pooled) -> None:
    pid = int((shop.home.home / "pools/shop/pid").read_text())
    os.kill(pid, signal.SIGKILL)
    until(lambda: _answers(shop), "the pool")
    kill_and_wait(shop.home.supervisord())  # PgBouncer goes on without it
    shop.home.run("up")
    until(lambda: _answers(shop), "the pool")
    until(lambda: len(shop.poolers()) == 1, "one PgBouncer")
    shop.home.run("down")
    assert not shop.poolers()
    shop.home.run("up")
    until(lambda: _answers(shop), "the pool")


def test_it_goes_with_the_use_of_the_database(shop: Pooled) -> None:
    shop.home.run("db", "detach", "shop", "--no-restart")
    assert shop.poolers(), "a retained release is for its other database"
    shop.home.run("db", "detach", "shop", "--name", "shop-try", "--no-restart")
    assert shop.is_gone()
    assert "no variable" in shop.home.run("config", "get", "shop", POOL, ok=False)
    shop.home.run("db", "attach", "shop", "shop", "--as", "DATABASE_URL", "--no-restart")
    shop.home.killed("gatling.state.pools", "set_size", "db", "pool", "shop", "--no-restart")
    shop.home.run("up")
    assert len(shop.poolers()) == 1
    shop.home.run("db", "pool", "shop", "--no-restart")
    assert shop.main() == "shop"
    # a removal that was killed when the files were removed
    words = ("db", "destroy", "shop", "--name", "shop", "--confirm", "shop")
    shop.home.killed(EMBEDDED, "OwnDatabases.remove", *words)
    shop.home.run(*words)
    assert "no variable" in shop.home.run("config", "get", "shop", POOL, ok=False)
    shop.home.run("db", "create", "shop", "--no-restart")
    shop.home.run("db", "pool", "shop", "--no-restart")
    shop.home.run("unload", "shop", "--confirm", "shop")
    assert shop.is_gone()


def _answers(shop: Pooled) -> bool:
    words = [*shop.words(shop.url()), "-XqAt", "-c", "SELECT 1"]
    return subprocess.run(words, capture_output=True, check=False).stdout.strip() == b"1"
