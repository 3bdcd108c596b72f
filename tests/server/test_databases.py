"""Databases on a server: clusters of Debian's PostgreSQL, one for each, closed to other apps."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from gatling.platform.postgres.clusters import Cluster
from gatling.platform.server import cluster_units as places
from tests.conftest import until
from tests.home.test_restore_points import RELEASE
from tests.scale import LONG
from tests.server.server import download
from tests.server.test_killed import READ, await_recovery

if TYPE_CHECKING:
    from tests.server.server import Person, Server

SOCKETS = "/run/gatling-databases"
KILL_HELPER = ["systemctl", "kill", "--signal=KILL", "gatling-helper.service"]


@pytest.fixture(scope="module")
def dora(server: Server) -> Person:
    """A deployer of two apps."""
    return server.let_in("dora", "shop", "blog")


@pytest.fixture(scope="module")
def amy(server: Server) -> Person:
    """An admin."""
    return server.admin("amy")


@pytest.fixture(scope="module")
def packages(server: Server) -> None:
    """apt's own cache has PostgreSQL."""
    download(server.box, "postgresql", "pgbackrest")


@pytest.fixture(scope="module")
def cluster(server: Server, packages: None, dora: Person, amy: Person) -> Cluster:
    """The database of an app, on a server that had no PostgreSQL."""
    dora.run("load", "shop")
    dora.run("load", "blog")
    # a deployer gets a database, but installs nothing
    assert "only an admin may install it" in dora.run("db", "create", "shop", status=Exit.REFUSED)
    said = amy.run("db", "create", "shop")
    assert "Installing PostgreSQL" in said
    assert "shop has its URL as DATABASE_URL." in said
    version = int(server.json("db", "info", "shop")["version"])
    return Cluster("shop", version)


def sql(person: Person, app: str, statement: str, *, status: int = 0) -> str:
    """What psql prints, as the app."""
    return person.run("db", "psql", app, "--", "-XqAt", "-c", statement, status=status)


def as_user(server: Server, user: str, database: str, role: str) -> str:
    """What a program of a user gets who tries to use a database."""
    argv = ["psql", "-XqAt", "-h", f"{SOCKETS}/{database}", "-U", role, "-d", database,
            "-c", "SELECT 1"]  # fmt: skip
    done = server.box.exec(argv, user=user, check=False)
    return done.stdout + done.stderr


def test_a_database_of_an_app(server: Server, cluster: Cluster, dora: Person) -> None:
    # only the clusters of apps, and nothing listens on the network
    listed = server.box.exec(["pg_lsclusters", "--no-header"]).stdout.split("\n")
    assert [line.split()[:2] for line in listed if line] == [[str(cluster.version), cluster.name]]
    listening = server.box.exec(["ss", "-Hltnp"]).stdout
    assert "postgres" not in listening

    sql(dora, "shop", "CREATE TABLE orders AS SELECT i AS id FROM generate_series(1, 20) i")
    assert sql(dora, "shop", "SELECT session_user, current_user, count(*) FROM orders").strip() == (
        "gatling-shop|gatling_owner|20"
    )
    shown = server.show(places.unit(cluster), "OOMPolicy", "NoNewPrivileges", "TasksMax")
    assert shown == {"OOMPolicy": "continue", "NoNewPrivileges": "yes", "TasksMax": "1024"}
    assert "already exists" in dora.run("db", "create", "shop")


def test_other_users_have_no_access(server: Server, cluster: Cluster, dora: Person) -> None:
    for role in ("gatling-shop", "gatling-blog", "postgres", "gatling_owner"):
        assert "Permission denied" in as_user(server, "gatling-blog", "shop", role)
    # the app itself is nobody else in its database
    for role in ("postgres", "gatling_owner", "gatling-blog"):
        refused = as_user(server, "gatling-shop", "shop", role)
        assert "Peer authentication failed" in refused
    assert as_user(server, "gatling-shop", "shop", "gatling-shop").strip() == "1"
    # data, configuration and copies are not readable
    hba = places.configuration(cluster) / "pg_hba.conf"
    for argv in (["ls", places.data(cluster)], ["cat", hba], ["ls", places.DATABASES]):
        done = server.box.exec([str(word) for word in argv], user="gatling-blog", check=False)
        assert "Permission denied" in done.stderr, argv
    # nor can the cluster read what is Gatling's
    denied = sql(dora, "shop", "COPY orders FROM '/etc/passwd'", status=1)
    assert "must be superuser" in denied


