"""Keys and requests for certificates (PKCS #10), and the answers of a CA to them."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gatling import names
from gatling.errors import InvalidInput
from gatling.proxy import x509 as pairs
from gatling.proxy.certificates import covers
from gatling.text import listed as joined

if TYPE_CHECKING:
    from collections.abc import Sequence


def new(domains: Sequence[str]) -> tuple[bytes, bytes]:
    """A new key (ECDSA P-256) and a request for these domains, both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(list(map(general_name, domains))), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return plain, request.public_bytes(serialization.Encoding.PEM)


def general_name(domain: str) -> x509.GeneralName:
    """A domain as certificates name it: an address is a name of another kind."""
    if names.is_address(domain):
        return x509.IPAddress(ipaddress.ip_address(domain))
    return x509.DNSName(domain)


def names_of(request: x509.CertificateSigningRequest) -> list[str]:
    """The names that a request is for, as a CA is asked for them."""
    listed = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = [str(one) for one in listed.get_values_for_type(x509.IPAddress)]
    return listed.get_values_for_type(x509.DNSName) + addresses


def answered(chain: bytes, key: bytes, domains: Sequence[str], now: float) -> pairs.Pair:
    """The certificate that a CA issued for a key; raises InvalidInput for one that cannot serve.

    It must be for that key and for all domains, valid at `now` (Unix time), and signed by a CA
    whose certificate came along.
    """
    if b"PRIVATE KEY-----" in chain:
        raise InvalidInput("The CA answered with a private key.")
    pair = pairs.read(chain + b"\n" + key, now)
    certificate = pair.certificate
    missing = [one for one in domains if not covers(certificate.names, one)]
    if missing:
        raise InvalidInput(f"The CA's certificate is not for {joined(missing)}.")
    if certificate.self_signed or certificate.alone:
        raise InvalidInput("The CA's certificate came without the certificate of its issuer.")
    return pair._replace(certificate=certificate._replace(obtained=True))
