"""The state file among processes that write at once, are killed, or find it from another time."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gatling import times
from gatling.errors import DiskFull, Exit, GatlingError
from gatling.state import database, home_settings
from gatling.state.database import Database, open_database

WRITER = """
import sys
from pathlib import Path
from gatling.state.database import open_database
sys.stdin.readline()
db = open_database(Path(sys.argv[1]))
for n in range(int(sys.argv[3])):
    with db.transaction(durable=n % 10 == 0):
        count = int(db.value("SELECT value FROM home WHERE key = 'count'") or 0)
        db.execute("INSERT OR REPLACE INTO home VALUES ('count', ?)", str(count + 1))
        db.execute("INSERT INTO home VALUES (?, '')", f"{sys.argv[2]}-{n}")
db.close()
"""
MAKER = """
import sys, time
from pathlib import Path
from gatling.state.database import open_database
for n in range(60):
    while time.time() < float(sys.argv[2]) + n * 0.03:
        pass
    open_database(Path(sys.argv[1]) / f"{n}.db").close()
"""
KILLED = """
import sys, time
from pathlib import Path
from gatling.state.database import open_database
db = open_database(Path(sys.argv[1]))
with db.transaction():
    db.execute("INSERT INTO home VALUES ('committed', 'yes')")
with db.transaction(durable=sys.argv[2] == "durable"):
    db.execute("UPDATE home SET value = 'no'")
    db.execute("INSERT INTO home VALUES ('half', 'done')")
    print("inside", flush=True)
    time.sleep(60)