def test_sharing(server: Server, cluster: Cluster, dora: Person) -> None:
    rob = server.let_in("rob", "blog")
    rob.run("db", "attach", "blog", "shop", status=Exit.REFUSED)
    dora.run("db", "attach", "blog", "shop", "--read-only")
    assert sql(rob, "blog", "SELECT count(*) FROM orders").strip() == "20"
    denied = sql(rob, "blog", "SET default_transaction_read_only = off; DELETE FROM orders",
                 status=1)  # fmt: skip
    assert "read-only" in denied or "permission denied" in denied
    dora.run("db", "detach", "blog")
    assert "Permission denied" in as_user(server, "gatling-blog", "shop", "gatling-blog")


def test_backups(server: Server, cluster: Cluster, dora: Person, amy: Person) -> None:
    assert "only an admin may install it" in dora.run("db", "backup", "shop", status=Exit.REFUSED)
    said = amy.run("db", "backup", "shop")
    assert "Installing pgBackRest" in said
    assert "is proved: 1 table with 20 rows are as in the database." in said
    (one,) = json.loads(dora.run("db", "backups", "shop", "--json"))
    assert (one["kind"], one["state"], one["rows"]) == ("full", "proved", 20)
    # neither Gatling nor apps can read them
    for user in ("gatling", "gatling-shop"):
        done = server.box.exec(["ls", str(places.BACKUPS)], user=user, check=False)
        assert "Permission denied" in done.stderr
    # a unit that is killed while it proves leaves nothing that runs, and no success
    proof = server.box.root / str(places.PROOFS / "shop.1/data/postmaster.pid").lstrip("/")
    with dora.session("db", "backup", "shop") as session:
        until(lambda: proof.exists() or session.poll() is not None, "the proof")
        shown = server.box.exec(["systemctl", "list-units", "--plain", "--no-legend",
                                 "gatling-backup-shop.1-*"]).stdout  # fmt: skip
        unit = shown.split()[0]
        assert server.show(unit, "User", "NoNewPrivileges") == {
            "User": "postgres", "NoNewPrivileges": "yes"
        }  # fmt: skip
        server.box.exec(["systemctl", "kill", "--signal=KILL", unit])
        assert session.wait(60) != 0
    last = json.loads(dora.run("db", "backups", "shop", "--json"))[-1]
    assert last["state"] == "unproved"
    checked = server.box.exec(["gatling", "server", "check"], check=False)
    assert "The last backup of shop failed" in checked.stdout + checked.stderr
    said = dora.run("db", "backup", "shop")
    assert "is proved" in said
    assert not proof.parent.exists()
    running = server.box.exec(["ps", "-eo", "args"]).stdout
    assert ".gatling-proof" not in running

    # the timer's unit makes a backup that is due
    dora.run("db", "schedule", "shop", "--at", "03:15", "--keep", "1", "--days", "0")
    assert server.show("gatling-backups.timer", "ActiveState")["ActiveState"] == "active"
    long_ago = (
        "import sqlite3; db = sqlite3.connect('/var/lib/gatling/home/state.db');"
        "db.execute(\"UPDATE backup_plans SET changed_at = '2026-01-01T00:00:00.000Z'\");"
        "db.execute(\"UPDATE backups SET tried_at = '2026-01-01T00:00:00.000Z'\"); db.commit()"
    )
    server.box.exec(["python3", "-c", long_ago], user="gatling")
    before = len(json.loads(dora.run("db", "backups", "shop", "--json")))
    server.box.exec(["systemctl", "start", "gatling-backups.service"], timeout=300)
    after = json.loads(dora.run("db", "backups", "shop", "--json"))
    assert len(after) == before + 1
    assert after[-1]["state"] == "proved"


KILL_WHEN = """
import sqlite3, subprocess, sys, time
state = sqlite3.connect("file:/var/lib/gatling/home/state.db?mode=ro", uri=True, timeout=60)
end = time.monotonic() + 300
while not state.execute(sys.argv[1]).fetchone():
    assert time.monotonic() < end
    time.sleep(0.005)
subprocess.run(["pkill", "-KILL", "-u", "gatling"])
subprocess.run(sys.argv[2:])
"""
REWINDS = [("SELECT 1 FROM databases WHERE name = 'shop-v1' AND state = 'creating'", False)]
"""The state in which a rollback with data is killed, and whether it has taken place by then.

tests/home/test_rewinds.py kills at more steps, also after the decision, without root's helper.
"""
if LONG:
    REWINDS.append(("SELECT 1 FROM apps WHERE name = 'shop' AND live_release > 2", True))


