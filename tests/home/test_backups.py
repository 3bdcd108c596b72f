"""Backups of databases of an embedded home: a real PostgreSQL and pgBackRest, without root."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from tests.conftest import modes_below, suspend, until
from tests.dashboard.opened import opened
from tests.home.tablespaces import NONE, OF_CLUSTER, files, tablespace
from tests.home.test_databases import OWN, OWN_SETTINGS, SHOW_OWN, UNPRIVILEGED, Home

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(shutil.which("pgbackrest") is None, reason="needs pgBackRest")

BUSY = (
    "DO $$ BEGIN LOOP INSERT INTO events DEFAULT VALUES; COMMIT; PERFORM pg_sleep(0.002);"
    " END LOOP; END $$"
)
"""Writes hundreds of rows in a second, and leaves the processor to what is tested."""
HOSTILE = """
CREATE FUNCTION evil(orders) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN ALTER ROLE "gatling-shop" SUPERUSER; RETURN 'x'; END $$;
CREATE CAST (orders AS text) WITH FUNCTION evil(orders) AS IMPLICIT;
CREATE TABLE hidden AS SELECT i FROM generate_series(1, 5) i;
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE SCHEMA "it's; DROP"; CREATE TABLE "it's; DROP"."a ""b"" c" (gatling_row text);
INSERT INTO "it's; DROP"."a ""b"" c" VALUES ('x'), (NULL);
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    made = Home(Path(tempfile.mkdtemp(prefix="gt-", dir="/dev/shm")))
    try:
        made.run("load", "shop")
        made.run("db", "create", "shop")
        made.sql(
            "shop", "CREATE TABLE orders (id serial PRIMARY KEY, name text)",
            "INSERT INTO orders (name) SELECT 'ä\n' || i FROM generate_series(1, 200) i",
            "CREATE TABLE schema_migrations (version bigint PRIMARY KEY, inserted_at timestamp)",
            "INSERT INTO schema_migrations VALUES (20260101000000, now())",
            "CREATE TABLE events (id bigserial, at timestamptz DEFAULT now())",
        )  # fmt: skip
        yield made
    finally:
        made.close()


def test_a_backup_is_restored_and_compared(home: Home) -> None:
    assert "There is no backup." in home.run("db", "backups", "shop")
    home.sql("shop", HOSTILE)
    said = home.run("db", "backup", "shop")
    assert "F of shop is proved: 5 tables with 208 rows are as in the database." in said
    assert "1 migration, the newest is 20260101000000." in said
    one = home.facts("db", "backups", "shop")
    assert (one["kind"], one["state"], one["tables"], one["rows"]) == ("full", "proved", 5, 208)
    assert home.sql("shop", "SELECT rolsuper FROM pg_roles WHERE rolname = session_user") == "f"
    assert not (home.home / "databases/.proof/shop.1").exists()
    # nobody else can read it, and it is no way in
    repository = home.home / "databases/.backups"
    assert not any(
        mode & 0o007 for mode in modes_below(repository).values() if not stat.S_ISLNK(mode)
    )
    refused = home.run("db", "psql", "shop", "--", "-U", "gatling_reader", "-c",
                       "DELETE FROM orders", ok=False)  # fmt: skip
    assert "permission denied" in refused


def test_the_dashboard_shows_the_database_and_its_backups(home: Home) -> None:
    """A cluster that hangs shows as such within a second, and holds up neither page nor backups."""
    home.run("db", "schedule", "shop", "--at", "03:15")
    (backup,) = home.json("db", "backups", "shop")
    info = home.facts("db", "info", "shop")
    with opened(home.env, before=UNPRIVILEGED) as dashboard:
        dashboard.enter()

        def text() -> str:
            found = re.sub(r"<[^>]*>", " ", dashboard.get("/databases").text)
            return " ".join(found.split())

        shown = until(lambda: found if "asked" not in (found := text()) else None, "the answers")
        assert "shop running" in shown
        assert info["facts"]["version"] in shown
        assert re.search(r"Connections \d+ of \d+, 0 active", shown)
        assert re.search(r"every day at 03:15 next \d{4}-\d\d-\d\d 03:15", shown)
        assert f"{backup['label']} full" in shown
        assert re.search(r"proved restored \d+ s ago , 5 tables and 208 rows as in the", shown)
        assert "none" not in shown.replace("There is none. Turn on", ""), "there is no pool"
        postmaster = _postmaster(home)
        suspend(postmaster)
        try:
            until(lambda: "is being asked" in text(), "a new question")
            begun = time.monotonic()
            until(lambda: "shop does not answer" in text(), "the sign", longest=0.05)
            assert time.monotonic() - begun < 10, "within a second, on a machine of its own"
            assert backup["label"] in text()
        finally:
            os.kill(postmaster, signal.SIGCONT)
        until(lambda: "shop running" in text(), "the answer")
    home.run("db", "schedule", "shop", "--off")


