"""A certificate authority for tests: certificates of any kind, good and bad."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import (
        CertificateIssuerPrivateKeyTypes,
        PrivateKeyTypes,
    )
    from cryptography.x509.oid import ObjectIdentifier

NOW = dt.datetime.now(dt.UTC)
_SIGNS = x509.KeyUsage(
    key_cert_sign=True, crl_sign=True, digital_signature=True, content_commitment=False,
    key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
    decipher_only=False,
)  # fmt: skip


@dataclass(frozen=True)
class Issued:
    """A certificate and the key that it is for."""

    certificate: x509.Certificate
    key: PrivateKeyTypes

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def key_pem(self) -> str:
        return key_pem(self.key)

    @property
    def both(self) -> str:
        return self.pem + self.key_pem


def key_pem(key: PrivateKeyTypes, passphrase: bytes = b"") -> str:
    how: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        how = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how
    ).decode()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(
    *domains: str,
    name: str = "",
    by: Issued | None = None,
    key: PrivateKeyTypes | None = None,
    days: tuple[float, float] = (-1, 90),
    authority: bool = False,
    usage: ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
) -> Issued:
    """A certificate for domains (or IP addresses), signed by its own key or by an authority's."""
    mine = key or new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or "test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(mine.public_key())  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + dt.timedelta(days=days[0]))
        .not_valid_after(NOW + dt.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if domains:
        listed = [
            x509.IPAddress(ipaddress.ip_address(one))
            if one[0].isdigit() or ":" in one
            else x509.DNSName(one)
            for one in domains
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(listed), critical=False)
    if usage and not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    # what clients require that are as strict as Python 3.13's (RFC 5280, section 4.2.1)
    own = x509.SubjectKeyIdentifier.from_public_key(mine.public_key())  # type: ignore[arg-type]
    builder = builder.add_extension(own, critical=False)
    if by:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())  # type: ignore[arg-type]
        builder = builder.add_extension(issuer, critical=False)
    if authority:
        builder = builder.add_extension(_SIGNS, critical=True)
    signer: CertificateIssuerPrivateKeyTypes = by.key if by else mine  # type: ignore[assignment]
    return Issued(builder.sign(signer, hashes.SHA256()), mine)


ROOT = certificate(name="Test Root", authority=True)
INTERMEDIATE = certificate(name="Test CA", by=ROOT, authority=True)
