"""Forks of databases of an embedded home: a real PostgreSQL, without root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from gatling.platform import postgres
from gatling.platform.embedded import postgres_programs as programs
from tests.conftest import until
from tests.home.tablespaces import NONE, OF_CLUSTER, files, tablespace
from tests.home.test_databases import (
    EMBEDDED,
    OWN,
    OWN_SETTINGS,
    SHOW_OWN,
    UNPRIVILEGED,
    Home,
)
from tests.home.test_upgrades import LATER, later

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(shutil.which("initdb") is None and not any(
    Path("/usr/lib/postgresql").glob("*/bin/initdb")), reason="needs PostgreSQL")  # fmt: skip

BUSY = (
    "DO $$ BEGIN LOOP INSERT INTO events DEFAULT VALUES; COMMIT; PERFORM pg_sleep(0.002);"
    " END LOOP; END $$"
)
"""Writes hundreds of rows in a second, and leaves the processor to what is tested."""


class Shop(Home):
    """A home with an app that has a database."""

    def read(self, database: str, *statements: str) -> str:
        """What psql prints in a database, as the app."""
        words = [word for each in statements for word in ("-c", each)]
        return self.run(
            "db", "psql", "shop", "--name", database, "--", "-XqAt", *words
        ).strip()  # fmt: skip

    def drop(self, fork: str) -> None:
        self.run("db", "fork", "shop", fork, "--destroy", "--confirm", fork)
        assert not (self.home / "databases" / fork).exists()

    def names(self) -> set[str]:
        return {one["name"] for one in self.json("db", "list")}


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    made = Shop(Path(tempfile.mkdtemp(prefix="gt-", dir="/dev/shm")))
    try:
        made.run("load", "shop")
        made.run("db", "create", "shop")
        made.sql(
            "shop", "CREATE TABLE people (id serial PRIMARY KEY, mail text NOT NULL)",
            "INSERT INTO people (mail) SELECT i || '@example.com' FROM generate_series(1, 500) i",
            "CREATE TABLE schema_migrations (version bigint PRIMARY KEY, inserted_at timestamp)",
            "INSERT INTO schema_migrations VALUES (20260101000000, now())",
            "CREATE TABLE events (id bigserial, at timestamptz DEFAULT now())",
            "CREATE SCHEMA tools", "CREATE EXTENSION pg_trgm SCHEMA tools",
            "CREATE INDEX ON people USING gin (mail tools.gin_trgm_ops)",
        )  # fmt: skip
        made.sql("shop", *OWN_SETTINGS)
        yield made
    finally:
        made.close()


def test_a_fork_has_the_data_of_now_and_is_on_its_own(shop: Shop) -> None:
    said = shop.run("db", "fork", "shop", "shop-try")
    assert "shop-try is a fork of shop" in said
    assert "5 tables" not in said
    assert "3 tables. shop has the URL of the fork as SHOP_TRY_DATABASE_URL" in said
    assert shop.read("shop-try", "SELECT count(*) FROM people", SHOW_OWN) == f"500\n{OWN}"
    shop.read("shop-try", "DELETE FROM people WHERE id > 10")
    assert shop.sql("shop", "SELECT count(*) FROM people") == "500"
    assert "/shop-try?" in shop.run("config", "get", "shop", "SHOP_TRY_DATABASE_URL")
    (one,) = shop.json("db", "forks")
    assert (one["database"], one["source"], one["state"]) == ("shop-try", "shop", "ready")
    assert one["bytes"] > 5_000_000
    assert not one["scrubbed"]
    assert "fork of shop" in shop.run("db", "list")
    assert shop.facts("db", "info", "shop", "--name", "shop-try")["fork_of"] == "shop"
    # it is none of those whose log is archived, nor of those that need a backup
    assert shop.read("shop-try", "SHOW archive_command").endswith("pgbackrest-archive %p")
    taken = shop.try_run("db", "fork", "shop", "shop-try")
    assert taken.returncode == Exit.INVALID
    assert "The name shop-try is taken" in taken.stdout
    assert "taken" in shop.run("db", "fork", "shop", "shop", ok=False)
    refused = shop.try_run("db", "fork", "shop", "shop-try", "--destroy", "--confirm", "shop")
    assert "Nothing was changed" in refused.stdout
    shop.drop("shop-try")
    assert shop.names() == {"shop"}
    assert "SHOP_TRY" not in shop.run("config", "list", "shop")
    missing = shop.try_run("db", "fork", "shop", "shop", "--destroy", "--confirm", "shop")
    assert missing.returncode == Exit.NOT_FOUND
    assert "shop has no fork shop" in missing.stdout
    assert shop.sql("shop", "SELECT count(*) FROM people") == "500"


def test_a_busy_database_goes_on(shop: Shop) -> None:
    sockets = f"{shop.home}/databases/shop/current/socket"
    argv = [*UNPRIVILEGED, "psql", "-h", sockets, "-U", "gatling-shop", "-d", "shop", "-c", BUSY]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as writing:
        try:
            until(lambda: int(shop.sql("shop", "SELECT count(*) FROM events")) > 0, "the writing")
            before = int(shop.sql("shop", "SELECT count(*) FROM events"))
            shop.run("db", "fork", "shop", "shop-try")
            assert writing.poll() is None
        finally:
            writing.send_signal(signal.SIGINT)
            writing.wait(30)
    after = int(shop.sql("shop", "SELECT count(*) FROM events"))
    count, largest = shop.read("shop-try", "SELECT count(*), max(id) FROM events").split("|")
    assert before <= int(count) < after
    assert int(largest) == int(count)  # all of a moment: each row was committed in order
    shop.drop("shop-try")
    shop.sql("shop", "TRUNCATE events")


def test_only_definitions(shop: Shop) -> None:
    said = shop.run("db", "fork", "shop", "shop-empty", "--schema-only")
    assert "its definitions, without rows" in said
    rows = shop.read(
        "shop-empty", "SELECT count(*) FROM people", "SELECT version FROM schema_migrations",
        "INSERT INTO people (mail) VALUES ('a')", "SELECT id, mail FROM people",
        "SELECT nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace"
        " WHERE extname = 'pg_trgm'",
        "SELECT count(*) FROM pg_indexes WHERE tablename = 'people'",
        "SELECT tableowner FROM pg_tables WHERE tablename = 'people'", SHOW_OWN,
    )  # fmt: skip
    assert rows.split("\n") == [
        "0", "20260101000000", "1|a", "tools", "2", "gatling_owner", OWN
    ]  # fmt: skip
    assert shop.json("db", "forks")[0]["how"] == "schema"
    shop.drop("shop-empty")


def test_a_script_cleans_the_data_before_anybody_can_connect(shop: Shop, tmp_path: Path) -> None:
    script = tmp_path / "scrub.sql"
    script.write_text("-- \\! touch /tmp\nUPDATE people SET mail = 'x' || id;\n"
                      "DELETE FROM people WHERE id > 400;\n")  # fmt: skip
    said = shop.run("db", "fork", "shop", "shop-staging", "--scrub", str(script))
    assert "The script ran in" in said
    found = shop.read(
        "shop-staging", "SELECT count(*), count(*) FILTER (WHERE mail ~ '@') FROM people"
    )
    assert found == "400|0"
    assert shop.json("db", "forks")[0]["scrubbed"]
    shop.drop("shop-staging")


@pytest.mark.parametrize(("script", "said"), [
    ("UPDATE people SET mail = 'x'; SELECT 1 / 0;", "division by zero"),
    ("UPDATE nobody SET mail = 'x';", 'relation "nobody" does not exist'),
    ("\\! touch {tmp}/ran", 'syntax error at or near "\\"'),
    ("COPY people TO PROGRAM 'touch {tmp}/ran'", "superuser"),
    ("COPY people FROM '/etc/passwd'", "superuser"),
    ("SET SESSION AUTHORIZATION postgres", "permission denied"),
    ("CREATE ROLE evil SUPERUSER", "superuser"),
    ("SELECT lo_export(lo_from_bytea(0, 'x'), '{tmp}/ran')", "permission denied"),
])  # fmt: skip
def test_a_script_that_fails_leaves_no_fork(
    shop: Shop, tmp_path: Path, script: str, said: str
) -> None:
    tmp_path.chmod(0o777)
    file = tmp_path / "scrub.sql"
    file.write_text(script.format(tmp=tmp_path))
    failed = shop.try_run("db", "fork", "shop", "shop-staging", "--scrub", str(file))
    assert failed.returncode == Exit.INVALID
    assert "The script failed, and the fork was removed:" in failed.stdout
    assert said in failed.stdout
    assert not (tmp_path / "ran").exists()
    assert shop.names() == {"shop"}
    assert not (shop.home / "databases/shop-staging").exists()
    assert shop.json("db", "forks") == []
    assert shop.sql("shop", "SELECT count(*) FROM people WHERE mail ~ '@'") == "500"


def test_scripts_that_cannot_be(shop: Shop, tmp_path: Path) -> None:
    large = tmp_path / "large.sql"
    large.write_text("-- " + "x" * 200_000)
    binary = tmp_path / "binary.sql"
    binary.write_bytes(b"SELECT '\xff'")
    for file, said in (
        (large, "longer than 100 kB"), (binary, "not a text in UTF-8"),
        (tmp_path / "none.sql", "There is no file"), (tmp_path, "Is a directory"),
    ):  # fmt: skip
        refused = shop.try_run("db", "fork", "shop", "shop-staging", "--scrub", str(file))
        assert refused.returncode == Exit.INVALID, refused.stdout
        assert said in refused.stdout
    over_ssh = subprocess.run(
        [*UNPRIVILEGED, sys.executable, "-I", "-m", "gatling", "db", "fork", "shop",
         "shop-staging", "--scrub", "/etc/passwd"],
        env=shop.env | {"GATLING_ROLE": "deployer"}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert "A server reads the script from stdin." in over_ssh.stderr
    assert shop.names() == {"shop"}


def test_killed_forks_are_made_again(shop: Shop) -> None:
    """The command is killed when the fork is made, and when it runs but is not recorded."""
    for module, after in (
        (EMBEDDED, "OwnDatabases.fork"),
        (EMBEDDED, "OwnDatabases.create"),
    ):
        shop.killed(module, after, "db", "fork", "shop", "shop-try")
        assert {one["name"]: one["state"] for one in shop.json("db", "list")} == {
            "shop": "ready", "shop-try": "forking"
        }  # fmt: skip
        assert "still being forked" in shop.run(
            "db", "psql", "shop", "--name", "shop-try", "--", "-c", "SELECT 1", ok=False
        )
        shop.run("db", "fork", "shop", "shop-try")
        assert shop.read("shop-try", "SELECT count(*) FROM people") == "500"
        shop.drop("shop-try")
    # one that was killed can be removed as well
    shop.killed(EMBEDDED, "OwnDatabases.fork", "db", "fork", "shop", "shop-try")
    shop.drop("shop-try")
    # the program that copies is killed
    words = [*UNPRIVILEGED, sys.executable, "-I", "-m", "gatling", "db", "fork", "shop", "shop-try"]
    place = shop.home / "databases/shop-try/1/data.new/PG_VERSION"
    with subprocess.Popen(words, env=shop.env, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as command:  # fmt: skip
        until(lambda: place.exists() or command.poll() is not None, "the copy")
        os.kill(command.pid, signal.SIGKILL)
    shop.run("db", "fork", "shop", "shop-try")
    assert shop.read("shop-try", "SELECT count(*) FROM people") == "500"
    shop.drop("shop-try")


def test_a_promoted_fork_is_no_throw_away(shop: Shop) -> None:
    shop.run("db", "fork", "shop", "shop-try")
    shop.run("db", "promote", "shop", "--name", "shop-try", "--no-restart")
    assert shop.json("db", "forks") == []
    refused = shop.run("db", "fork", "shop", "shop-try", "--destroy", "--confirm", "shop-try",
                       ok=False)  # fmt: skip
    assert "shop has no fork shop-try" in refused
    assert (shop.home / "databases/shop-try/1/data").is_dir()
    shop.run("db", "promote", "shop", "--name", "shop", "--no-restart")
    said = shop.run("db", "destroy", "shop", "--name", "shop-try", "--confirm", "shop-try")
    assert "3 tables with 501 rows, and all of them are in the copy" in said


def test_a_fork_in_use_as_main_database_stays(shop: Shop) -> None:
    shop.run("load", "staging")
    shop.run("db", "fork", "shop", "shop-staging")
    shop.run("db", "attach", "staging", "shop", "--name", "shop-staging", "--as", "DATABASE_URL")
    refused = shop.run("db", "fork", "shop", "shop-staging", "--destroy", "--confirm",
                       "shop-staging", ok=False)  # fmt: skip
    assert "staging uses shop-staging as its DATABASE_URL." in refused
    shop.run("db", "detach", "staging", "--name", "shop-staging")
    shop.drop("shop-staging")


def test_limits(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        shop.run("db", "fork", "shop", f"fork-{number}", "--schema-only")
    few = (
        "import sys; from gatling.operations import forks; forks.MOST = 2;"
        "from gatling.__main__ import main; main()"
    )
    done = subprocess.run(
        [*UNPRIVILEGED, sys.executable, "-c", few, "db", "fork", "shop", "fork-2"],
        env=shop.env, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == Exit.INVALID
    assert "shop has 2 forks: fork-0, fork-1. More than 2 are not made." in done.stderr
    assert "gatling db fork shop fork-0 --destroy" in done.stderr
    for number in range(2):
        shop.drop(f"fork-{number}")
    assert shop.names() == {"shop"}


def test_a_fork_has_no_tablespaces(shop: Shop) -> None:
    """One that had them would write into the directories of the original."""
    with tablespace(shop, "fast") as place:
        shop.sql("shop", "CREATE TABLE placed (id int) TABLESPACE fast",
                 "INSERT INTO placed SELECT generate_series(1, 700)",
                 "CREATE INDEX ON placed (id) TABLESPACE fast")  # fmt: skip
        before = files(place)
        assert len(before) == 2
        shop.run("db", "fork", "shop", "shop-try")
        assert shop.read("shop-try", "SELECT count(*) FROM placed", OF_CLUSTER) == f"700\n{NONE}"
        shop.read("shop-try", "DELETE FROM placed")
        assert files(place) == before
        shop.drop("shop-try")
        assert files(place) == before
        shop.run("db", "fork", "shop", "shop-try", "--schema-only")
        assert shop.read("shop-try", "SELECT count(*) FROM placed", OF_CLUSTER) == f"0\n{NONE}"
        shop.drop("shop-try")
        assert shop.sql("shop", "SELECT count(*) FROM placed") == "700"
        shop.sql("shop", "DROP TABLE placed")


def test_a_disk_without_room(shop: Shop) -> None:
    """Nothing is written, and the message says what is missing."""
    least = "import gatling.files as f; f.RESERVE_BYTES = 1 << 50\n"
    # the worker is a program of its own: the room that must stay is a constant of the package
    worker = shop.home / "worker.py"
    source = Path(postgres.__file__).with_name("worker.py")
    worker.write_text(source.read_text().replace(
        "def answer(", f"{least}\ndef answer(", 1).replace(
        "Path(__file__).resolve().parents[3]", f"Path({str(source.parents[3])!r})"))  # fmt: skip
    script = (
        "from gatling.platform.embedded import repository as r;"
        f"r._WORKER = (*r._WORKER[:-1], {str(worker)!r});"
        "from gatling.__main__ import main; main()"
    )
    done = subprocess.run(
        [*UNPRIVILEGED, sys.executable, "-c", script, "db", "fork", "shop", "shop-try"],
        env=shop.env, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert "The fork needs" in done.stderr
    assert "are free on the disk" in done.stderr
    assert shop.names() == {"shop"}
    assert not (shop.home / "databases/shop-try").exists()


@pytest.fixture
def sharing(tmp_path: Path) -> Iterator[Path]:
    """A directory of a file system whose files can share blocks."""
    if os.geteuid() != 0 or shutil.which("mkfs.xfs") is None:
        pytest.skip("needs root, and XFS")
    image, place = tmp_path / "image", Path(tempfile.mkdtemp(prefix="gt-"))
    with image.open("wb") as file:
        file.truncate(3 << 30)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, place], check=False).returncode != 0:
        pytest.skip("needs a loop device")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        place.rmdir()


def upgraded(home: Shop) -> None:
    """Upgrade a database whose files are cloned, and return: each cluster has its own rows."""
    if LATER in programs.installed():
        pytest.skip("this machine has the later version itself")
    home.env["PATH"] = f"{later()}:{home.env['PATH']}"
    said = home.run("db", "upgrade", "shop", "--to", str(LATER))
    assert said.count("Upgrading with pg_upgrade by copy-on-write") == 2  # the rehearsal, too
    rows = "SELECT count(*), sum(length(t)) FROM large"
    assert home.read("shop", rows) == "150000|75000000"
    home.read("shop", "DELETE FROM large WHERE i > 149000")
    home.run("db", "upgrade", "shop", "--undo", "--confirm", "shop")
    assert home.read("shop", rows) == "150000|75000000"


def test_copy_on_write(sharing: Path) -> None:
    """While the database is written to, and without room for a second copy."""
    home = Shop(sharing / "h")
    try:
        home.run("load", "shop")
        home.run("db", "create", "shop")
        home.sql("shop", "CREATE TABLE events (id bigserial, at timestamptz DEFAULT now())",
                 "CREATE TABLE large AS SELECT i, repeat('x', 500) t"
                 " FROM generate_series(1, 150000) i")  # fmt: skip
        sockets = f"{home.home}/databases/shop/current/socket"
        argv = [*UNPRIVILEGED, "psql", "-h", sockets, "-U", "gatling-shop", "-d", "shop", "-c",
                BUSY]  # fmt: skip
        with subprocess.Popen(
            argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as writing:
            try:
                until(
                    lambda: int(home.sql("shop", "SELECT count(*) FROM events")) > 0, "the writing"
                )
                before = shutil.disk_usage(sharing).free
                made = home.facts("db", "fork", "shop", "shop-try")
                taken = before - shutil.disk_usage(sharing).free
            finally:
                writing.send_signal(signal.SIGINT)
                writing.wait(30)
        assert made["how"] == "clone"
        assert made["bytes"] > 75e6
        assert taken < made["bytes"] * 0.9  # the log of the writing is a part of it
        count, largest = home.read("shop-try", "SELECT count(*), max(id) FROM events").split("|")
        assert int(largest) == int(count) > 0
        assert home.read("shop-try", "SELECT count(*), sum(length(t)) FROM large") == (
            "150000|75000000"
        )
        home.read("shop-try", "DELETE FROM large WHERE i > 149000")
        assert home.read("shop", "SELECT count(*) FROM large") == "150000"
        home.run("recover", "shop")
        home.drop("shop-try")
        upgraded(home)
    finally:
        home.close()
