"""Certificates on the disk: whole or not at all, and which of them serves which domain."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from gatling.proxy import certificates, x509
from gatling.proxy.certificates import Certificate, chosen, covers
from tests.proxy.authority import INTERMEDIATE, certificate

if TYPE_CHECKING:
    from pathlib import Path


def known(*names: str, added: float = 0, not_after: int = 100, number: int = 0) -> Certificate:
    return Certificate(
        id=f"{number:032x}", names=names, issuer="CA", not_before=0, not_after=not_after,
        key="ECDSA P-256", self_signed=False, alone=False, added=added,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("names", "domain", "covered"),
    [
        (["shop.example"], "shop.example", True), (["shop.example"], "www.shop.example", False),
        (["*.shop.example"], "www.shop.example", True), (["*.shop.example"], "shop.example", False),
        (["*.shop.example"], "a.www.shop.example", False),
        (["*.shop.example"], "*.shop.example", True), (["*.example"], "*.shop.example", False),
        (["www.shop.example"], "*.shop.example", False), (["*."], "localhost", False),
        (["192.0.2.1"], "shop.example", False), ([], "shop.example", False),
    ],
)  # fmt: skip
def test_what_a_certificate_is_for(names: list[str], domain: str, *, covered: bool) -> None:
    assert covers(names, domain) is covered


def test_the_one_added_last_serves_unless_it_has_expired() -> None:
    old = known("a.example", "b.example", added=1, not_after=900, number=1)
    new = known("a.example", added=2, not_after=50, number=2)
    domains = ("a.example", "b.example", "c.example")
    assert chosen([old, new], domains, 10) == {"a.example": new, "b.example": old}
    assert chosen([old, new], domains, 60) == {"a.example": old, "b.example": old}
    assert chosen([new], domains, 60) == {"a.example": new}


def test_they_are_kept_whole_and_their_keys_closed(tmp_path: Path) -> None:
    issued = certificate("shop.example", by=INTERMEDIATE)
    pair = x509.read((issued.both + INTERMEDIATE.pem).encode(), time.time())
    directory = tmp_path / "kept"
    assert certificates.stored(directory, "shop") == []
    assert certificates.add(directory, "shop", pair.certificate, pair.chain, pair.key)
    assert not certificates.add(directory, "shop", pair.certificate, pair.chain, pair.key)
    assert certificates.stored(directory, "shop") == [pair.certificate]
    assert certificates.stored(directory, "blog") == []
    place = directory / "shop" / certificates.identity(issued.der)
    assert (place / "key.pem").read_bytes() == pair.key
    assert (place / "chain.pem").read_bytes() == pair.chain
    assert (place / "key.pem").stat().st_mode & 0o777 == 0o600
    assert place.stat().st_mode & 0o777 == 0o755


def test_one_is_taken_out_of_use_before_it_goes(tmp_path: Path) -> None:
    pairs = [x509.read(certificate("shop.example").both.encode(), now) for now in
             (time.time(), time.time() + 1)]  # fmt: skip
    for pair in pairs:
        certificates.add(tmp_path, "shop", pair.certificate, pair.chain, pair.key)
    old, new = (pair.certificate for pair in pairs)
    assert certificates.stored(tmp_path, "shop") == [new, old]
    certificates.retire(tmp_path, "shop", new.id, retired=True)
    assert certificates.stored(tmp_path, "shop") == [old]
    certificates.retire(tmp_path, "shop", new.id, retired=False)
    assert certificates.stored(tmp_path, "shop") == [new, old]
    certificates.retire(tmp_path, "shop", old.id, retired=True)
    certificates.remove_retired(tmp_path, "shop")
    assert [entry.name for entry in (tmp_path / "shop").iterdir()] == [new.id]
    # one that is retired can be given again
    certificates.retire(tmp_path, "shop", new.id, retired=True)
    assert certificates.add(tmp_path, "shop", new, pairs[1].chain, pairs[1].key)
    assert certificates.stored(tmp_path, "shop") == [new]
    certificates.remove_all(tmp_path, "shop")
    certificates.remove_all(tmp_path, "shop")
    assert certificates.stored(tmp_path, "shop") == []


@pytest.mark.parametrize("which", ["../../etc", "", "x" * 32, "." * 32])
def test_nothing_else_is_touched(tmp_path: Path, which: str) -> None:
    (tmp_path / "shop").mkdir()
    certificates.retire(tmp_path, "shop", which, retired=True)
    assert list(tmp_path.rglob("*")) == [tmp_path / "shop"]


def test_what_a_killed_command_left_is_in_nobodys_way(tmp_path: Path) -> None:
    pair = x509.read(certificate("shop.example").both.encode(), time.time())
    left = tmp_path / "shop" / f".{pair.certificate.id}.new"
    left.mkdir(parents=True)
    (left / "key.pem").write_text("half")
    assert certificates.stored(tmp_path, "shop") == []
    assert certificates.add(tmp_path, "shop", pair.certificate, pair.chain, pair.key)
    assert not left.exists()


def test_keys_that_killed_commands_left_are_removed_after_a_while(tmp_path: Path) -> None:
    certificates.keep_request(tmp_path, "shop", b"key", ["shop.example"])
    place = tmp_path / "shop"
    for name in (f".{'a' * 32}.new", ".requested.new", "operators-own"):
        (place / name).mkdir()
        (place / name / "key.pem").write_bytes(b"key")
    before = sorted(place.iterdir())
    assert not certificates.has_leftovers(tmp_path, "shop"), "somebody may work on them"
    certificates.remove_retired(tmp_path, "shop")
    assert sorted(place.iterdir()) == before
    for one in before:
        os.utime(one, (time.time() - 4000,) * 2)
    assert certificates.has_leftovers(tmp_path, "shop")
    certificates.remove_retired(tmp_path, "shop")
    assert [one.name for one in place.iterdir()] == ["operators-own"]
    assert not certificates.has_leftovers(tmp_path, "shop")
    assert not certificates.has_leftovers(tmp_path, "other")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = x509.read(certificate("shop.example").both.encode(), time.time())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(certificates, "_write", full)
    with pytest.raises(OSError, match="No space"):
        certificates.add(tmp_path, "shop", pair.certificate, pair.chain, pair.key)
    assert list((tmp_path / "shop").iterdir()) == []
    shutil.rmtree(tmp_path / "shop")


def test_the_key_of_a_request_is_kept_closed_and_replaced(tmp_path: Path) -> None:
    assert certificates.requested(tmp_path, "shop") is None
    certificates.keep_request(tmp_path, "shop", b"one", ["a.example"])
    certificates.keep_request(tmp_path, "shop", b"two", ["a.example", "b.example"])
    assert certificates.requested(tmp_path, "shop") == (b"two", ("a.example", "b.example"))
    (place,) = (tmp_path / "shop").iterdir()
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / "key.pem").stat().st_mode & 0o777 == 0o600
    assert certificates.stored(tmp_path, "shop") == []
    certificates.forget_request(tmp_path, "shop")
    certificates.forget_request(tmp_path, "shop")
    assert list((tmp_path / "shop").iterdir()) == []


def test_certificates_of_before_gatling_obtained_any_are_read(tmp_path: Path) -> None:
    pair = x509.read(certificate("shop.example").both.encode(), time.time())
    certificates.add(tmp_path, "shop", pair.certificate, pair.chain, pair.key)
    about = tmp_path / "shop" / pair.certificate.id / "about.json"
    about.write_text(about.read_text().replace(', "obtained": false', ""))
    assert certificates.stored(tmp_path, "shop") == [pair.certificate]


def test_remains_of_killed_commands_go_with_the_retired(tmp_path: Path) -> None:
    pair = x509.read(certificate("shop.example").both.encode(), time.time())
    certificates.add(tmp_path, "shop", pair.certificate, pair.chain, pair.key)
    place = tmp_path / "shop"
    for name, age in ((".0f.gone", 0), (".0f.new", 7200), (".0e.new", 60), (".requested.new", 7200),
                      (".requested", 60), ("else", 7200)):  # fmt: skip
        (place / name).mkdir()
        (place / name / "key.pem").touch()
        os.utime(place / name, (time.time() - age,) * 2)
    certificates.remove_retired(tmp_path, "shop")
    left = sorted(entry.name for entry in place.iterdir())
    assert left == sorted([".0e.new", ".requested", "else", pair.certificate.id])


def test_one_is_copied_to_another_app(tmp_path: Path) -> None:
    pair = x509.read(certificate("shop.example").both.encode(), time.time())
    certificates.add(tmp_path, "shop", pair.certificate, pair.chain, pair.key)
    assert certificates.copy(tmp_path, "shop", "blog", pair.certificate.id)
    assert not certificates.copy(tmp_path, "shop", "blog", pair.certificate.id)
    certificates.remove_all(tmp_path, "shop")
    assert certificates.stored(tmp_path, "blog") == [pair.certificate]
    key = tmp_path / "blog" / pair.certificate.id / "key.pem"
    assert key.read_bytes() == pair.key
    assert key.stat().st_mode & 0o777 == 0o600
    for other in ("0f" * 16, "../../etc", ""):
        with pytest.raises(FileNotFoundError):
            certificates.copy(tmp_path, "blog", "shop", other)
