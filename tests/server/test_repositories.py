"""Backups of a server's databases on other machines: S3 over TLS, and SFTP to a real sshd.

pgBackRest of Debian 12 has no SFTP. GATLING_BOXES=trixie makes boxes of Debian 13.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from gatling.platform.server import cluster_units as places
from tests.home import s3 as servers
from tests.server.image import SUITE
from tests.server.network import PREFIX
from tests.server.server import download

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.home.s3 import S3
    from tests.server.server import Person, Server

HOST = "s3.example.com"
PLACE = "s3://backups/gatling"
KEY = "/var/lib/postgresql/.ssh/id_ed25519"


@pytest.fixture(scope="module")
def amy(server: Server) -> Person:
    """An admin, and an app with a database."""
    download(server.box, "postgresql", "pgbackrest")
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
    passphrase = said.partition("passphrase=")[2].strip()
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


def test_another_machine_over_sftp(server: Server, amy: Person) -> None:
    """The machine's own sshd stands for it."""
    box = server.box
    for words in (
        ["useradd", "--create-home", "backup2"],
        ["install", "-d", "-o", "backup2", "-m", "700", "/home/backup2/.ssh", "/srv/backups"],
        ["runuser", "-u", "postgres", "--", "mkdir", "-p", "-m", "700", "/var/lib/postgresql/.ssh"],
        [
            "runuser",
            "-u",
            "postgres",
            "--",
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-f",
            KEY,
        ],
        [
            "install",
            "-o",
            "backup2",
            "-m",
            "600",
            f"{KEY}.pub",
            "/home/backup2/.ssh/authorized_keys",
        ],
        ["mount", "-t", "tmpfs", "-o", "size=100m", "none", "/srv/backups"],
        ["chown", "backup2", "/srv/backups"],
    ):
        box.exec(words)
    keys = box.exec(["sh", "-c", "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"]).stdout
    fingerprint = keys.split()[1]
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
