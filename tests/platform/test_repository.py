"""Places of backups elsewhere, their options, and pgBackRest's errors in words: pure."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import InvalidInput
from gatling.platform.postgres import pgbackrest, repository
from gatling.platform.postgres.repository import Repository

if TYPE_CHECKING:
    from pathlib import Path

SECRET, PASSPHRASE = "se/cr+et", "correct-horse"
BUCKET = Repository(
    "s3", "s3.example.com", 443, "/gatling", "backups", "eu-1", key="AKIA", key_secret=SECRET,
    passphrase=PASSPHRASE,
)  # fmt: skip
NAS = Repository(
    "sftp", "nas.example.com", 22, "/backups", user="backup", fingerprint="ab" * 32,
    key_file="/var/lib/postgresql/.ssh/id_ed25519", passphrase=PASSPHRASE,
)  # fmt: skip


@pytest.mark.parametrize("one", [BUCKET, NAS], ids=["s3", "sftp"])
def test_options_are_lines_and_variables(one: Repository, tmp_path: Path) -> None:
    assert repository.checked(one) == one
    options = one.options()
    assert options["repo1-cipher-type"] == "aes-256-cbc"
    text = pgbackrest.configuration("shop.1.7", "/data", "/sockets", "/local", options)
    assert "repo1-cipher-pass=correct-horse\n" in text
    assert text.count("repo1-path=") == 1
    assert "/local/.lock" in text
    assert one.environment()["PGBACKREST_REPO1_CIPHER_PASS"] == PASSPHRASE
    file = tmp_path / "repository.json"
    file.write_text(repository.text(one))
    assert repository.load(str(file)) == one
    assert "horse" not in json.dumps(dataclasses.asdict(one.public))
    assert "cr+et" not in json.dumps(dataclasses.asdict(one.public))
    plain = dataclasses.replace(one, passphrase="")
    assert not [name for name in plain.options() if "cipher" in name]


def test_the_directory_of_this_machine(tmp_path: Path) -> None:
    one = repository.load(str(tmp_path / "none"))
    assert (one.kind, one.is_remote, one.url, one.options()) == ("directory", False, "", {})
    sealed = Repository(passphrase=PASSPHRASE, encrypted=True)
    assert repository.checked(sealed) == sealed
    assert not sealed.is_same_place(one)
    assert (sealed.is_remote, sealed.is_usual, one.is_usual) == (False, False, True)
    assert sealed.options("/local")["repo1-path"] == "/local/encrypted"
    for wrong in ({"passphrase": ""}, {"passphrase": "short"}, {"encrypted": False}):
        with pytest.raises(InvalidInput):
            repository.checked(dataclasses.replace(sealed, **wrong))
    assert "repo1-path=/local\n" in pgbackrest.configuration("shop.1.7", "/d", "/s", "/local", {})


@pytest.mark.parametrize("wrong", [
    {"host": "a b"}, {"host": ""}, {"host": "-x"}, {"host": "x\nrepo1-path=/"}, {"port": 0},
    {"port": 99999}, {"port": "443"}, {"path": "gatling"}, {"path": "/a/../b"}, {"path": "/"},
    {"path": "/a b"}, {"bucket": "A"}, {"bucket": "a/b"}, {"region": ""}, {"region": "a\nb"},
    {"key": ""}, {"key_secret": "a b"}, {"key_secret": "x\n"}, {"passphrase": "short"},
    {"passphrase": "with a blank in it"}, {"passphrase": "x" * 256}, {"ca_file": "ca.pem"},
    {"kind": "gcs"}, {"kind": 1}, {"other": "x"}, {"path_style": 1},
])  # fmt: skip
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        repository.parse(dataclasses.asdict(BUCKET) | wrong)


@pytest.mark.parametrize("wrong", [
    {"user": ""}, {"user": "a b"}, {"key_file": "id"}, {"key_file": "/a/../b"},
    {"fingerprint": "SHA256:x"}, {"fingerprint": "AB" * 32},
])  # fmt: skip
def test_settings_of_sftp_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        repository.parse(dataclasses.asdict(NAS) | wrong)


def test_urls() -> None:
    found = repository.from_url("s3://backups")
    assert (found.bucket, found.path) == ("backups", "/gatling")
    found = repository.from_url("sftp://me@nas:2222/b/")
    assert (found.user, found.host, found.port, found.path) == ("me", "nas", 2222, "/b")
    assert repository.from_url("directory") == Repository()
    for wrong in ("", "x", "s3:", "sftp://nas/b", "sftp://me:pw@nas/b", "s3://b/x#y", "ftp://b/x",
                  "sftp://me@nas:x/b", "s3://b:443/x"):  # fmt: skip
        with pytest.raises(InvalidInput):
            repository.checked(repository.from_url(wrong))
    assert repository.endpoint("https://s3.example.com") == ("s3.example.com", 443)
    assert repository.endpoint("minio:9000") == ("minio", 9000)
    for wrong in ("", "a b", "x:y", "x:123456", "x/y"):
        with pytest.raises(InvalidInput):
            repository.endpoint(wrong)
    text = "SHA256:uNiVztksCsDhcc0u9e8BrrbJTBv94yDTjw8MRFVHXME"
    assert len(repository.fingerprint(text)) == 64
    for wrong in ("", "MD5:aa:bb", "SHA256:", text[:-2], text + "!"):
        with pytest.raises(InvalidInput):
            repository.fingerprint(wrong)


REFUSED = """\
ERROR: [039]: HTTP request failed with 403 (Forbidden):
       *** Response Content ***:
       <Error><Code>AccessDenied</Code><Message>No</Message></Error>
"""


@pytest.mark.parametrize(("said", "words"), [
    (REFUSED, "s3.example.com refuses access to s3://backups/gatling (AccessDenied)."),
    (REFUSED.replace("AccessDenied", "NoSuchBucket").replace("403", "404"),
     "s3.example.com has no bucket backups."),
    (REFUSED.replace("403", "507").replace("AccessDenied", "XMinioStorageFull"),
     "s3.example.com answered with the HTTP status 507 (XMinioStorageFull)."),
    ("[HostConnectError] unable to connect to 's3.example.com:443': [111] Connection refused",
     ("s3.example.com cannot be reached: unable to connect to 's3.example.com:443': [111]"
      " Connection refused.")),
    ("ERROR: [095]: unable to verify certificate presented by 's3.example.com:443': [20] x",
     ("The backups cannot be kept on s3.example.com: unable to verify certificate presented by"
      " 's3.example.com:443': [20] x.")),
    ("[FormatError] unable to load info file '/gatling/backup/shop.1.7/backup.info':",
     "The backups in s3://backups/gatling cannot be decrypted."),
    ("ERROR: [095]: unable to flush", "The backups in s3://backups/gatling cannot be decrypted."),
])  # fmt: skip
def test_errors_in_words(said: str, words: str) -> None:
    found = repository.explained(said, BUCKET)
    assert found is not None
    assert found.what == words
    assert repository.explained(said, Repository()) is None


def test_other_errors_are_left_alone() -> None:
    assert repository.explained("something else", BUCKET) is None
    assert pgbackrest.version("pgBackRest 2.55.1") == (2, 55)
    assert pgbackrest.version("x") == (0, 0)