def killed_rewind(server: Server, dora: Person, begun: str) -> None:
    """Kill all that Gatling runs, at a step of a rollback with data, and await the recovery."""
    words = ("rollback", "shop", "v1", "--with-data", "--confirm", "shop")
    with dora.session(*words) as session:
        server.box.exec(["python3", "-c", KILL_WHEN, begun, *KILL_HELPER], timeout=400)
        assert session.wait(60) != 0
    await_recovery(server)


def pair(server: Server, dora: Person) -> tuple[int, str, bool]:
    """The release whose code is live, its database, and whether the data is the later one."""
    live = (
        "SELECT coalesce(base, number) FROM releases WHERE app = ?"
        " AND number = (SELECT live_release FROM apps WHERE name = 'shop')"
    )
    (release,) = json.loads(server.box.exec(["python3", "-c", READ, live]).stdout)
    url = dora.run("config", "get", "shop", "DATABASE_URL").strip()
    later = sql(dora, "shop", "SELECT to_regclass('notes') IS NOT NULL").strip() == "t"
    return release, url.partition("localhost/")[2].partition("?")[0], later


def test_a_restore_point(server: Server, cluster: Cluster, dora: Person, amy: Person) -> None:
    """A push that migrates, a restore to the moment before, and nothing else for the helper."""
    project = dora.project()
    project.write("lib/counter/release.ex", RELEASE)
    script = '"ALTER TABLE orders RENAME id TO number; DELETE FROM orders WHERE number > 5"\n'
    project.write("priv/repo/migrations/1_first.exs", script)
    project.commit()
    said = project.push()
    assert "restore shop as it is now: gatling db restore shop --to v1" in said
    assert sql(dora, "shop", "SELECT count(number) FROM orders").strip() == "5"
    newest = json.loads(dora.run("db", "backups", "shop", "--json"))[-1]
    assert [one["release"] for one in newest["restore_points"]] == [1]
    dora.run("db", "restore", "shop", "--to", "v1", "--as", "shop-before")
    before = ("db", "psql", "shop", "--name", "shop-before", "--", "-XqAt", "-c")
    assert dora.run(*before, "SELECT count(id) FROM orders").strip() == "20"
    refused = dora.run("db", "restore", "shop", "--to", "v2", status=Exit.NOT_FOUND)
    assert "Restore points that can be used: v1." in refused
    sql(dora, "shop", "ALTER TABLE orders RENAME number TO id")
    sql(dora, "shop", "INSERT INTO orders SELECT generate_series(6, 20)")

    # migrations are rehearsed on a fork, whose socket the app's user reaches
    dora.run("settings", "set", "shop", "migrate.rehearse=true")
    project.write("priv/repo/migrations/2_second.exs",
                  '"CREATE TABLE notes (id int); ALTER TABLE orders ADD note text;'
                  ' SELECT pg_sleep(0.5)"\n')  # fmt: skip
    project.commit()
    said = project.push()
    assert "rehearsing the migrations on a fork of shop (" in said
    assert "orders: a lock that keeps the app from reading and writing for" in said
    assert "shop-rehearsal" not in dora.run("db", "list")
    sql(dora, "shop", "INSERT INTO notes VALUES (1)")

    for begun, goes_back in REWINDS:
        killed_rewind(server, dora, begun)
        assert pair(server, dora) == ((1, "shop-v1", False) if goes_back else (2, "shop", True))
        if goes_back:
            dora.run("rollback", "shop", "v2", "--confirm", "shop")
            assert pair(server, dora) == (2, "shop", True)
        if begun != REWINDS[0][0]:  # the first one is completed by the second
            amy.run("db", "destroy", "shop", "--name", "shop-v1", "--confirm", "shop-v1")

    # code and data go back in one decision, and forward again
    said = dora.run("rollback", "shop", "v1", "--with-data", "--confirm", "shop")
    assert "before the migrations of v2" in said
    assert re.search(r"v1 is live again, as v\d+, on the database shop-v1", said)
    assert "/shop-v1?" in dora.run("config", "get", "shop", "DATABASE_URL")
    assert sql(dora, "shop", "SELECT count(*), to_regclass('notes') FROM orders").strip() == "20|"
    dora.run("rollback", "shop", "v2", "--confirm", "shop")
    assert "/shop?" in dora.run("config", "get", "shop", "DATABASE_URL")
    assert sql(dora, "shop", "SELECT count(*) FROM notes").strip() == "1"
    amy.run("db", "destroy", "shop", "--name", "shop-v1", "--confirm", "shop-v1")
    sql(dora, "shop", "DROP TABLE notes; ALTER TABLE orders DROP note")


