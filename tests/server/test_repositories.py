"""Backups of a server's databases on other machines: S3 over TLS, and SFTP to a real sshd.

pgBackRest of Debian 12 has no SFTP. GATLING_BOXES=trixie makes boxes of Debian 13.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from gatling.platform.server import cluster_units as places
from tests.home import s3 as servers
from tests.scale import LONG
from tests.server.image import SUITE
from tests.server.network import PREFIX
from tests.server.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.home.s3 import S3
    from tests.server.conftest import Boxes
    from tests.server.image import Image
    from tests.server.server import Person

HOST = "s3.example.com"
PLACE = "s3://backups/gatling"
KEY = "/var/lib/postgresql/.ssh/id_ed25519"


@pytest.fixture(scope="module")
def server_image(database_image: Image) -> Image:
    """With the packages of databases: their installation is what other tests are about."""
    return database_image


@pytest.fixture(scope="module")
def amy(server: Server) -> Person:
    """An admin, and an app with a database."""
    amy = server.admin("amy")
    amy.run("load", "shop")
    amy.run("db", "create", "shop")
    amy.run("db", "psql", "shop", "--", "-c",
            "CREATE TABLE orders AS SELECT i AS id FROM generate_series(1, 20) i")  # fmt: skip
    return amy


@pytest.fixture(scope="module")
def s3(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """On the machine that the box is connected to."""
    enter, address = ("nsenter", f"--net={server.box.lan.path}"), f"{PREFIX}1"
    with servers.running(tmp_path_factory.mktemp("s3"), HOST, address, enter) as running:
        server.box.exec(["sh", "-c", f"echo {address} {HOST} >> /etc/hosts"])
        server.box.put(running.ca_file, "/etc/ssl")
        server.box.exec(["chmod", "644", "/etc/ssl/ca.pem"])
        running.ca_file = Path("/etc/ssl/ca.pem")
        yield running


def listed(person: Person) -> list[dict[str, object]]:
    found: list[dict[str, object]] = person.json("db", "backups", "shop")
    return found


def test_a_bucket(server: Server, amy: Person, s3: S3) -> None:
    dora = server.let_in("dora", "shop")
    words = ("db", "repository", PLACE, *s3.words, "--stdin")
    refused = dora.run(*words, stdin=s3.secrets(), status=Exit.REFUSED)
    assert "may not use `gatling db repository`" in refused
    said = amy.run(*words, stdin=s3.secrets(key="AKIAUNKNOWN"), status=Exit.INVALID)
    assert f"{HOST} refuses access to {PLACE} (InvalidAccessKeyId)." in said
    assert not (server.box.root / str(places.REPOSITORY).lstrip("/")).exists()
    said = amy.run(*words, stdin=s3.secrets())
    passphrase = said.partition("passphrase=")[2].split()[0]
    assert len(passphrase) > 40
    # postgres reads the secrets, and nobody else
    file = str(places.REPOSITORY)
    shown = server.box.exec(["stat", "-c", "%U %G %a", file]).stdout.strip()
    assert shown == "root postgres 640"
    for user in ("gatling", "gatling-shop"):
        assert server.box.exec(["cat", file], user=user, check=False).returncode != 0
    assert "is proved" in dora.run("db", "backup", "shop")
    assert "is proved" in dora.run("db", "backup", "shop")
    assert [one["kind"] for one in listed(dora)] == ["full", "incr"]
    journal = server.box.exec(["journalctl", "--no-pager", "-o", "cat"]).stdout
    for secret in (s3.secret, passphrase):
        assert secret not in journal
    assert passphrase not in dora.run("db", "info", "shop")
    dora.run("db", "restore", "shop")
    count = dora.run("db", "psql", "shop", "--name", "shop-restored", "--", "-XqAt", "-c",
                     "SELECT count(*) FROM orders")  # fmt: skip
    assert count.strip() == "20"
    amy.run("db", "destroy", "shop", "--name", "shop-restored", "--confirm", "shop-restored")
    # the log goes there, too
    own = server.box.exec(["sh", "-c", "cat /etc/postgresql/*/gatling.shop.1/backup/*.conf"])
    assert "repo1-type=s3" in own.stdout


def key_of_postgres(server: Server) -> str:
    """Make a key for what runs as postgres; the public one."""
    postgres = ["runuser", "-u", "postgres", "--"]
    server.box.exec([*postgres, "mkdir", "-p", "-m", "700", "/var/lib/postgresql/.ssh"])
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY]
    if not (server.box.root / KEY.lstrip("/")).exists():
        server.box.exec([*postgres, *words])
    return server.box.exec(["cat", f"{KEY}.pub"]).stdout


@pytest.fixture(scope="module")
def fingerprint(server: Server, amy: Person) -> str:
    """Of the server's own sshd, which stands for another machine, with a user and a disk."""
    box = server.box
    for words in (
        ["useradd", "--create-home", "backup2"],
        ["install", "-d", "-m", "700", "/srv/backups"],
        ["mount", "-t", "tmpfs", "-o", "size=100m", "none", "/srv/backups"],
        ["chown", "backup2", "/srv/backups"],
    ):
        box.exec(words)
    box.authorize("backup2", key_of_postgres(server))
    shown = box.exec(["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout
    return shown.split()[1]


def test_another_machine_over_sftp(server: Server, amy: Person, fingerprint: str) -> None:
    box = server.box
    place = "sftp://backup2@localhost/srv/backups/gatling"
    if SUITE == "bookworm":
        said = amy.run("db", "repository", place, "--key-file", KEY, "--fingerprint", fingerprint,
                       status=Exit.INVALID)  # fmt: skip
        assert "pgBackRest 2.45 has no SFTP." in said
        pytest.skip("Debian 12 has no SFTP: GATLING_BOXES=trixie makes other boxes")
    trusting = ("db", "repository", place, "--key-file", KEY, "--fingerprint")
    wrong = "SHA256:" + "A" * 43
    said = amy.run(*trusting, wrong, status=Exit.INVALID)
    assert "The backups cannot be kept on localhost: " in said
    said = amy.run("db", "repository", place.replace("localhost", "localhost:1"), "--key-file", KEY,
                   "--fingerprint", fingerprint, status=Exit.INVALID)  # fmt: skip
    assert "localhost cannot be reached: " in said
    amy.run(*trusting, fingerprint)
    assert "is proved" in amy.run("db", "backup", "shop")
    assert [(one["kind"], one["state"]) for one in listed(amy)] == [("full", "proved")]
    before = listed(amy)
    # full: the cause is named, and what was made stays
    box.exec(["sh", "-c", "head -c 99M /dev/zero > /srv/backups/full || true"])
    said = amy.run("db", "backup", "shop", "--full", status=Exit.FAILURE)
    assert "The backups cannot be kept on localhost: " in said
    box.exec(["rm", "/srv/backups/full"])
    assert listed(amy)[:1] == before
    assert "is proved" in amy.run("db", "backup", "shop")
    amy.run("db", "restore", "shop")
    count = amy.run("db", "psql", "shop", "--name", "shop-restored", "--", "-XqAt", "-c",
                    "SELECT count(*) FROM orders")  # fmt: skip
    assert count.strip() == "20"


SUM = "SELECT count(*) || ' ' || md5(string_agg(id::text, ',' ORDER BY id)) FROM orders"


@pytest.fixture(scope="module")
def second(
    module_boxes: Boxes, server_image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Person:
    """An admin of another server, with nothing of the first one, and an app of the same name."""
    there = Server(module_boxes(None, server_image), tmp_path_factory.mktemp("second"))
    bea = there.admin("bea")
    bea.run("load", "shop")
    bea.run("db", "create", "shop")
    return bea


def restored_there(
    amy: Person, place: tuple[str, ...], secrets: str, second: Person, elsewhere: tuple[str, ...]
) -> None:
    """Back up to a place, and restore on the second server: all of it, and up to a second."""

    def ask(person: Person, statement: str, database: str = "shop") -> str:
        words = ("db", "psql", "shop", "--name", database, "--", "-XqAt", "-c", statement)
        return person.run(*words).strip()

    read = ("--stdin",) if secrets else ()
    said = amy.run("db", "repository", *place, *read, stdin=secrets)
    passphrase = said.partition("passphrase=")[2].split()[0]
    amy.run("db", "backup", "shop")
    ask(amy, "INSERT INTO orders SELECT generate_series(1000, 1999)")
    moment, then = ask(amy, "SELECT clock_timestamp()"), ask(amy, SUM)
    ask(amy, "SELECT pg_sleep(1); DELETE FROM orders WHERE id > 1500")
    assert "is proved" in amy.run("db", "backup", "shop")
    last = ask(amy, SUM)
    assert last != then

    second.run("db", "repository", *elsewhere, "--stdin",
               stdin=f"{secrets}passphrase={passphrase}\n")  # fmt: skip
    assert [one["kind"] for one in second.json("db", "backups", "shop")] == ["full", "incr"]
    begun = time.monotonic()
    assert "shop-last is restored from" in second.run("db", "restore", "shop", "--as", "shop-last")
    seconds = time.monotonic() - begun
    second.run("db", "restore", "shop", "--to", moment, "--as", "shop-then")
    assert ask(second, SUM, "shop-last") == last
    assert ask(second, SUM, "shop-then") == then
    # the app of that server uses it from then on, and it is backed up to the same place
    second.run("db", "promote", "shop", "--name", "shop-last")
    assert "/shop-last?" in second.run("config", "get", "shop", "DATABASE_URL")
    assert "is proved" in second.run("db", "backup", "shop", "--name", "shop-last")
    assert [one["kind"] for one in amy.json("db", "backups", "shop")] == ["full", "incr"]
    print(f"{place[0]}: restored on a second server in {seconds:.1f} s: {last}")
    second.run("db", "promote", "shop", "--name", "shop")
    for name in ("shop-last", "shop-then"):
        second.run("db", "destroy", "shop", "--name", name, "--confirm", name)


@pytest.mark.skipif(not LONG, reason="boots a second server: `bin/test --long` runs it")
def test_a_second_server_restores_from_a_bucket(amy: Person, s3: S3, second: Person) -> None:
    box = second.server.box
    for one in (box, amy.server.box):  # a new box has made the file of each other again
        one.exec(["sh", "-c", f"echo {PREFIX}1 {HOST} >> /etc/hosts"])
    shutil.copy(amy.server.box.root / "etc/ssl/ca.pem", box.root / "etc/ssl/ca.pem")
    place = (f"{PLACE}-second", *s3.words)
    restored_there(amy, place, s3.secrets(), second, place)


@pytest.mark.skipif(not LONG, reason="boots a second server: `bin/test --long` runs it")
@pytest.mark.skipif(SUITE == "bookworm", reason="Debian 12 has no SFTP: GATLING_BOXES=trixie")
def test_a_second_server_restores_over_sftp(amy: Person, fingerprint: str, second: Person) -> None:
    first = amy.server.box
    first.authorize("backup2", key_of_postgres(second.server))
    rest = ("--key-file", KEY, "--fingerprint", fingerprint)
    restored_there(
        amy, ("sftp://backup2@localhost/srv/backups/second", *rest), "", second,
        (f"sftp://backup2@{first.ip}/srv/backups/second", *rest),
    )  # fmt: skip
