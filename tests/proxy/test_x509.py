"""Which certificates and keys are taken, and what is said of those that are not."""

from __future__ import annotations

import time

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from gatling.errors import InvalidInput
from gatling.proxy import x509
from tests.proxy.authority import INTERMEDIATE, NOW, ROOT, certificate, key_pem, new_key
from tests.scale import scaled

LEAF = certificate("shop.example", "*.shop.example", "192.0.2.1", by=INTERMEDIATE)
SECRET = "".join(LEAF.key_pem.splitlines()[1:-1])


def read(text: str) -> x509.Pair:
    return x509.read(text.encode(), time.time())


def test_certificate_chain_and_key_in_any_order() -> None:
    parts = [LEAF.pem, INTERMEDIATE.pem, ROOT.pem, LEAF.key_pem]
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 0, 3)):
        pair = read("".join(parts[n] for n in order))
        # the root is nothing that a server sends
        assert pair.chain.decode() == LEAF.pem + INTERMEDIATE.pem
        assert pair.key.decode() == LEAF.key_pem
        found = pair.certificate
        assert found.names == ("shop.example", "*.shop.example", "192.0.2.1")
        assert found.issuer == "Test CA"
        assert found.key == "ECDSA P-256"
        assert (found.self_signed, found.alone) == (False, False)
        assert 89 < (found.not_after - NOW.timestamp()) / 86400 <= 90


def test_what_is_around_them_is_left_out() -> None:
    """As `openssl s_client -showcerts` and editors on other systems have it."""
    text = f"subject=CN = shop\r\nissuer=CN = CA\n{LEAF.both}---\n".replace("\n", "\r\n")
    assert read(text).chain.decode() == LEAF.pem
    params = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert read(params + LEAF.both).key.decode() == LEAF.key_pem


def test_a_certificate_without_that_of_its_issuer() -> None:
    assert read(LEAF.both).certificate.alone
    assert read(certificate("a.example").both).certificate.self_signed
    assert not read(certificate("a.example").both).certificate.alone


def test_keys_that_browsers_take() -> None:
    for key, kind in (
        (rsa.generate_private_key(65537, 2048), "RSA 2048"),
        (ec.generate_private_key(ec.SECP384R1()), "ECDSA P-384"),
    ):
        assert read(certificate("a.example", key=key).both).certificate.key == kind


OTHER = certificate("a.example")
STRANGER = certificate(name="Test CA", authority=True)  # the same name, another key
WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505 (that is what is refused)
LARGE = ec.generate_private_key(ec.SECP521R1())
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "No private key"), ("nonsense", "No private key"), (LEAF.pem, "No private key"),
        (LEAF.key_pem, "No certificate"), (LEAF.both + OTHER.key_pem, "More than one private key"),
        (OTHER.pem + LEAF.key_pem, "does not belong"),
        (INTERMEDIATE.pem + LEAF.key_pem, "does not belong"),
        (LEAF.pem + key_pem(LEAF.key, b"word"), "has a passphrase"),
        (LEAF.pem + LEAF.key_pem.replace(SECRET[9:30], "A" * 21), "cannot be read"),
        (LEAF.pem.replace("M", "N", 1) + LEAF.key_pem, "damaged"),
        (LEAF.pem * 11 + LEAF.key_pem, "More than 10"),
        (LEAF.both + STRANGER.pem, "does not bear the signature"),
        ("x" * (x509.MAX_PEM + 1), "more than 256 KiB"),
        (certificate("a.example", days=(-9, -1)).both, "expired on"),
        (certificate("a.example", days=(2, 9)).both, "is not valid before"),
        (certificate().both, "lists no domain"),
        (certificate("a.example", usage=CLIENT).both, "not one for servers"),
        (certificate("a.example", key=WEAK).both, "1024 bits"),
        (certificate("a.example", key=LARGE).both, "of this kind"),
        (LEAF.pem + key_pem(ed25519.Ed25519PrivateKey.generate()), "of this kind"),
        # a short one is made in a moment
        (LEAF.pem + key_pem(dsa.generate_private_key(1024)), "of this kind"),  # noqa: S505
    ],
)  # fmt: skip
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        read(text)
    shown = f"{caught.value.what} {caught.value.hint}"
    assert SECRET[:20] not in shown
    assert "word" not in shown


@settings(max_examples=scaled(60, 500))
@given(st.data())
def test_whatever_is_damaged_is_refused_or_right(data: st.DataObject) -> None:
    text = bytearray((LEAF.both + INTERMEDIATE.pem).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        pair = x509.read(bytes(text), time.time())
    except InvalidInput:
        return
    # what nobody's signature came along for cannot be told from what was meant
    assert pair.certificate.alone or pair.chain.decode().startswith(LEAF.pem)
    assert pair.key.decode() == LEAF.key_pem


def test_an_authoritys_key_is_none_of_a_server() -> None:
    lone = certificate("a.example", by=INTERMEDIATE, key=new_key())
    with pytest.raises(InvalidInput, match="does not belong"):
        read(lone.pem + INTERMEDIATE.key_pem)


def test_a_name_longer_than_a_domain_is_passed_over_at_once() -> None:
    hostile = certificate("a" * 120_000, "shop.example")
    began = time.process_time()
    assert read(hostile.both).certificate.names == ("shop.example",)
    assert time.process_time() - began < 1
