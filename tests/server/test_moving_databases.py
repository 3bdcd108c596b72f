"""A host with databases is moved to another one: data and code are those of one moment."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from gatling.host import libraries
from gatling.platform.postgres.clusters import Cluster
from gatling.platform.server import cluster_units as places
from tests.conftest import until
from tests.home.test_databases import OWN, OWN_SETTINGS, SHOW_OWN
from tests.server.server import Person, Server, download
from tests.server.test_databases import sql
from tests.server.test_pools import asked

if TYPE_CHECKING:
    from tests.server.conftest import Boxes
    from tests.server.image import Image

FILE = "root/gatling.tar.gz"
SCHEMA = """
CREATE EXTENSION citext;
CREATE TABLE orders (id bigserial PRIMARY KEY, name citext, at timestamptz DEFAULT now());
COMMENT ON TABLE orders IS 'what was ordered';
INSERT INTO orders (name) SELECT 'o' || i FROM generate_series(1, 500) i;
CREATE FUNCTION climb() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  SET ROLE NONE; ALTER ROLE "gatling-shop" SUPERUSER; RETURN false;
EXCEPTION WHEN OTHERS THEN RETURN true; END $$;
CREATE TABLE trap (id int CHECK (climb()));
INSERT INTO trap VALUES (1);
GRANT SELECT ON orders TO "gatling-shop";
"""


@pytest.fixture(scope="module")
def pair(
    module_boxes: Boxes,
    server_image: Image,
    database_image: Image,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Server, Server, Person]:
    """Two hosts, and an admin of the first one, whose app has a database.

    Gatling installs the packages of databases on the second host when it restores there.
    """
    old, new = (
        Server(module_boxes(None, image), tmp_path_factory.mktemp(name))
        for name, image in (("old", database_image), ("new", server_image))
    )
    download(old.box, "pgbouncer")
    download(new.box, "postgresql", "pgbackrest", "pgbouncer")
    amy = old.admin("amy")
    return old, new, amy


def test_a_host_is_moved_with_its_databases(pair: tuple[Server, Server, Person]) -> None:
    old, new, amy = pair
    project = amy.project()
    project.push()
    amy.run("load", "blog")
    amy.run("db", "create", "shop")
    amy.run("db", "pool", "shop", "--size", "7", "--no-restart")
    amy.run("db", "create", "shop", "--name", "shop-events")
    amy.run("db", "attach", "blog", "shop", "--read-only")
    amy.run("db", "backup", "shop")
    amy.run("db", "schedule", "shop", "--at", "03:15")
    sql(amy, "shop", " ".join(SCHEMA.split()))
    for setting in OWN_SETTINGS[:3]:
        sql(amy, "shop", setting)
    sql(amy, "shop", f"{'; '.join(OWN_SETTINGS[3:])}")
    version = int(old.json("db", "info", "shop")["version"])

    said = old.gatling("server", "backup", f"/{FILE}")
    assert "database shop: 2 tables with 501 rows, restored and compared" in said
    assert "database shop-events: 0 tables with 0 rows" in said
    left = old.box.exec(["find", str(places.PROOFS), "-mindepth", "1"]).stdout
    assert "data" not in left
    sql(amy, "shop", "INSERT INTO orders (name) VALUES ('later')")  # not in the backup

    shutil.move(old.box.root / FILE, new.box.root / FILE)
    said = new.gatling("server", "restore", f"/{FILE}")
    assert f"The database shop is restored, with PostgreSQL {version}." in said
    assert "shop: started" in said
    until(lambda: new.serves(""), "the live release", 120)
    there = Person(new, "amy", amy.key)
    assert sql(there, "shop", "SELECT count(*) FROM orders WHERE name = 'O7'").strip() == "1"
    assert sql(there, "shop", "SELECT count(*) FROM orders").strip() == "500"
    assert sql(there, "shop", SHOW_OWN).strip() == OWN
    assert "Installing PgBouncer, which the pools of apps need" in said
    assert asked(new, "SELECT count(*) FROM orders") == "500"
    assert "up to 7 connections" in there.run("db", "info", "shop")
    assert sql(there, "shop", "SELECT obj_description('orders'::regclass)").strip() == (
        "what was ordered"
    )
    assert sql(there, "shop", "INSERT INTO orders (name) VALUES ('next') RETURNING id").strip() == (
        "501"
    )
    # what the app has made ran with the app's rights, also when it was restored
    count = (
        "SELECT count(*) FROM pg_roles WHERE rolsuper OR (rolcanlogin AND rolname LIKE '%load%')"
    )
    assert sql(there, "shop", count).strip() == "1"
    assert sql(there, "blog", "SELECT count(*) FROM orders").strip() == "501"
    used = {one["name"]: one["state"] for one in json.loads(there.run("db", "list", "--json"))}
    assert used == {"shop": "ready", "shop-events": "ready"}
    assert new.show(places.unit(Cluster("shop", version)), "OOMPolicy") == {"OOMPolicy": "continue"}
    # the schedule came along, and its first backup is still to be made
    assert "03:15" in there.run("db", "schedule", "shop")
    assert (new.box.root / "var/lib/gatling/home/backups-due").exists()
    assert "is proved" in there.run("db", "backup", "shop")
    new.gatling("server", "check")


def test_a_minor_version_of_apt_restarts_what_runs_and_nothing_else(
    pair: tuple[Server, Server, Person],
) -> None:
    """As if a new package of the same major version was installed."""
    server, _, amy = pair
    version = int(server.json("db", "info", "shop")["version"])
    cluster, old = Cluster("shop", version), Cluster("shop-events", version)
    server.box.exec(["systemctl", "stop", places.unit(old)])
    server.box.exec(["sh", "-c", f"echo manual > {places.configuration(old)}/start.conf"])
    before = server.show(places.unit(cluster), "MainPID")
    server.box.online(["apt-get", "install", "-y", "-qq", "--reinstall", f"postgresql-{version}"],
                      env={"DEBIAN_FRONTEND": "noninteractive"})  # fmt: skip
    until(lambda: "500" in sql(amy, "shop", "SELECT count(*) FROM orders WHERE name <> 'later'"),
          "the database", 60)  # fmt: skip
    after = server.show(places.unit(cluster), "MainPID", "OOMPolicy")
    assert after["OOMPolicy"] == "continue", "with the limits of Gatling"
    assert after["MainPID"] != before["MainPID"]
    assert server.show(places.unit(old), "ActiveState") == {"ActiveState": "inactive"}
    listening = server.box.exec(["ss", "-Hltnp"]).stdout
    assert "postgres" not in listening


def test_needrestart_leaves_apps_alone(pair: tuple[Server, Server, Person]) -> None:
    """After upgrades of libraries: the app uses the first one, its database and nginx the second.

    nginx is replaced while a stream of events is open, which goes on.
    """
    server, _, amy = pair
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "a"}
    server.box.online([*install, "needrestart"], env=quiet)
    version = int(server.json("db", "info", "shop")["version"])
    live, cluster = (
        f"gatling@shop.{server.status()['slot']}.service", places.unit(Cluster("shop", version))
    )  # fmt: skip
    before = [server.show(unit, "MainPID") for unit in (live, cluster)]
    nginx = server.show("nginx.service", "MainPID")["MainPID"]
    stream = server.box.connect(timeout=60)
    stream.request("GET", "/events", headers={"Host": "shop.localhost"})
    events = stream.getresponse()
    assert events.readline().startswith(b"data: ")
    with server.client() as client:
        said = server.box.online([*install, "--reinstall", "libstdc++6", "libssl3"],
                                 env=quiet).stdout  # fmt: skip
    assert client.failures == []
    after = [server.show(unit, "MainPID") for unit in (live, cluster)]
    assert str(libraries.RESTART_NGINX) in said
    # the process of before serves the stream, and another one is new
    there = ["test", "-e", f"/proc/{nginx}"]
    assert server.box.exec(there, check=False).returncode == 0
    assert server.box.exec(["cat", "/run/nginx.pid"]).stdout.strip() != nginx
    assert server.get("/increment", method="POST").status == 200
    until(lambda: events.readline().startswith(b"data: "), "the change, in the stream")
    amy.run("domains", "add", "shop", "shop.example.org")  # nginx is reloaded
    answer = server.get("/version", host="shop.example.org")
    assert (answer.status, "page" in answer.text) == (200, False)
    stream.close()
    until(lambda: server.box.exec(there, check=False).returncode, "its end", 60)
    pid = server.box.exec(["cat", "/run/nginx.pid"]).stdout.strip()
    shown = server.show("nginx.service", "ActiveState", "MainPID")
    assert shown == {"ActiveState": "active", "MainPID": pid}
    server.box.exec(["systemctl", "reload", "nginx.service"])
    assert server.serves("")
    assert live in said.partition("deferred")[2], said
    assert before[0] == after[0]
    assert before[1] != after[1], "the database is restarted, with its limits"
    assert server.show(cluster, "OOMPolicy", "ActiveState") == {
        "OOMPolicy": "continue", "ActiveState": "active"
    }  # fmt: skip
    found = "libraries of before an upgrade (libstdc++.so."
    assert found in _checked(server)
    amy.run("restart", "shop")
    until(lambda: found not in _checked(server), "the end of the instance of before", 60)


def _checked(server: Server) -> str:
    """The report, whatever else it finds: an earlier test has stopped a database."""
    return server.box.exec(["gatling", "server", "check"], check=False).stdout