def test_a_restore(server: Server, cluster: Cluster, dora: Person, amy: Person) -> None:
    """A restore to a time, killed and removed, then completed and promoted."""
    moment = sql(dora, "shop", "SELECT clock_timestamp()").strip()
    sql(dora, "shop", "DELETE FROM orders")
    words = ("db", "restore", "shop", "--to", moment)
    copy = server.box.root / str(places.CLUSTERS).lstrip("/") / str(cluster.version)
    new = Cluster("shop-restored", cluster.version)
    with dora.session(*words) as session:
        until(lambda: (copy / f"{new.name}.new/PG_VERSION").exists() or session.poll() is not None,
              "the restore")  # fmt: skip
        assert server.show(places.restore_unit(new), "User", "PrivateNetwork") == {
            "User": "postgres", "PrivateNetwork": "yes"
        }  # fmt: skip
        # first the command, which would clean up; then the helper, which would as well
        server.box.exec(
            ["sh", "-c", f"pkill -KILL -u gatling; {shlex.join(KILL_HELPER)}"],
            check=False,
        )
        assert session.wait(60) != 0
    listed = {one["name"]: one["state"] for one in json.loads(dora.run("db", "list", "--json"))}
    assert listed["shop-restored"] == "restoring"
    refused = dora.run("db", "psql", "shop", "--name", "shop-restored", status=Exit.INVALID)
    assert "still being restored" in refused
    destroy = ("db", "destroy", "shop", "--name", "shop-restored", "--confirm", "shop-restored")
    amy.run(*destroy)
    assert "shop-restored" not in dora.run("db", "list")
    assert [path.name for path in copy.iterdir() if "restored" in path.name] == []

    assert "shop-restored is restored from" in dora.run(*words)
    # killed when all was done, but not recorded: it is kept, and restored again
    unrecorded = (
        "import sqlite3; db = sqlite3.connect('/var/lib/gatling/home/state.db');"
        "db.execute(\"UPDATE databases SET state = 'creating', kept = 'restoring'"
        " WHERE name = 'shop-restored'\"); db.commit()"
    )
    server.box.exec(["python3", "-c", unrecorded], user="gatling")
    assert "shop-restored is restored from" in dora.run(*words)
    assert "is taken" in dora.run(*words, status=Exit.INVALID)
    restored = ("db", "psql", "shop", "--name", "shop-restored", "--", "-XqAt", "-c")
    assert dora.run(*restored, "SELECT count(*) FROM orders").strip() == "20"
    assert sql(dora, "shop", "SELECT count(*) FROM orders").strip() == "0"
    assert "shop stays" in dora.run("db", "promote", "shop")
    assert "/shop-restored?" in dora.run("config", "get", "shop", "DATABASE_URL")
    assert as_user(server, "gatling-shop", "shop-restored", "gatling-shop").strip() == "1"
    assert "Permission denied" in as_user(server, "gatling-blog", "shop-restored", "gatling-blog")
    shown = server.show(places.unit(new), "OOMPolicy", "NoNewPrivileges")
    assert shown == {"OOMPolicy": "continue", "NoNewPrivileges": "yes"}

    dora.run("db", "promote", "shop", "--name", "shop")
    amy.run(*destroy)
    assert sql(dora, "shop", "SELECT count(*) FROM orders").strip() == "0"
    sql(dora, "shop", "INSERT INTO orders SELECT generate_series(1, 20)")


