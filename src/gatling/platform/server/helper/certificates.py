"""Certificates and keys of apps, which only root can read: kept in /etc/gatling/certificates."""

import shutil
import time
from pathlib import Path
from typing import Any

from gatling import names
from gatling.errors import DiskFull
from gatling.platform.server.helper.shapes import Refused, text
from gatling.proxy import certificates

DIRECTORY = Path("/etc/gatling/certificates")
LEAST_BYTES = 4 << 20
"""Room without which no certificate is requested, because it could not be kept."""


def add(request: dict[str, Any], apps: Path) -> dict[str, Any]:
    """Keep a certificate and its key for an app: what it is, and whether it is new.

    It serves once nginx' configuration has been written again. Raises InvalidInput for what a
    browser would not accept, Refused for an app that is not in the directory `apps`.
    """
    from gatling.proxy import x509  # takes a while to load

    name, pem = names.app_name(text(request, "app")), request.get("pem")
    if not isinstance(pem, str):
        raise Refused("pem is not a text")
    if not (apps / name).is_dir():
        raise Refused("there is no such app")
    pair = x509.read(pem.encode("utf-8", "replace"), time.time())
    new = certificates.add(DIRECTORY, name, pair.certificate, pair.chain, pair.key)
    return {"new": new, "certificate": pair.certificate._asdict()}


def request(given: dict[str, Any], apps: Path) -> dict[str, Any]:
    """Make a key for a certificate of an app, and keep it: the request for the CA, as PEM.

    Raises Refused for an app that is not in the directory `apps`, and for other names.
    """
    from gatling.proxy import requests  # takes a while to load

    name, wanted = names.app_name(text(given, "app")), given.get("domains")
    if not isinstance(wanted, list) or not 0 < len(wanted) <= certificates.MAX_NAMES:
        raise Refused("domains is not a short list")
    domains = [names.domain(str(one)) for one in wanted]
    if domains != wanted or len(set(domains)) != len(domains):
        raise Refused("a domain is not written as it should be")
    if not (apps / name).is_dir():
        raise Refused("there is no such app")
    DIRECTORY.mkdir(mode=0o755, exist_ok=True)
    free = shutil.disk_usage(DIRECTORY).free
    if free < LEAST_BYTES:
        raise DiskFull(f"A certificate needs room: {free >> 20} MB are free for {DIRECTORY}.")
    key, asked = requests.new(domains)
    certificates.keep_request(DIRECTORY, name, key, domains)
    return {"request": asked.decode()}


def install(given: dict[str, Any], apps: Path) -> dict[str, Any]:
    """Keep the certificate that a CA issued for the last request of an app, with its key.

    It serves once nginx' configuration has been written again. Raises InvalidInput for a chain
    that cannot serve; then the key of the request is removed.
    """
    from gatling.proxy import requests  # takes a while to load

    name, chain = names.app_name(text(given, "app")), given.get("chain")
    if not isinstance(chain, str):
        raise Refused("chain is not a text")
    asked = certificates.requested(DIRECTORY, name)
    if asked is None or not (apps / name).is_dir():
        raise Refused("nothing has been requested")
    try:
        pair = requests.answered(chain.encode("utf-8", "replace"), *asked, time.time())
        new = certificates.add(DIRECTORY, name, pair.certificate, pair.chain, pair.key)
    finally:
        certificates.forget_request(DIRECTORY, name)
    return {"new": new, "certificate": pair.certificate._asdict()}


def change(request: dict[str, Any]) -> dict[str, Any]:
    """Take a certificate out of nginx' next configuration (`retired`), or back into it (`kept`).

    With `removed` all retired ones go, with their keys: no configuration may name them any more.
    """
    name, to = names.app_name(text(request, "app")), text(request, "to")
    if to == "removed":
        certificates.remove_retired(DIRECTORY, name)
    elif to in ("retired", "kept"):
        which = text(request, "certificate")
        certificates.retire(DIRECTORY, name, which, retired=to == "retired")
    else:
        raise Refused("to is not one of its words")
    return {}


def copy(request: dict[str, Any], apps: Path) -> dict[str, Any]:
    """Keep a certificate of the app `source` for another app as well; whether that is new."""
    name, source = names.app_name(text(request, "app")), names.app_name(text(request, "source"))
    if not (apps / name).is_dir():
        raise Refused("there is no such app")
    return {"new": certificates.copy(DIRECTORY, source, name, text(request, "certificate"))}


def forget(name: str) -> None:
    """Remove all certificates of an app that is removed."""
    certificates.remove_all(DIRECTORY, name)
