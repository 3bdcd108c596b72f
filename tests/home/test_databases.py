"""Databases of an embedded home: a real PostgreSQL, run by a user who is not root."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import Exit
from tests.conftest import World, kill_and_wait, until
from tests.warm import Warm

if TYPE_CHECKING:
    from collections.abc import Iterator

# PostgreSQL refuses root, so root's tests run as nobody of a namespace, with root's files
UNPRIVILEGED = (
    ["unshare", "--user", "--map-user=65534", "--map-group=65534"] if os.geteuid() == 0 else []
)
KILLED = """\
import importlib, os, signal, sys

module, path, *words = sys.argv[1:]
holder = importlib.import_module(module)
*owners, name = path.split(".")
for owner in owners:
    holder = getattr(holder, owner)
real = getattr(holder, name)

def killed(*arguments, **named):
    real(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(holder, name, killed)
sys.argv = ["gatling", *words]
from gatling.__main__ import main
main()
"""
OWN_SETTINGS = (
    "COMMENT ON DATABASE shop IS 'it''s \\mine'",
    "ALTER DATABASE shop SET statement_timeout = '77s'",
    'ALTER DATABASE shop SET search_path = "$user", public, "it\'s, mine"',
    "ALTER DATABASE shop CONNECTION LIMIT 33",
    "SET ROLE NONE",
    "ALTER ROLE \"gatling-shop\" IN DATABASE shop SET work_mem = '7MB'",
    "ALTER ROLE \"gatling-shop\" SET lock_timeout = '66s'",
)
"""Settings that an app may make, and a comment, in catalogs of the whole cluster."""
SHOW_OWN = (
    "SELECT concat_ws('|', current_setting('statement_timeout'), current_setting('search_path'),"
    " current_setting('work_mem'), current_setting('lock_timeout'), datconnlimit,"
    " shobj_description(oid, 'pg_database'))"
    " FROM pg_database WHERE datname = current_database()"
)
OWN = '77s|"$user", public, "it\'s, mine"|7MB|66s|33|it\'s \\mine'
EMBEDDED = "gatling.platform.embedded.databases"


@functools.cache
def warm() -> Warm:
    """What runs this process' commands as that user."""
    return Warm(UNPRIVILEGED)


class Home(World):
    """A home of a user who is not root."""

    def try_run(
        self, *arguments: str, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return warm().run(arguments, env=self.env, stdin=stdin or "", timeout=300)

    def killed(self, module: str, after: str, *arguments: str) -> None:
        """Run a command that is killed when it has called a function."""
        words = [*UNPRIVILEGED, sys.executable, "-c", KILLED, module, after, *arguments]
        done = subprocess.run(
            words, env=self.env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stdout

    def facts(self, *arguments: str) -> dict[str, Any]:
        """The first object of what a command prints as JSON."""
        done = self.try_run(*arguments, "--json")
        assert done.returncode == 0, done.stdout
        found: dict[str, Any] = json.JSONDecoder().raw_decode(
            done.stdout[done.stdout.index("{") :]
        )[0]
        return found

    def up(self, app: str) -> None:
        """Start the home, which does not wait for its databases, and wait until one answers."""
        self.run("up")
        asked = ("db", "psql", app, "--", "-XqAt", "-c", "SELECT 1")
        until(lambda: self.try_run(*asked).returncode == 0, f"the database of {app}")

    def sql(self, app: str, *statements: str, ok: bool = True) -> str:
        """What psql prints, as the app."""
        words = [word for each in statements for word in ("-c", each)]
        return self.run("db", "psql", app, "--", "-XqAt", *words, ok=ok).strip()


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    made = Home(Path(tempfile.mkdtemp(prefix="gt-", dir="/dev/shm")))
    try:
        for app in ("shop", "blog"):
            made.run("load", app)
        yield made
    finally:
        made.close()


def test_a_database_of_an_app(home: Home) -> None:
    said = home.run("db", "create", "shop")
    assert "Creating the database shop (PostgreSQL " in said
    assert "shop has its URL as DATABASE_URL." in said
    url = home.run("config", "get", "shop", "DATABASE_URL").strip()
    sockets = home.home / "databases/shop/current/socket"
    assert url == f"ecto://gatling-shop@localhost/shop?socket_dir={sockets}"

    home.sql("shop", "CREATE TABLE orders (id serial, name text)")
    home.sql("shop", "INSERT INTO orders (name) SELECT 'ä\n' || i FROM generate_series(1, 20) i")
    shown = home.sql(
        "shop",
        "SELECT session_user, current_user, rolsuper FROM pg_roles WHERE rolname = session_user",
        "SHOW listen_addresses", "SHOW server_encoding", "SHOW data_checksums", "SHOW timezone",
        "SELECT datcollate FROM pg_database WHERE datname = current_database()",
    ).split("\n")  # fmt: skip
    assert shown == ["gatling-shop|gatling_owner|f", "", "UTF8", "on", "UTC", "C.UTF-8"]
    # an app is not the superuser, and sees no other database of the cluster
    assert "must be superuser" in home.sql("shop", "COPY orders TO PROGRAM 'id'", ok=False)
    refused = home.run("db", "psql", "shop", "--", "-d", "postgres", "-c", "SELECT 1", ok=False)
    assert "permission denied" in refused or "no pg_hba.conf entry" in refused

    assert "shop already exists" in home.run("db", "create", "shop")
    info = home.facts("db", "info", "shop")
    assert info["state"] == "ready"
    assert info["app"] == "shop"
    assert isinstance(info["facts"], dict)
    assert info["facts"]["checksums"] is True
    assert info["faults"] == []
    assert 0 < info["facts"]["age"] < 0.1
    assert info["facts"]["log_bytes"] >= 16 << 20
    assert info["facts"]["log_waiting"] == info["facts"]["slot_bytes"] == 0
    assert info["facts"]["free_bytes"] > 1 << 20
    assert info["growth"] == {"day_ago": None, "week_ago": None}
    with sqlite3.connect(home.home / "state.db") as db:
        db.execute("INSERT INTO database_sizes VALUES ('shop', unixepoch() - 86400, 1048576)")
    text = home.run("db", "info", "shop")
    assert "a day ago" in text
    assert "+" in text.partition("a day ago")[2].partition("\n")[0]
    assert re.search(r"free on the disk +[0-9.]+ MB", text)
    assert "database shop" in home.try_run("doctor").stdout
    assert "PostgreSQL 15" in home.run("db", "create", "shop", "--version", "99", ok=False)


def test_a_variable_of_the_users_is_not_overwritten(home: Home) -> None:
    home.run("config", "set", "blog", "DATABASE_URL=ecto://db.example.com/blog")
    refused = home.try_run("db", "create", "blog")
    assert refused.returncode == Exit.INVALID
    assert "has a variable DATABASE_URL already" in refused.stdout
    assert home.run("config", "get", "blog", "DATABASE_URL").strip() == "ecto://db.example.com/blog"
    assert "blog" not in home.run("db", "list")
    assert "NAME" in home.run("config", "unset", "blog", "DATABASE_URL", "NAME", ok=False)
    home.run("config", "unset", "blog", "DATABASE_URL")


def test_sharing(home: Home) -> None:
    said = home.run("db", "attach", "blog", "shop", "--read-only")
    assert "as SHOP_DATABASE_URL (read-only)" in said
    assert home.sql("blog", "SELECT count(*) FROM orders") == "20"
    denied = home.sql(
        "blog", "SET default_transaction_read_only = off", "DELETE FROM orders", ok=False
    )
    assert "permission denied" in denied
    home.sql("shop", "CREATE TABLE later (id int)")
    assert home.sql("blog", "SELECT count(*) FROM later") == "0"

    # a key for some apps does not see who else uses a database
    home.env["GATLING_APPS"] = "blog"
    seen = home.facts("db", "list")
    assert (seen["app"], [use["app"] for use in seen["used_by"]]) == (None, ["blog"])
    home.env["GATLING_APPS"] = "other"
    assert "There is no database" in home.run("db", "list")
    del home.env["GATLING_APPS"]

    home.run("db", "attach", "blog", "shop")
    home.sql("blog", "CREATE TABLE posts (id int)", "DROP TABLE later")
    # gatling_owner owns every table, so that each app may change it
    home.sql("shop", "ALTER TABLE posts ADD title text")

    assert "blog uses the database shop, too" in home.run(
        "db", "destroy", "shop", "--confirm", "shop", ok=False
    )
    url = home.run("config", "get", "blog", "SHOP_DATABASE_URL")
    home.run("db", "detach", "blog")
    assert "no variable" in home.run("config", "get", "blog", "SHOP_DATABASE_URL", ok=False)
    role = url.partition("//")[2].partition("@")[0]
    refused = home.run("db", "psql", "shop", "--", "-U", role, "-c", "SELECT 1", ok=False)
    assert "Peer authentication failed" in refused or "is not permitted to log in" in refused


def test_a_stop_and_a_kill(home: Home) -> None:
    home.run("down")
    assert not [line for line in home.processes() if "postgres" in line]
    home.up("shop")

    kill_and_wait(home.supervisord())  # PostgreSQL goes on, and nothing would restart it
    home.up("shop")
    assert home.sql("shop", "SELECT count(*) FROM orders") == "20"
    postmaster = int((home.home / "databases/shop/1/data/postmaster.pid").read_text().split()[0])
    until(lambda: _parent(postmaster) == home.supervisord(), "supervision of the database")


def test_an_app_that_is_removed_leaves_its_database(home: Home) -> None:
    said = home.run("unload", "shop", "--confirm", "shop")
    assert "Its database shop stays." in said
    assert home.facts("db", "list")["app"] is None
    home.run("load", "shop")
    assert "has no database" in home.run("db", "psql", "shop", ok=False)
    home.run("db", "attach", "shop", "shop")
    assert home.sql("shop", "SELECT count(*) FROM orders") == "20"


def test_a_last_copy(home: Home) -> None:
    assert "is not 'shop'" in home.run("db", "destroy", "shop", "--confirm", "blog", ok=False)
    assert home.sql("shop", "SELECT count(*) FROM orders") == "20"
    home.sql("shop", *OWN_SETTINGS)
    said = home.run("db", "destroy", "shop", "--confirm", "shop")
    assert "2 tables with 20 rows, and all of them are in the copy" in said
    (copy,) = (home.home / "databases/kept").iterdir()
    assert str(copy) in said
    assert copy.stat().st_mode & 0o077 == 0
    restored = subprocess.run(["pg_restore", "--create", "--file=-", copy], check=True,
                              capture_output=True, text=True).stdout  # fmt: skip
    assert "ALTER DATABASE shop SET statement_timeout TO '77s';" in restored
    assert "ALTER ROLE \"gatling-shop\" IN DATABASE shop SET work_mem TO '7MB';" in restored
    assert restored.count("\\n1") >= 2
    assert "ä" in restored
    assert not (home.home / "databases/shop").exists()
    assert "no variable" in home.run("config", "get", "shop", "DATABASE_URL", ok=False)
    assert not [line for line in home.processes() if "postgres" in line]


def test_a_killed_creation_is_completed(home: Home) -> None:
    for module, after in (
        ("gatling.state.databases", "add"),
        ("gatling.process", "run"),  # initdb
        (EMBEDDED, "OwnDatabases._initialize"),
        (EMBEDDED, "OwnDatabases._start"),
        (EMBEDDED, "OwnDatabases.create"),
        ("gatling.state.databases", "mark"),
    ):
        home.killed(module, after, "db", "create", "shop")
    home.run("db", "create", "shop")
    assert home.sql("shop", "SELECT 1") == "1"
    url = home.run("config", "get", "shop", "DATABASE_URL")
    assert url.startswith("ecto://gatling-shop@")


def test_a_killed_removal_is_completed(home: Home) -> None:
    home.sql("shop", "CREATE TABLE orders AS SELECT 1 AS id")
    words = ("db", "destroy", "shop", "--confirm", "shop")
    home.killed(EMBEDDED, "OwnDatabases.allow", *words)
    home.run("db", "create", "shop")  # back in use
    assert home.sql("shop", "SELECT count(*) FROM orders") == "1"
    home.killed(EMBEDDED, "OwnDatabases.keep", *words)
    home.killed("gatling.state.databases", "mark", *words)
    assert "is being removed" in home.run("db", "create", "shop", ok=False)
    home.killed("shutil", "rmtree", *words)
    home.killed(EMBEDDED, "OwnDatabases.remove", *words)
    home.killed("gatling.operations.config", "change", *words)
    home.run(*words)
    assert not (home.home / "databases/shop").exists()
    assert any((home.home / "databases/kept").iterdir())
    assert "There is no database" in home.run("db", "list")


def test_root_has_no_database_in_a_home() -> None:
    if os.geteuid() != 0:
        pytest.skip("for root")
    from tests.conftest import new_world

    with new_world() as world:
        world.run("load", "shop")
        assert "PostgreSQL does not run as root" in world.run("db", "create", "shop", ok=False)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