def test_a_fork(server: Server, cluster: Cluster, dora: Person, amy: Person) -> None:
    """By a deployer, with a script from stdin; closed to others, killed, and removed."""
    fork, new = ("db", "fork", "shop", "shop-try"), Cluster("shop-try", cluster.version)
    assert "from stdin" in dora.run(*fork, "--scrub", "/etc/passwd", status=Exit.INVALID)
    said = dora.run(*fork, "--scrub", "-", stdin="DELETE FROM orders WHERE id > 7;")
    assert "The script ran in" in said
    try_it = ("db", "psql", "shop", "--name", "shop-try", "--", "-XqAt", "-c")
    assert dora.run(*try_it, "SELECT count(*) FROM orders").strip() == "7"
    assert sql(dora, "shop", "SELECT count(*) FROM orders").strip() == "20"
    assert as_user(server, "gatling-shop", "shop-try", "gatling-shop").strip() == "1"
    assert "Permission denied" in as_user(server, "gatling-blog", "shop-try", "gatling-blog")
    shown = server.show(places.unit(new), "OOMPolicy", "NoNewPrivileges")
    assert shown == {"OOMPolicy": "continue", "NoNewPrivileges": "yes"}
    (one,) = json.loads(dora.run("db", "forks", "--json"))
    assert (one["source"], one["scrubbed"]) == ("shop", True)
    checked = server.box.exec(["gatling", "server", "check"], check=False).stdout
    assert "shop-try" not in checked
    gone = (*fork, "--destroy", "--confirm", "shop-try")
    dora.run(*gone)
    copy = server.box.root / str(places.CLUSTERS).lstrip("/") / str(cluster.version)
    left = [path.name for path in copy.iterdir() if "try" in path.name]
    assert left == []
    # scripts that would run a program as postgres; tests/home/test_forks.py has further ones
    for script in ("\\! touch /var/lib/postgresql/ran",
                   "COPY orders TO PROGRAM 'touch /var/lib/postgresql/ran'"):  # fmt: skip
        said = dora.run(*fork, "--scrub", "-", stdin=script, status=Exit.INVALID)
        assert "The script failed, and the fork was removed:" in said
    assert not (copy.parent / "ran").exists()
    assert "shop-try" not in dora.run("db", "list")
    # only definitions; then killed, and made again
    dora.run(*fork, "--schema-only")
    assert dora.run(*try_it, "SELECT count(*) FROM orders").strip() == "0"
    dora.run(*gone)
    with dora.session(*fork) as session:
        until(lambda: (copy / f"{new.name}.new/PG_VERSION").exists() or session.poll() is not None,
              "the copy")  # fmt: skip
        assert server.show(places.restore_unit(new), "User", "PrivateNetwork") == {
            "User": "postgres", "PrivateNetwork": "yes"
        }  # fmt: skip
        server.box.exec(
            ["sh", "-c", f"pkill -KILL -u gatling; {shlex.join(KILL_HELPER)}"],
            check=False,
        )
        assert session.wait(60) != 0
    listed = {one["name"]: one["state"] for one in json.loads(dora.run("db", "list", "--json"))}
    assert listed["shop-try"] == "forking"
    dora.run(*fork)
    assert dora.run(*try_it, "SELECT count(*) FROM orders").strip() == "20"
    # one that is promoted is no throw-away any more, for root's helper either
    dora.run("db", "promote", "shop", "--name", "shop-try")
    dora.run(*gone, status=Exit.NOT_FOUND)
    assert not (server.box.root / str(places.forked(new)).lstrip("/")).exists()
    dora.run("db", "promote", "shop", "--name", "shop")
    amy.run("db", "destroy", "shop", "--name", "shop-try", "--confirm", "shop-try")


def test_power_cuts(server: Server, cluster: Cluster, dora: Person, amy: Person) -> None:
    """During a creation and a restore: the database is whole, and the same command works.

    With `--long` during a proof, too; a proof whose programs are killed is in `test_backups`.
    tests/server/test_power.py cuts the power during deployments, as of a promotion or a rewind.
    """
    root, version = server.box.root, str(cluster.version)
    clusters = root / str(places.CLUSTERS).lstrip("/")
    # what it had as its process id may be that of another cluster after a boot
    unit, taken = places.unit(cluster), clusters / version / cluster.name / "postmaster.pid"
    other = server.show(places.unit(Cluster("shop-before", cluster.version)), "MainPID")["MainPID"]
    server.box.exec(["systemctl", "stop", unit])
    taken.write_text(f"{other}\n")
    assert (
        "is already running"
        in server.box.exec(
            ["pg_ctlcluster", "--skip-systemctl-redirect", version, cluster.name, "start"],
            check=False,
        ).stdout
    )
    server.box.exec(["systemd-tmpfiles", "--remove", "--boot"])
    assert not taken.exists()
    server.box.exec(["systemctl", "start", unit])
    restore = ("db", "restore", "shop", "--as", "shop-cut")
    proof = ("db", "backup", "shop"), clusters / ".gatling-proof/shop.1/data/PG_VERSION"
    for words, moment in (
        (("db", "create", "blog"), clusters / version / "gatling.blog.1/base"),
        *([proof] if LONG else []),
        (restore, clusters / version / "gatling.shop_cut.1.new/PG_VERSION"),
    ):
        with dora.session(*words) as session:
            until(lambda: moment.exists() or session.poll() is not None, "the moment",  # noqa: B023
                  longest=0.01)  # fmt: skip
            assert session.poll() is None
            server.box.crash()
            session.kill()
        server.box.start()
        until(lambda: as_user(server, "gatling-shop", "shop", "gatling-shop").strip() == "1",
              "the database")  # fmt: skip
        assert "Permission denied" in as_user(server, "gatling-blog", "shop", "gatling-blog")
        assert sql(dora, "shop", "SELECT count(*) FROM orders").strip() == "20"
        dora.run(*words)
    assert json.loads(dora.run("db", "backups", "shop", "--json"))[-1]["state"] == "proved"
    restored = ("db", "psql", "shop", "--name", "shop-cut", "--", "-XqAt", "-c")
    assert dora.run(*restored, "SELECT count(*) FROM orders").strip() == "20"
    amy.run("db", "destroy", "shop", "--name", "shop-cut", "--confirm", "shop-cut")
    amy.run("db", "destroy", "blog", "--confirm", "blog")


