"""Backups in an S3 bucket: a real PostgreSQL and pgBackRest, a server that checks signatures."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from tests.conftest import files_with
from tests.home import s3 as servers
from tests.home.test_databases import Home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.home.s3 import S3

pytestmark = pytest.mark.skipif(shutil.which("pgbackrest") is None, reason="needs pgBackRest")
PLACE = "s3://backups/gatling"
OWN = "a-passphrase-of-one's-own"
WRONG = "wrong"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    place = tmp_path_factory.mktemp("s3")
    for directory in (place, *place.parents[:2]):
        directory.chmod(0o755)
    with servers.running(place) as server:
        yield server


@pytest.fixture(scope="module")
def home(s3: S3) -> Iterator[Home]:
    made = Home(Path(tempfile.mkdtemp(prefix="gt-", dir="/dev/shm")))
    try:
        made.run("load", "shop")
        made.run("db", "create", "shop")
        made.sql("shop", "CREATE TABLE orders AS SELECT i AS id FROM generate_series(1, 20) i")
        made.run("db", "backup", "shop")
        yield made
    finally:
        made.close()


def kept(home: Home) -> str:
    return home.run("db", "repository").strip()


def refused(home: Home, s3: S3, place: str, *words: str, secrets: str | None = None) -> str:
    """What the command says that finds the place unusable; nothing is changed."""
    before, rest = kept(home), list(words)
    options = s3.words
    while rest and rest[0].startswith("--"):
        option, value, *rest = rest
        options[options.index(option) + 1] = value
    done = home.try_run("db", "repository", place, *options, "--stdin",
                        stdin=s3.secrets() if secrets is None else secrets)  # fmt: skip
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout
    assert s3.secret not in done.stdout
    assert kept(home) == before
    assert not list((home.home / "databases").glob(".repository.new"))
    return done.stdout


def test_a_place_that_cannot_be_used(home: Home, s3: S3) -> None:
    assert "a directory of this machine" in kept(home)
    said = refused(home, s3, PLACE, secrets=s3.secrets(key="AKIAUNKNOWN"))
    assert f"localhost refuses access to {PLACE} (InvalidAccessKeyId)." in said
    said = refused(home, s3, PLACE, secrets=s3.secrets(**{"key-secret": WRONG}))
    assert "(SignatureDoesNotMatch)" in said
    assert "localhost has no bucket other." in refused(home, s3, "s3://other/gatling")
    said = refused(home, s3, PLACE, "--ca-file", "/etc/ssl/certs/ca-certificates.crt")
    assert "unable to verify certificate" in said
    said = refused(home, s3, PLACE, "--endpoint", "localhost:1")
    assert "localhost cannot be reached: " in said
    assert "Connection refused" in said
    said = refused(home, s3, PLACE, "--endpoint", "nowhere.invalid")
    assert "nowhere.invalid cannot be reached: " in said
    for secrets in ("key=a\n", "key", "password=x\n", "", s3.secrets(passphrase=WRONG)):
        refused(home, s3, PLACE, secrets=secrets)
    for place in ("s3://", "s3://UPPER/x", "http://backups/x", "s3://backups/../x", "s3://a b/x",
                  "s3://backups/x?y", "/var/backups"):  # fmt: skip
        refused(home, s3, place)
    wrong = home.run("db", "repository", "directory", *s3.words, ok=False)
    assert "An option is not for directory." in wrong


def test_backups_in_a_bucket(home: Home, s3: S3) -> None:
    """Encrypted, proved, and not readable in any other way."""
    local = home.json("db", "backups", "shop")
    said = home.run("db", "repository", PLACE, *s3.words, "--stdin", stdin=s3.secrets())
    assert "is shown once" in said
    (passphrase,) = [line.removeprefix("passphrase=") for line in said.splitlines()
                     if line.startswith("passphrase=")]  # fmt: skip
    assert len(passphrase) > 40
    assert PLACE in kept(home)
    assert home.json("db", "backups", "shop") == []
    made = home.facts("db", "backup", "shop")["backup"]
    assert (made["kind"], made["state"], made["rows"]) == ("full", "proved", 20)
    home.sql("shop", "INSERT INTO orders VALUES (21)")
    assert home.facts("db", "backup", "shop")["backup"]["kind"] == "incr"
    assert len(home.json("db", "backups", "shop")) == 2

    for secret in (s3.secret, passphrase):
        with_it = files_with(home.home, secret.encode())
        assert {path.name for path in with_it} == {".repository.json", "pgbackrest.conf"}
        assert {path.stat().st_mode & 0o777 for path in with_it} == {0o600}
    assert passphrase not in home.run("db", "repository")
    # another key for the same place keeps the passphrase
    said = home.run("db", "repository", PLACE, *s3.words, "--stdin", stdin=s3.secrets())
    assert "passphrase" not in said
    assert len(home.json("db", "backups", "shop")) == 2
    # with another passphrase they cannot be read, and those of before are used on
    said = refused(home, s3, PLACE, secrets=s3.secrets(passphrase=OWN))
    assert f"The backups in {PLACE} cannot be decrypted." in said
    assert len(home.json("db", "backups", "shop")) == 2

    # the same passphrase on another machine, and a restore there
    elsewhere = Home(Path(tempfile.mkdtemp(prefix="gt-", dir="/dev/shm")))
    try:
        elsewhere.run("load", "shop")
        elsewhere.run("db", "create", "shop")
        elsewhere.run("db", "repository", PLACE, *s3.words, "--stdin",
                      stdin=s3.secrets(passphrase=passphrase))  # fmt: skip
        assert len(elsewhere.json("db", "backups", "shop")) == 2
        elsewhere.run("db", "restore", "shop")
        count = ("db", "psql", "shop", "--name", "shop-restored", "--", "-XqAt", "-c",
                 "SELECT count(*) FROM orders")  # fmt: skip
        assert elsewhere.run(*count).strip() == "21"
    finally:
        elsewhere.close()

    # those of before are where they were
    assert "a directory of this machine" in home.run("db", "repository", "directory")
    assert home.json("db", "backups", "shop") == local


def test_a_place_that_was_half_made(home: Home) -> None:
    """pgBackRest was killed between its first files; it refuses to go on by itself."""
    home.run("db", "create", "shop", "--name", "two", "--as", "TWO_URL")
    home.run("db", "backup", "shop", "--name", "two")
    places = {kind: next((home.home / "databases/.backups" / kind).glob("two.*"))
              for kind in ("archive", "backup")}  # fmt: skip
    info = [*places["backup"].glob("backup.info*")]
    texts = [file.read_text() for file in info]
    for file in info:
        file.unlink()
    # there are backups: nothing is removed
    refused = home.run("db", "backup", "shop", "--name", "two", ok=False)
    assert "backup.info" in refused
    assert [*places["backup"].glob("*F/backup.manifest")]
    for file, text in zip(info, texts, strict=True):
        file.write_text(text)
        file.chmod(0o640)
    home.run("db", "backup", "shop", "--name", "two")
    shutil.rmtree(places["backup"])
    for path in places["archive"].iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    (places["archive"] / "archive.info.copy").unlink()
    made = home.facts("db", "backup", "shop", "--name", "two")["backup"]
    assert (made["kind"], made["state"]) == ("full", "proved")


def test_a_bucket_without_room(home: Home, s3: S3) -> None:
    """Neither a new place nor a known one without room costs a backup, or the log."""
    home.run("db", "backup", "shop")
    before = home.json("db", "backups", "shop")
    home.run("db", "repository", "s3://backups/other", *s3.words, "--stdin",
             stdin=s3.secrets(passphrase=OWN))  # fmt: skip
    s3.full.touch()
    failed = home.try_run("db", "backup", "shop")
    assert failed.returncode == Exit.FAILURE, failed.stdout
    assert "localhost answered with the HTTP status 400 (XMinioAdminBucketQuotaExceeded)" in (
        failed.stdout
    )
    # the log still goes to the place of before, which has all that a restore needs
    own = home.home / "databases/shop/1/backup"
    assert "repo1-s3-" not in (own / "pgbackrest.conf").read_text()
    assert [path.name for path in own.glob("*.new")] == []
    home.sql("shop", "INSERT INTO orders VALUES (22)")
    home.run("db", "repository", "directory")
    assert home.json("db", "backups", "shop") == before
    home.run("db", "restore", "shop")
    count = ("db", "psql", "shop", "--name", "shop-restored", "--", "-XqAt", "-c",
             "SELECT count(*) FROM orders")  # fmt: skip
    assert home.run(*count).strip() == "22"
    home.run("db", "repository", "s3://backups/other", *s3.words, "--stdin",
             stdin=s3.secrets(passphrase=OWN))  # fmt: skip
    s3.full.unlink()
    assert home.facts("db", "backup", "shop")["backup"]["state"] == "proved"
    s3.full.touch()
    try:
        failed = home.try_run("db", "backup", "shop")
        assert failed.returncode != 0
        assert "XMinioAdminBucketQuotaExceeded" in failed.stdout
        assert [one["state"] for one in home.json("db", "backups", "shop")] == ["proved"]
    finally:
        s3.full.unlink()
    assert home.facts("db", "backup", "shop")["backup"]["state"] == "proved"


def test_no_secret_is_in_an_answer_for_programs(home: Home, s3: S3) -> None:
    shown = json.dumps(home.json("db", "repository"))
    assert OWN not in shown
    assert s3.secret not in shown
