"""Certificates and their keys: what nginx may be given to serve with, and what is known of it.

Only what a browser accepts passes: a certificate for servers with names of its own (RFC 9525; no
browser looks at the common name any more), whose key is RSA or on one of two curves of NIST's, as
the CA/Browser Forum's baseline requirements have it (7.1.3.1).
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatling import names
from gatling.errors import InvalidInput
from gatling.proxy.certificates import Certificate, identity
from gatling.times import day

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

MAX_PEM = 256 << 10
"""Bytes of a certificate, its chain and its key together: far more than any has."""
MAX_CERTIFICATES = 10
LEAST_RSA_BITS = 2048
CURVES = ("secp256r1", "secp384r1")


class Pair(NamedTuple):
    """A certificate that was checked, and what nginx reads of it."""

    certificate: Certificate
    chain: bytes
    """PEM: the certificate first, each one after it is the issuer of the one before."""
    key: bytes
    """PEM, PKCS #8."""


def read(pem: bytes, now: float) -> Pair:
    """The certificate, chain and private key in a text, which may have them in any order.

    `now` is Unix time. Raises InvalidInput, which never shows a part of the text, for whatever a
    browser would not accept now, and for a key that does not belong to one of the certificates.
    """
    if len(pem) > MAX_PEM:
        raise InvalidInput(f"That is more than {MAX_PEM >> 10} KiB, and so no certificate.")
    key = _key(pem)
    found = _certificates(pem)
    public = _public(key)
    leaf = next((one for one in found if _public_of(one) == public), None)
    if leaf is None:
        raise InvalidInput(
            "The private key does not belong to the certificate.",
            hint="Give both of the same order: the key with which the certificate was requested.",
        )
    chain = _chain(leaf, found)
    certificate = _described(leaf, key, now, alone=len(chain) == 1)
    _usable(certificate, leaf, now)
    return Pair(
        certificate,
        b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def names_of(der: bytes) -> tuple[str, ...]:
    """The domains and IP addresses that a certificate lists; none for one that is damaged."""
    try:
        return _names(x509.load_der_x509_certificate(der))
    except (InvalidInput, ValueError):
        return ()


def _key(pem: bytes) -> PrivateKeyTypes:
    blocks = [block for block in _blocks(pem) if block.startswith(b"-----BEGIN ") and b"PRIVATE KEY"
              in block.partition(b"\n")[0]]  # fmt: skip
    if not blocks:
        raise InvalidInput(
            "No private key came along.",
            hint="Give certificate and key in one: `cat fullchain.pem privkey.pem | gatling …`.",
        )
    if len(blocks) > 1:
        raise InvalidInput("More than one private key came along.", hint="Give one.")
    try:
        key = serialization.load_pem_private_key(blocks[0], password=None)
    except TypeError:
        raise InvalidInput(
            "The private key has a passphrase, which nobody would type when nginx starts.",
            hint="`openssl pkey -in privkey.pem -out plain.pem` writes it without.",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput(
            "The private key cannot be read: it is damaged or of no known kind."
        ) from None
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < LEAST_RSA_BITS:
            raise InvalidInput(
                f"The private key has {key.key_size} bits; browsers want {LEAST_RSA_BITS} for RSA."
            )
    elif not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise InvalidInput(
            "Browsers do not accept keys of this kind.",
            hint="Use RSA with 2048 bits or more, or ECDSA on P-256 or P-384.",
        )
    return key


def _certificates(pem: bytes) -> list[x509.Certificate]:
    blocks = [b for b in _blocks(pem) if b.startswith(b"-----BEGIN CERTIFICATE-----")]
    if not blocks:
        raise InvalidInput(
            "No certificate came along.",
            hint="Give certificate and key in one: `cat fullchain.pem privkey.pem | gatling …`.",
        )
    if len(blocks) > MAX_CERTIFICATES:
        raise InvalidInput(f"More than {MAX_CERTIFICATES} certificates came along.")
    try:
        return [x509.load_pem_x509_certificate(block) for block in blocks]
    except ValueError:
        raise InvalidInput("A certificate cannot be read: it is damaged.") from None


def _blocks(pem: bytes) -> list[bytes]:
    """The parts of a text from a BEGIN to the END after it (RFC 7468)."""
    found: list[bytes] = []
    inside: list[bytes] | None = None
    for line in pem.splitlines():
        text = line.strip()
        if text.startswith(b"-----BEGIN "):
            inside = []
        if inside is not None:
            inside.append(text)
            if text.startswith(b"-----END "):
                found.append(b"\n".join(inside) + b"\n")
                inside = None
    return found


def _public(key: PrivateKeyTypes) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _public_of(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, UnsupportedAlgorithm):
        return b""


def _chain(leaf: x509.Certificate, found: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The certificate and its issuers, as far as they came along; a root at the end is left out.

    TLS servers send them in this order, without the root (RFC 8446, section 4.4.2). Raises
    InvalidInput for a signature that is wrong.
    """
    if leaf.issuer == leaf.subject and not _signed(leaf, leaf):
        raise InvalidInput("The certificate is damaged: its signature is wrong.")
    chain = [leaf]
    while (above := _issuer(chain[-1], found)) is not None and above not in chain:
        if above.issuer == above.subject:
            break
        chain.append(above)
    return chain


def _issuer(
    certificate: x509.Certificate, found: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    named = [one for one in found if one.subject == certificate.issuer and one != certificate]
    for one in named:
        if _signed(certificate, one):
            return one
    if named:
        raise InvalidInput(
            "The certificate does not bear the signature of the issuer that came along.",
            hint="One of the two is damaged, or the chain belongs to another certificate.",
        )
    return None


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _described(
    leaf: x509.Certificate, key: PrivateKeyTypes, now: float, *, alone: bool
) -> Certificate:
    if isinstance(key, rsa.RSAPrivateKey):
        kind = f"RSA {key.key_size}"
    else:
        kind = f"ECDSA P-{key.key_size}" if isinstance(key, ec.EllipticCurvePrivateKey) else ""
    self_signed = leaf.issuer == leaf.subject
    return Certificate(
        id=identity(leaf.public_bytes(serialization.Encoding.DER)),
        names=_names(leaf),
        issuer=_issuer_name(leaf),
        not_before=int(leaf.not_valid_before_utc.timestamp()),
        not_after=int(leaf.not_valid_after_utc.timestamp()),
        key=kind,
        self_signed=self_signed,
        alone=alone and not self_signed,
        added=now,
    )


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        listed = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    except ValueError:
        raise InvalidInput("The certificate cannot be read: its extensions are damaged.") from None
    found = []
    for name in listed.get_values_for_type(x509.DNSName):
        if len(name) > names.MAX_DOMAIN:
            continue
        try:
            found.append(names.domain(name))
        except InvalidInput:
            continue  # no app can have it
    addresses = listed.get_values_for_type(x509.IPAddress)
    found += [
        str(one) for one in addresses
        if isinstance(one, ipaddress.IPv4Address | ipaddress.IPv6Address)
    ]  # fmt: skip
    return tuple(found)


def _issuer_name(leaf: x509.Certificate) -> str:
    for oid in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME):
        values = leaf.issuer.get_attributes_for_oid(oid)
        if values:
            return str(values[0].value)[:200]
    return leaf.issuer.rfc4514_string()[:200]


def _usable(certificate: Certificate, leaf: x509.Certificate, now: float) -> None:
    if not certificate.names:
        raise InvalidInput(
            "The certificate lists no domain.",
            hint="Browsers read its alternative names (subjectAltName), not its common name.",
        )
    if certificate.not_after < now:
        raise InvalidInput(f"The certificate expired on {day(certificate.not_after)}.")
    if certificate.not_before > now:
        raise InvalidInput(
            f"The certificate is not valid before {day(certificate.not_before)}.",
            hint="Is this machine's clock right? `timedatectl` shows it.",
        )
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(
        usage
    ):
        raise InvalidInput("The certificate is not one for servers (its extended key usage).")