def test_killed_helpers(server: Server, cluster: Cluster, dora: Person, amy: Person) -> None:
    """The helper, and what it runs, is killed at many moments; the same command completes it."""
    root, version = server.box.root, str(cluster.version)
    conf = root / "etc/postgresql" / version / "gatling.blog.1"
    moments = (
        root / f"var/lib/gatling/databases/making-{version}-blog.1",
        conf / "conf.d/gatling.conf",
    )
    for moment in moments:
        with dora.session("db", "create", "blog") as session:
            until(lambda: moment.exists() or session.poll() is not None, "the moment",  # noqa: B023
                  longest=0.01)  # fmt: skip
            server.box.exec(KILL_HELPER, check=False)
        dora.run("db", "create", "blog")
        assert sql(dora, "blog", "SELECT 1").strip() == "1"
        amy.run("db", "destroy", "blog", "--confirm", "blog")
        assert not conf.exists()


def test_a_full_disk(server: Server, cluster: Cluster, dora: Person) -> None:
    server.box.exec(["mount", "-t", "tmpfs", "-o", "size=300m,mode=755", "none",
                     "/var/lib/postgresql"])  # fmt: skip
    try:
        assert "A database needs" in dora.run("db", "create", "blog", status=Exit.INVALID)
        assert "blog" not in dora.run("db", "list")
    finally:
        server.box.exec(["umount", "/var/lib/postgresql"])


def test_an_app_and_gatling_are_removed_and_data_stays(
    server: Server, cluster: Cluster, amy: Person
) -> None:
    assert "Its database shop stays." in amy.run("unload", "shop", "--confirm", "shop")
    amy.run("load", "shop")  # with the same user name
    assert "Permission denied" in as_user(server, "gatling-shop", "shop", "gatling-shop")
    amy.run("db", "attach", "shop", "shop")
    assert sql(amy, "shop", "SELECT count(*) FROM orders").strip() == "20"

    said = amy.run("db", "destroy", "shop", "--confirm", "shop")
    # those of `orders`, and two of the migrations
    assert "2 tables with 22 rows, and all of them are in the copy" in said
    copies = server.box.exec(["find", str(places.DATABASES), "-name", "shop-2*.dump",
                              "-perm", "600", "-user", "root"]).stdout.split()  # fmt: skip
    assert len(copies) == 1
    assert "orders" in server.box.exec(["pg_restore", "--list", copies[0]]).stdout
    assert not (server.box.root / "etc/tmpfiles.d/gatling-database-shop.conf").exists()

    amy.run("db", "create", "shop")
    sql(amy, "shop", "CREATE TABLE orders AS SELECT 1 AS id")
    said = server.box.exec(
        ["gatling", "server", "uninstall", "--purge", "--confirm", server.box.name], timeout=300
    ).stdout
    assert f"kept: {places.data(cluster)}" in said
    count = ["runuser", "-u", "postgres", "--", "psql", "-XqAt", "-h", f"{SOCKETS}/shop",
             "-d", "shop", "-c", "SELECT count(*) FROM orders"]  # fmt: skip
    assert server.box.exec(count).stdout.strip() == "1"
