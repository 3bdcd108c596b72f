"""Makes the certificates of a home's own authority, and the authority itself: `cryptography`.

Keys are ECDSA on P-256. An authority is for TLS servers only, has no other authorities below it,
and names the domains and addresses that it may vouch for.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatling.errors import InvalidInput
from gatling.proxy import local_authority, requests
from gatling.proxy.certificates import Certificate, identity
from gatling.proxy.local_authority import Authority

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DAY = 86400
AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 90
EARLIER = 3600
"""Seconds by which a validity begins before now, for clients whose clock is slow."""
LONGEST_NAME = 64
"""Characters of a name in a certificate (RFC 5280, ub-common-name)."""


def create(directory: Path, owner: str, domains: Sequence[str], now: float) -> Authority:
    """Make an authority, keep it in a directory, and return it.

    `owner` is shown to people who look at its certificate. `domains` are those that it may vouch
    for. Raises OSError.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = f"Gatling local authority {secrets.token_hex(4)}"
    begin = int(now) - EARLIER
    end = begin + AUTHORITY_DAYS * DAY
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Gatling"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, owner[:LONGEST_NAME]),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    made = (
        _builder(subject, subject, key, begin, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_constraints(domains), critical=True)
        .sign(key, hashes.SHA256())
    )
    der = made.public_bytes(serialization.Encoding.DER)
    authority = Authority(
        id=identity(der),
        name=name,
        fingerprint=made.fingerprint(hashes.SHA256()).hex(":").upper(),
        domains=tuple(domains),
        not_before=begin,
        not_after=end,
    )
    certificate = made.public_bytes(serialization.Encoding.PEM)
    local_authority.put(directory, authority, certificate.decode(), _pem(key).decode())
    return authority


def issue(directory: Path, domains: Sequence[str], now: float) -> tuple[Certificate, bytes, bytes]:
    """A certificate of the authority in a directory, its chain and its key, as PEM.

    `domains` are within the limits of the authority. Raises OSError, and InvalidInput for an
    authority whose files are damaged.
    """
    issuer, issuer_key = _read(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    begin = max(int(now) - EARLIER, int(issuer.not_valid_before_utc.timestamp()))
    end = min(begin + CERTIFICATE_DAYS * DAY, int(issuer.not_valid_after_utc.timestamp()))
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Gatling")])
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    made = (
        _builder(subject, issuer.subject, key, begin, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False
        )
        .add_extension(
            x509.SubjectAlternativeName(list(map(requests.general_name, domains))), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )
    certificate = Certificate(
        id=identity(made.public_bytes(serialization.Encoding.DER)),
        names=tuple(domains),
        issuer=str(issuer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value),
        not_before=begin,
        not_after=end,
        key="ECDSA P-256",
        self_signed=False,
        alone=False,
        added=now,
        obtained=True,
    )
    return certificate, made.public_bytes(serialization.Encoding.PEM), _pem(key)


def _read(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = (directory / local_authority.CERTIFICATE).read_bytes()
    key = (directory / local_authority.KEY).read_bytes()
    try:
        read = x509.load_pem_x509_certificate(certificate)
        signer = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError):
        signer = None
    if not isinstance(signer, ec.EllipticCurvePrivateKey) or signer.public_key() != (
        read.public_key()
    ):
        raise InvalidInput(
            f"The files of the local authority in {directory} are damaged.",
            hint="`gatling certificates authority --new` replaces it. Trust the new one then.",
        )
    return read, signer


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begin: int, end: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime.fromtimestamp(begin, dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(end, dt.UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _constraints(domains: Sequence[str]) -> x509.NameConstraints:
    """Names of other kinds, such as addresses of mail, are no names of a TLS server."""
    names: list[x509.GeneralName] = [x509.DNSName(one) for one in domains]
    names += [x509.IPAddress(ipaddress.ip_network(one)) for one in local_authority.NETWORKS]
    return x509.NameConstraints(permitted_subtrees=names, excluded_subtrees=None)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
