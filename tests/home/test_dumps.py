"""Dumps of a real database, proved and restored into another cluster, as a user who is not root."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatling.platform.embedded import postgres_programs as programs
from gatling.platform.postgres import worker
from gatling.platform.postgres.sites import Site
from tests.home import tablespaces
from tests.home.test_databases import OWN, OWN_SETTINGS, SHOW_OWN, UNPRIVILEGED, Home

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = """
CREATE EXTENSION citext;
CREATE SCHEMA "it's; DROP";
CREATE TABLE "it's; DROP"."a ""b"" \\! c" (x citext);
INSERT INTO "it's; DROP"."a ""b"" \\! c" VALUES ('x'), (NULL);
CREATE TABLE orders (id bigserial PRIMARY KEY, name text, price numeric, at timestamptz,
                     data jsonb, picture bytea);
INSERT INTO orders (name, price, at, data, picture)
  SELECT 'ä' || i, i / 7.0, now() + i * interval '1 minute', jsonb_build_object('n', i), '\\x00ff'
  FROM generate_series(1, 300) i;
CREATE MATERIALIZED VIEW numbers AS SELECT count(*) AS n FROM orders;
INSERT INTO orders (name) VALUES ('after the view');
CREATE TABLE mine (id int); ALTER TABLE mine ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
INSERT INTO orders (name) VALUES ('hidden');
CREATE UNLOGGED TABLE fast TABLESPACE fast AS SELECT 1 AS id;
SELECT lo_from_bytea(0, 'large');
-- with the rights of a superuser, a row of the table could not be restored
CREATE FUNCTION climb() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  SET ROLE NONE; ALTER ROLE "gatling-shop" SUPERUSER; RETURN false;
EXCEPTION WHEN OTHERS THEN RETURN true; END $$;
CREATE TABLE trap (id int CHECK (climb()));
INSERT INTO trap VALUES (1);
GRANT SELECT ON orders TO "gatling-shop";
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    made = Home(Path(tempfile.mkdtemp(prefix="gt-", dir="/dev/shm")))
    try:
        made.run("load", "shop")
        made.run("db", "create", "shop")
        tablespaces.create(made, "fast")
        made.sql("shop", SCHEMA)
        made.sql("shop", *OWN_SETTINGS)
        yield made
    finally:
        made.close()


def site(home: Home, generation: int = 1) -> Site:
    place = home.home / "databases"
    version = max(programs.installed())
    own = place / "shop" / str(generation)
    return Site(
        "shop", f"shop.{generation}", str(programs.program(version, "psql").parent),
        str(own / "data"), str(own / "socket"), str(own / "backup"), str(place / ".backups"),
        str(place / ".repository.json"), str(place / ".proof" / f"shop.{generation}"),
    )  # fmt: skip


def work(verb: str, site: Site, file: Path, mode: str) -> dict[str, Any]:
    """The answer of the program, whose standard input is a file."""
    words = [*UNPRIVILEGED, sys.executable, "-I", "-S", str(worker.__file__),
             json.dumps({"verb": verb, "site": asdict(site)})]  # fmt: skip
    with file.open(mode) as opened:
        done = subprocess.run(words, stdin=opened, capture_output=True, text=True, check=False,
                              timeout=300)  # fmt: skip
    answers = [line for line in done.stdout.splitlines() if line.startswith("\0")]
    assert answers, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(answers[0][1:])
    return found


def test_a_dump_is_restored_and_compared(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "dump"
    said = work("dump", site(home), file, "w+b")
    assert said == {"database": "shop", "version": said["version"], "tables": 5, "rows": 306}
    proof = home.home / "databases/.proof"
    assert [path.name for path in proof.iterdir() if path.is_dir()] == []

    # the directory of a cluster that is not there, as `server restore` has it
    (home.home / "databases/shop/2").mkdir()
    restored = work("load", site(home, 2), file, "r+b")
    assert restored == said
    assert (home.home / "databases/shop/2/data/PG_VERSION").exists()
    assert "is there already" in work("load", site(home, 2), file, "r+b")["what"]


def test_what_is_not_the_same_is_refused(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "dump"
    work("dump", site(home), file, "w+b")
    line, rest = file.read_bytes().split(b"\n", 1)
    head = json.loads(line)
    (home.home / "databases/shop/3").mkdir()
    place = home.home / "databases/shop/3"
    for change, match in (
        ({"tables": head["tables"] | {"public.orders": [303, "1"]}}, "has 303 rows"),
        (
            {"tables": head["tables"] | {"public.orders": [302, "1"]}},
            "rows of public.orders differ",
        ),
        ({"tables": head["tables"] | {"public.more": [1, "1"]}}, "public.more is missing"),
        ({"schema": "x"}, "definitions of the tables differ"),
        ({"extensions": ["no-such-thing"]}, "needs the extension no-such-thing"),
        ({"own": [-1, [[True, "postgres", "work_mem", "1MB"]]]}, "cannot be a setting"),
        ({"roles": ["postgres"]}, "a role or an extension that cannot be"),
    ):
        file.write_bytes(json.dumps(head | change).encode() + b"\n" + rest)
        assert match in work("load", site(home, 3), file, "r+b")["what"]
        assert [path.name for path in place.iterdir()] == []
    file.write_bytes(line + b"\n" + rest[: len(rest) // 2])
    assert "what" in work("load", site(home, 3), file, "r+b")
    assert [path.name for path in place.iterdir()] == []


def test_the_restored_database_has_its_settings(home: Home) -> None:
    """They are in no dump of PostgreSQL's. The cluster is that of the first test."""
    with sqlite3.connect(home.home / "state.db") as db:
        db.execute("UPDATE databases SET generation = 2")
    home.run("db", "create", "shop")
    assert home.sql("shop", SHOW_OWN) == OWN
    assert home.sql("shop", "SELECT count(*) FROM orders") == "302"