"""


def keys(db: Database) -> dict[str, str]:
    return {row["key"]: row["value"] for row in db.rows("SELECT * FROM home")}


def test_writers_at_once_lose_nothing(file: Path) -> None:
    # the file does not exist yet: they also make it and its schema at once
    writers = [
        subprocess.Popen(
            [sys.executable, "-I", "-c", WRITER, str(file), str(n), "40"], stdin=subprocess.PIPE
        )
        for n in range(4)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()  # all of them are loaded, or nearly: go
    assert [writer.wait(60) for writer in writers] == [0] * 4
    with contextlib.closing(open_database(file)) as db:
        found = keys(db)
    assert found.pop("count") == "160"
    assert set(found) == {f"{w}-{n}" for w in range(4) for n in range(40)}


def test_several_at_once_make_it(tmp_path: Path) -> None:
    begin = str(time.time() + 1)
    makers = [
        subprocess.Popen([sys.executable, "-I", "-c", MAKER, str(tmp_path), begin])
        for _ in range(3)
    ]
    assert [maker.wait(60) for maker in makers] == [0, 0, 0]


@pytest.mark.parametrize("kind", ["durable", "usual"])
def test_a_writer_that_is_killed_leaves_what_it_committed(file: Path, kind: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-I", "-c", KILLED, str(file), kind], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"inside\n"
        with contextlib.closing(open_database(file)) as reader:  # a reader does not wait
            assert keys(reader) == {"committed": "yes"}
        writer.kill()
    with contextlib.closing(open_database(file)) as db:
        assert keys(db) == {"committed": "yes"}
        home_settings.put(db, "next", "goes on")
        assert keys(db) == {"committed": "yes", "next": "goes on"}


@pytest.mark.parametrize("durable", [True, False])
def test_an_error_takes_all_of_it_back(db: Database, durable: bool) -> None:
    home_settings.put(db, "kept", "1")

    def fail() -> None:
        with db.transaction(durable=durable):
            db.execute("UPDATE home SET value = '2'")
            db.execute("INSERT INTO home VALUES ('other', '')")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert keys(db) == {"kept": "1"}
    home_settings.put(db, "after", "1")
    assert keys(db) == {"kept": "1", "after": "1"}


def test_a_transaction_within_another_is_refused_and_neither_is_made(db: Database) -> None:
    def nest() -> None:
        with db.transaction():
            db.execute("INSERT INTO home VALUES ('outer', '')")
            home_settings.put(db, "inner", "")

    with pytest.raises(GatlingError, match="transaction"):
        nest()
    assert keys(db) == {}
    home_settings.put(db, "after", "1")
    assert keys(db) == {"after": "1"}


def test_a_durable_transaction_waits_for_the_disk_and_only_that_one(db: Database) -> None:
    full, normal = 2, 1  # sqlite.org/pragma.html#pragma_synchronous
    with db.transaction(durable=True):
        assert db.value("PRAGMA synchronous") == full
    with db.transaction():
        assert db.value("PRAGMA synchronous") == normal
    with contextlib.suppress(ZeroDivisionError), db.transaction(durable=True):
        raise ZeroDivisionError
    assert db.value("PRAGMA synchronous") == normal


def test_only_its_user_may_read_it(file: Path) -> None:
    before = os.umask(0)
    try:
        db = open_database(file)
        home_settings.put(db, "secret", "1")
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in file.parent.iterdir()}
        db.close()
    finally:
        os.umask(before)
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


def test_a_state_of_a_newer_gatling_is_refused_and_left_alone(file: Path) -> None:
    with contextlib.closing(open_database(file)) as db:
        home_settings.put(db, "kept", "1")
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(GatlingError, match="newer Gatling") as caught:
        open_database(file)
    assert caught.value.hint
    with contextlib.closing(sqlite3.connect(file)) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (99,)
        assert raw.execute("SELECT * FROM home").fetchall() == [("kept", "1")]


def test_opened_again_it_is_as_it_was(file: Path) -> None:
    for n in range(3):
        with contextlib.closing(open_database(file)) as db:
            assert home_settings.get(db, "n") == (str(n - 1) if n else None)
            home_settings.put(db, "n", str(n))


def test_a_file_of_another_kind(file: Path) -> None:
    file.write_text("not a database " * 100)
    with pytest.raises(GatlingError, match="state file cannot be used"):
        open_database(file)
    assert file.read_text() == "not a database " * 100


def test_somebody_who_never_ends(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    with (
        contextlib.closing(open_database(file)) as other,
        contextlib.closing(open_database(file)) as waiting,
        other.transaction(),
    ):
        with pytest.raises(GatlingError, match=r"held the state for 0\.2 seconds"):
            home_settings.put(waiting, "mine", "1")
        assert keys(waiting) == {}


def test_a_writer_waits_for_the_one_before(db: Database, file: Path) -> None:
    order: list[str] = []
    begun = threading.Event()

    def second() -> None:
        with contextlib.closing(open_database(file)) as other:
            begun.set()
            home_settings.put(other, "who", "second")
            order.append("second")

    thread = threading.Thread(target=second)
    with db.transaction():
        db.execute("INSERT INTO home VALUES ('who', 'first')")
        thread.start()
        assert begun.wait(10)
        thread.join(0.2)  # it must not get through
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert keys(db) == {"who": "second"}


def test_a_full_disk_is_named(db: Database) -> None:
    pages = db.value("PRAGMA page_count")
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskFull) as caught:
        home_settings.put(db, "big", "x" * 1_000_000)
    assert caught.value.exit_status == Exit.HOST
    assert keys(db) == {}
    home_settings.put(db, "small", "1")


def test_times_sort_as_texts_and_are_utc() -> None:
    stamps = [times.now() for _ in range(50)]
    assert stamps == sorted(stamps)
    assert all(len(s) == len("2026-01-31T12:00:00.000Z") and s.endswith("Z") for s in stamps)


def test_a_row_that_is_there_already_is_an_error_in_words(db: Database) -> None:
    home_settings.put(db, "one", "")
    with pytest.raises(GatlingError, match="Another command changed the same thing"):
        db.execute("INSERT INTO home (key, value) VALUES ('one', '')")


def test_every_insert_names_its_columns() -> None:
    """A column that a later version adds would shift the values."""
    sources = Path(database.__file__).parents[1].rglob("*.py")
    found = [
        (file.name, statement)
        for file in sources
        for statement in re.findall(r"INTO \w+(?:\s|\")*VALUES", file.read_text())
    ]
    assert found == []
