"""Erlang distribution between the pods of an app over TLS: their certificate, in a Secret.

Each app has a certificate authority of its own on each cluster, and one certificate that all of its
nodes show. A node accepts another one that shows a certificate of this authority, with the name of
the app's headless Service. So the Secret is the only place of the keys: Gatling reads it there for
its own connections. The key of the authority is not in the pods, whose files follow the Secret
while they run: a renewed certificate needs no restart.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatling.errors import NodeUnreachable
from gatling.platform.kubernetes import objects
from gatling.platform.kubernetes.objects import WEB
from gatling.platform.kubernetes.pods import (
    DISTRIBUTION,
    DISTRIBUTION_FILES,
    distribution_name,
    labels,
)

if TYPE_CHECKING:
    from gatling.platform.kubernetes.api import Api
    from gatling.platform.kubernetes.pods import Object

AUTHORITY_DAYS = 7300
CERTIFICATE_DAYS = 730
RENEWED_DAYS = 365
"""With fewer days left, a certificate is renewed by whatever applies the app's objects next."""
EARLIER = dt.timedelta(hours=1)
"""A validity begins so long before now, for nodes whose clock is slow."""
AUTHORITY, AUTHORITY_KEY = "ca.crt", "ca.key"
CERTIFICATE, KEY, OPTIONS = DISTRIBUTION_FILES[1:]
# An address is not in the certificate, since a pod gets another one each time. So the name of the
# headless Service is compared, whatever address was dialled; all else is as by default.
_OPTIONS = """\
[{{server, [{files}, {{fail_if_no_peer_cert, true}}]}},
 {{client, [{files},
   {{customize_hostname_check,
     [{{match_fun, fun(_, {{dNSName, "{name}"}}) -> true; (_, _) -> false end}}]}}]}}].
"""


def common_name(app: str, namespace: str) -> str:
    """The name in the certificate: that of the headless Service."""
    return objects.nodes_domain(app, namespace)


def ensure(api: Api, app: str) -> None:
    """Apply the Secret of an app, with a new certificate if the one there is due.

    One that is missing or damaged is replaced, with another authority. Raises ClusterFailed.
    """
    now = dt.datetime.now(dt.UTC)
    found = api.find("Secret", distribution_name(app))
    name = common_name(app, api.namespace)
    if found is None or _due(found, name, now):
        api.apply(secret(app, api.namespace, now, found))


def secret(app: str, namespace: str, now: dt.datetime, before: Object | None = None) -> Object:
    """The Secret with a new certificate, of the authority of `before` if that can be used."""
    name = common_name(app, namespace)
    authority, authority_key = _authority(before, now) or _new_authority(app, now)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Gatling")])
    certificate = (
        _builder(subject, authority.subject, key, now, CERTIFICATE_DAYS, authority)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    data = {
        AUTHORITY: _pem(authority), AUTHORITY_KEY: _private(authority_key),
        CERTIFICATE: _pem(certificate), KEY: _private(key),
        OPTIONS: _options(name).encode(),
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": distribution_name(app), "namespace": namespace, "labels": labels(app, WEB),
        },
        "type": "Opaque",
        "data": {file: base64.b64encode(content).decode() for file, content in data.items()},
    }  # fmt: skip


def context(api: Api, app: str) -> ssl.SSLContext:
    """The context of a connection to a node of the app. Raises NodeUnreachable, ClusterFailed."""
    found = api.find("Secret", distribution_name(app))
    try:
        if found is None:
            raise KeyError(app)
        files = {name: _content(found, name) for name in (AUTHORITY, CERTIFICATE, KEY)}
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(cadata=files[AUTHORITY].decode())
        with tempfile.TemporaryDirectory() as directory:  # for its owner alone
            chain = Path(directory, "chain.pem")
            chain.write_bytes(files[KEY] + files[CERTIFICATE])
            made.load_cert_chain(chain)
    except (KeyError, ValueError, ssl.SSLError) as error:
        raise NodeUnreachable(
            f"The Secret {distribution_name(app)} with the certificate of the nodes of {app} is"
            f" missing or damaged. `gatling restart {app}` makes another one."
        ) from error
    return made


def _options(name: str) -> str:
    parts = (
        ("certfile", CERTIFICATE), ("keyfile", KEY), ("cacertfile", AUTHORITY),
    )  # fmt: skip
    files = ", ".join(f'{{{option}, "{DISTRIBUTION}/{file}"}}' for option, file in parts)
    return _OPTIONS.format(files=f"{files}, {{verify, verify_peer}}", name=name)


def _due(found: Object, name: str, now: dt.datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(_content(found, CERTIFICATE))
        authority = x509.load_pem_x509_certificate(_content(found, AUTHORITY))
        key = serialization.load_pem_private_key(_content(found, KEY), None)
        certificate.verify_directly_issued_by(authority)
        whole = certificate.public_key() == key.public_key()
        said = _content(found, OPTIONS).decode() == _options(name)
    except Exception:  # noqa: BLE001 (whatever is wrong with it, it is replaced)
        return True
    left = certificate.not_valid_after_utc - now
    return not (whole and said) or left < dt.timedelta(days=RENEWED_DAYS)


def _authority(
    before: Object | None, now: dt.datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
    """The authority of a Secret, if it is whole, and valid for as long as a new certificate."""
    if before is None:
        return None
    try:
        authority = x509.load_pem_x509_certificate(_content(before, AUTHORITY))
        key = serialization.load_pem_private_key(_content(before, AUTHORITY_KEY), None)
    except (KeyError, ValueError, TypeError):
        return None
    lasts = authority.not_valid_after_utc - now > dt.timedelta(days=CERTIFICATE_DAYS)
    if not lasts or not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    return (authority, key) if key.public_key() == authority.public_key() else None


def _new_authority(
    app: str, now: dt.datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Gatling"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"nodes of {app}"),
    ])  # fmt: skip
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    made = (
        _builder(subject, subject, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return made, key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    days: int,
    authority: x509.Certificate | None = None,
) -> x509.CertificateBuilder:
    signer = authority.public_key() if authority is not None else key.public_key()
    assert isinstance(signer, ec.EllipticCurvePublicKey)  # noqa: S101 (for the type checker)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _content(found: Object, file: str) -> bytes:
    """A file of a Secret; raises KeyError and ValueError."""
    text = (found.get("data") or {})[file]
    if not isinstance(text, str):
        raise ValueError(file)
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(file) from error


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
