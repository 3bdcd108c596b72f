"""Pools of connections on a server: PgBouncer as an app's user, closed to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from gatling.platform.postgres import pooler
from gatling.platform.server import pool_units
from tests.conftest import until
from tests.server.server import download

if TYPE_CHECKING:
    from tests.server.image import Image
    from tests.server.server import Person, Server

POOL = "DATABASE_CONNECTION_POOL_URL"
UNIT = pool_units.unit("shop")


@pytest.fixture(scope="module")
def server_image(database_image: Image) -> Image:
    """With the packages of databases: their installation is what other tests are about."""
    return database_image


@pytest.fixture(scope="module")
def dora(server: Server) -> Person:
    """A deployer of two apps."""
    return server.let_in("dora", "shop", "blog")


@pytest.fixture(scope="module")
def amy(server: Server, dora: Person) -> Person:
    """An admin, on a server with two databases."""
    download(server.box, "pgbouncer")
    found = server.admin("amy")
    for app in ("shop", "blog"):
        dora.run("load", app)
    found.run("db", "create", "shop")
    return found


def asked(server: Server, statement: str, *, user: str = "gatling-shop", app: str = "shop") -> str:
    """What psql prints as a user, through the pool of an app."""
    argv = ["psql", "-XqAt", "-h", str(pool_units.sockets(app)), "-U", "anybody", "-d", "shop",
            "-c", statement]  # fmt: skip
    done = server.box.exec(argv, user=user, check=False)
    return (done.stdout + done.stderr).strip()


def state(server: Server, unit: str) -> dict[str, str]:
    return server.show(unit, "ActiveState", "UnitFileState")


def test_it_is_installed_without_the_packages_own_service(
    server: Server, dora: Person, amy: Person
) -> None:
    assert "only an admin may install it" in dora.run("db", "pool", "shop", status=Exit.REFUSED)
    said = amy.run("db", "pool", "shop")
    assert "Installing PgBouncer" in said
    assert f"Its URL is {POOL}" in said
    older = pooler.version(server.box.exec(["/usr/sbin/pgbouncer", "--version"]).stdout)
    assert older is not None
    assert ("`prepare: :unnamed`" in said) == (older < pooler.PREPARED)
    own = state(server, pool_units.OWN_SERVICE)
    assert own == {"ActiveState": "inactive", "UnitFileState": "disabled"}
    assert state(server, UNIT) == {"ActiveState": "active", "UnitFileState": "enabled"}
    assert "already" not in dora.run("db", "pool", "shop", "--size", "15")
    assert "pgbouncer" not in server.box.exec(["ss", "-Hltnp"]).stdout


def test_a_deployment_and_its_migrations(server: Server, dora: Person, amy: Person) -> None:
    dora.project().push()
    url = dora.run("config", "get", "shop", POOL).strip()
    assert url == "ecto://gatling-shop@localhost/shop?socket_dir=/run/gatling-pools/shop"
    # as the app's own programs see it, in their sandbox
    found = dora.run(
        "run", "shop", "rpc",
        ":gen_tcp.connect({:local, ~c\"/run/gatling-pools/shop/.s.PGSQL.5432\"}, 0, [])"
        " |> elem(0) |> IO.puts()",
    )  # fmt: skip
    assert "ok" in found
    assert asked(server, "SELECT session_user, current_user") == "gatling-shop|gatling_owner"


def test_prepared_statements_of_clients_that_share_connections(
    server: Server, dora: Person, amy: Person
) -> None:
    """Debian 13 has a PgBouncer that keeps them apart, Debian 12 has not."""
    found = pooler.version(server.box.exec(["/usr/sbin/pgbouncer", "--version"]).stdout)
    if found is None or found < pooler.PREPARED:
        pytest.skip("the PgBouncer of this Debian does not support them")
    dora.run("db", "pool", "shop", "--size", "2")
    version = server.json("db", "info", "shop")["version"]
    script = server.box.root / "var/tmp/clients.sql"
    script.write_text("SELECT :client_id + 1;\n")
    argv = [
        f"/usr/lib/postgresql/{version}/bin/pgbench", "--protocol=prepared", "--no-vacuum",
        "--client=8", "--transactions=50", "--file=/var/tmp/clients.sql",
        "--host", str(pool_units.sockets("shop")), "--username=gatling-shop", "shop",
    ]  # fmt: skip
    done = server.box.exec(argv, user="gatling-shop", check=False)
    assert done.returncode == 0, done.stderr
    assert "number of transactions actually processed: 400/400" in done.stdout
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'gatling-shop'"
    assert int(asked(server, sessions)) <= 2
    dora.run("db", "pool", "shop", "--size", "15")


def test_others_have_no_access(server: Server, dora: Person, amy: Person) -> None:
    for user in ("gatling-blog", "gatling", "nobody"):
        assert "Permission denied" in asked(server, "SELECT 1", user=user)
    # an app that may only read does no more through its pool
    asked(server, "CREATE TABLE orders AS SELECT 1 AS id")
    dora.run("db", "attach", "blog", "shop", "--read-only")
    dora.run("db", "pool", "blog")
    name = "SHOP_DATABASE_CONNECTION_POOL_URL"
    assert "/run/gatling-pools/blog" in dora.run("config", "get", "blog", name)
    count = "SELECT session_user, count(*) FROM orders"
    assert asked(server, count, user="gatling-blog", app="blog") == "gatling-blog|1"
    script = "SET default_transaction_read_only = off; DELETE FROM orders"
    refused = asked(server, script, user="gatling-blog", app="blog")
    assert "read-only" in refused or "permission denied" in refused
    dora.run("db", "detach", "blog")
    until(lambda: state(server, pool_units.unit("blog"))["ActiveState"] == "inactive", "its end")
    assert "blog" not in server.box.exec(["ls", str(pool_units.CONFIGURATIONS)]).stdout


def test_a_restart_of_either_is_survived(server: Server, dora: Person, amy: Person) -> None:
    server.box.exec(["systemctl", "kill", "--signal=KILL", UNIT])
    until(lambda: asked(server, "SELECT 1") == "1", "the pool")
    server.box.exec(["systemctl", "restart", "postgresql.service"])
    until(lambda: asked(server, "SELECT 1") == "1", "the database")


def test_a_pool_that_does_not_run_is_found_and_repaired(
    server: Server, dora: Person, amy: Person
) -> None:
    assert f"{UNIT} is" not in server.box.exec(["gatling", "server", "check"], check=False).stdout
    server.box.exec(["systemctl", "stop", UNIT])
    server.box.exec(["rm", f"/etc/systemd/system/{UNIT}"])
    checked = server.box.exec(["gatling", "server", "check"], check=False).stdout
    assert f"{UNIT} is inactive" in checked
    server.gatling("recover", "--units")
    until(lambda: asked(server, "SELECT 1") == "1", "the pool")
    # turned off, and on again
    dora.run("db", "pool", "shop", "--off")
    assert asked(server, "SELECT 1") == "1", "a rollback would use it"
    dora.run("db", "pool", "shop")


def test_nothing_is_left(server: Server, dora: Person, amy: Person) -> None:
    amy.run("unload", "shop", "--confirm", "shop")
    assert state(server, UNIT)["ActiveState"] == "inactive"
    dora.run("db", "attach", "blog", "shop")
    dora.run("db", "pool", "blog")
    assert asked(server, "SELECT 1", user="gatling-blog", app="blog") == "1"
    server.gatling("server", "uninstall", "--confirm", server.box.name)
    left = server.box.exec(["sh", "-c", "find /etc /run -name '*gatling-pool*'"], check=False)
    assert left.stdout == ""
    assert "pgbouncer" not in server.box.exec(["ps", "-eo", "args"]).stdout