def _postmaster(home: Home) -> int:
    file = home.home / "databases/shop/current/data/postmaster.pid"
    return int(file.read_text().split()[0])


def test_a_busy_database(home: Home) -> None:
    url = f"{home.home}/databases/shop/current/socket"
    argv = [*UNPRIVILEGED, "psql", "-h", url, "-U", "gatling-shop", "-d", "shop", "-c", BUSY]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as writing:
        try:
            until(lambda: int(home.sql("shop", "SELECT count(*) FROM events")) > 0, "the writing")
            made = home.facts("db", "backup", "shop")
            assert writing.poll() is None
        finally:
            # psql cancels its statement, which would go on without it and fill the disk
            writing.send_signal(signal.SIGINT)
            writing.wait(30)
    count = home.sql("shop", "SELECT count(*) FROM events")
    assert home.sql("shop", "SELECT count(*) FROM events") == count
    assert made["backup"]["state"] == "proved"
    assert made["backup"]["kind"] == "incr"
    assert made["written"] <= 1


def test_a_killed_backup_is_not_called_a_success(home: Home) -> None:
    """The program is killed while it copies and while it proves; the next one is complete."""
    databases = home.home / "databases"

    def copying() -> bool:
        """Whether a copy has begun and is not complete."""
        begun = (databases / ".backups/backup").glob("*/*F/backup.manifest.copy")
        return any(not one.with_suffix("").exists() for one in begun)

    for moment in (copying, (databases / ".proof/shop.1/data/postmaster.pid").exists):
        words = [*UNPRIVILEGED, sys.executable, "-I", "-m", "gatling", "db", "backup", "shop",
                 "--full"]  # fmt: skip
        with subprocess.Popen(words, env=home.env, stdout=subprocess.DEVNULL) as command:
            until(lambda: moment() or command.poll() is not None, "the moment")  # noqa: B023
            worker = _worker(home)
            os.killpg(worker, signal.SIGSTOP)  # it is still there when another command has started
            assert "already being made" in home.run("db", "backup", "shop", ok=False)
            os.killpg(worker, signal.SIGKILL)
            assert command.wait(30) == Exit.FAILURE
        until(lambda: not [1 for line in home.processes() if "pgbackrest" in line], "its end")
    states = [one["state"] for one in home.json("db", "backups", "shop")]
    assert states[:2] == ["proved", "proved"]
    assert "proved" not in states[2:]
    home.run("db", "backup", "shop")
    assert home.json("db", "backups", "shop")[-1]["state"] == "proved"
    assert not (databases / ".proof/shop.1").exists()
    assert len([line for line in home.processes() if "/.proof/" in line]) == 0


def test_a_damaged_backup_is_found(home: Home) -> None:
    home.run("notify", "add", "ops", "http://127.0.0.1:9/hook")
    repository = home.home / "databases/.backups/backup"
    full = home.json("db", "backups", "shop")[-1]["label"].partition("_")[0]
    # of a database that nobody changes: the incremental backup refers to this file
    template = repository.glob(f"*/{full}/pg_data/base/1/*")
    file = max(template, key=lambda one: one.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    failed = home.try_run("db", "backup", "shop")
    assert failed.returncode == Exit.UNHEALTHY, failed.stdout
    assert "cannot be restored" in failed.stdout
    assert failed.stdout.count("Restoring the backup") == 1  # pgBackRest has tried it three times
    last = home.json("db", "backups", "shop")[-1]
    assert (last["kind"], last["state"]) == ("incr", "refuted")
    assert last["reason"]
    with sqlite3.connect(home.home / "state.db") as db:
        assert db.execute("SELECT fault FROM backups").fetchone()[0] != ""
    # nothing builds on it, and nothing that is proved was removed
    made = home.facts("db", "backup", "shop")
    assert (made["backup"]["kind"], made["backup"]["state"]) == ("full", "proved")
    with sqlite3.connect(home.home / "state.db") as db:
        assert db.execute("SELECT fault FROM backups").fetchone()[0] == ""
        events = {row[0] for row in db.execute("SELECT event FROM outbox")}
    assert events == {"backup.failed", "backup.proved"}
    assert {"db backup", "db backup failed"} <= backup_marks(home)


def backup_marks(home: Home) -> set[str]:
    """The texts of the backups between the numbers of the app, and how each begins."""
    texts = [one["text"] for one in home.facts("watch", "show", "shop")["marks"]
             if one["kind"] == "backup"]  # fmt: skip
    return {*texts, *(text.partition(":")[0] for text in texts)}


def test_a_schedule(home: Home) -> None:
    assert "is not backed up on a schedule" in home.run("db", "schedule", "shop")
    said = home.run("db", "schedule", "shop", "--at", "03:15", "--keep", "1", "--days", "0")
    assert "is backed up every day at 03:15. All full backups of 0 days stay" in said
    assert home.facts("db", "schedule", "shop", "--at", "03:15")["count"] == 1
    for wrong in (["--at", "25:00"], ["--keep", "0"], ["--days", "-1"], ["--off", "--at", "03:15"]):
        home.run("db", "schedule", "shop", *wrong, ok=False)
    assert home.facts("db", "schedule", "shop")["at"] == "03:15"
    before = home.json("db", "backups", "shop")
    home.run("db", "scheduled")
    assert home.json("db", "backups", "shop") == before  # none is due
    long_ago = ("2026-01-01T00:00:00.000Z",)
    with sqlite3.connect(home.home / "state.db") as db:
        db.execute("UPDATE backup_plans SET changed_at = ?", long_ago)
        db.execute("UPDATE backups SET tried_at = ?", long_ago)
    # the clock of the home, which reads when the next one is due
    (home.home / "backups-due").write_text("1")
    # a look at the state: a command that lists backups starts two programs
    until(lambda: _tried(home) > long_ago[0], "the backup of the clock", 240)
    assert _newest_proved(home) not in {one["label"] for one in before}
    until(lambda: any(_newest_proved(home) in one for one in backup_marks(home)), "its mark")
    until(lambda: int((home.home / "backups-due").read_text()) > 1, "the next time")
    # of the older full ones, those go that nothing proved needs
    full = [one for one in home.json("db", "backups", "shop") if one["kind"] == "full"]
    assert len(full) == 1
    home.run("db", "schedule", "shop", "--off")
    assert not (home.home / "backups-due").exists()


def test_a_restore_to_a_time_and_back(home: Home) -> None:
    home.sql("shop", "INSERT INTO orders (name) VALUES ('the last one')")
    home.sql("shop", *OWN_SETTINGS)
    before = home.sql("shop", "SELECT count(*) FROM orders")
    moment = home.sql("shop", "SELECT clock_timestamp()")
    home.sql("shop", "DELETE FROM orders")
    assert "from before that time" in home.run("db", "restore", "shop", "--to", "2020-01-01",
                                               ok=False)  # fmt: skip
    for wrong in ("2999-01-01", "yesterday"):
        home.run("db", "restore", "shop", "--to", wrong, ok=False)
    words = ("db", "restore", "shop", "--to", moment)
    # killed before and after the data is in its place: it cannot be taken for a new database
    for module, after in (
        ("gatling.state.databases", "add"),
        ("gatling.platform.embedded.databases", "OwnDatabases.restore"),
        ("gatling.platform.embedded.databases", "OwnDatabases.create"),
    ):
        home.killed(module, after, *words)
        refused = home.run("db", "create", "shop", "--name", "shop-restored", ok=False)
        assert "is being restored" in refused
    said = home.run(*words)
    assert f"shop-restored is restored from {_newest_proved(home)}: " in said
    restored = ("db", "psql", "shop", "--name", "shop-restored", "--", "-XqAt", "-c")
    assert home.run(*restored, "SELECT count(*) FROM orders").strip() == before
    assert home.run(*restored, SHOW_OWN).strip() == OWN
    assert home.sql("shop", "SELECT count(*) FROM orders") == "0"
    assert "is taken" in home.run(*words, ok=False)

    for module, after in (
        ("gatling.operations.forks", "own"),
        ("gatling.state.config", "replace"),
    ):
        home.killed(module, after, "db", "promote", "shop")
        used = {use["variable"]: one["name"] for one in home.json("db", "list")
                for use in one["used_by"] if use["app"] == "shop"}  # fmt: skip
        assert used["DATABASE_URL"] == "shop", "recorded last: the same command completes it"
    assert "shop stays" in home.run("db", "promote", "shop")
    assert home.sql("shop", "SELECT count(*), current_database() FROM orders") == (
        f"{before}|shop-restored"
    )
    url = home.run("config", "get", "shop", "DATABASE_URL")
    assert "/shop-restored?" in url
    assert home.facts("db", "backup", "shop")["backup"]["kind"] == "full"
    home.run("db", "promote", "shop", "--name", "shop")
    assert home.sql("shop", "SELECT count(*), current_database() FROM orders") == "0|shop"
    assert "already" in home.run("db", "promote", "shop", "--name", "shop", ok=False)
    home.run("db", "destroy", "shop", "--name", "shop-restored", "--confirm", "shop-restored")


def test_a_database_with_a_tablespace(home: Home) -> None:
    """A proof and a restore write nothing into it, and the restored database has none."""
    with tablespace(home, "fast") as place:
        home.sql("shop", "CREATE TABLE placed (id int) TABLESPACE fast",
                 "INSERT INTO placed SELECT generate_series(1, 700)")  # fmt: skip
        before = files(place)
        # the log since the last backup would create the tablespace once more, where it is
        restore = ("db", "restore", "shop", "--as", "shop-placed")
        refused = home.run(*restore, ok=False)
        assert "A tablespace was created in shop after that backup began" in refused
        assert "is proved" in home.run("db", "backup", "shop")
        home.run(*restore)
        count = ("db", "psql", "shop", "--name", "shop-placed", "--", "-XqAt", "-c")
        assert home.run(*count, "SELECT count(*) FROM placed").strip() == "700"
        assert home.run(*count, OF_CLUSTER).strip() == NONE
        assert files(place) == before
        home.run("db", "destroy", "shop", "--name", "shop-placed", "--confirm", "shop-placed")
        assert home.sql("shop", "SELECT count(*) FROM placed") == "700"
        home.sql("shop", "DROP TABLE placed")


def test_backups_stay_when_the_database_is_removed(home: Home) -> None:
    before = home.json("db", "backups", "shop")
    home.run("db", "destroy", "shop", "--confirm", "shop")
    home.run("db", "create", "shop")
    assert home.json("db", "backups", "shop") == before
    home.sql("shop", "CREATE TABLE orders AS SELECT 1 AS id")
    made = home.facts("db", "backup", "shop")
    assert (made["backup"]["kind"], made["backup"]["rows"]) == ("full", 1)


def _tried(home: Home) -> str:
    """The time of the newest backup, once it has ended."""
    with sqlite3.connect(home.home / "state.db") as db:
        return str(db.execute("SELECT tried_at FROM backups").fetchone()[0])


def _newest_proved(home: Home) -> str:
    proved = [one for one in home.json("db", "backups", "shop") if one["state"] == "proved"]
    return str(proved[-1]["label"])


def _worker(home: Home) -> int:
    """The process of the program that makes a backup of this home, whatever others do."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        own = any(str(home.home).encode() in word for word in words)
        if own and any(word.endswith(b"/postgres/worker.py") for word in words):
            return int(directory.name)
    raise AssertionError("no program makes a backup")
