"""Clients of a home that serves HTTPS, which trust its authority."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from tests.secured import wrapped

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import World


def tls_port(world: World) -> int:
    """The last one of those that the apps of this home may have."""
    return world.port - 1


def authority(world: World) -> Path:
    """The certificate of the home's authority."""
    return world.home / "authority/certificate.pem"


def connect(world: World, host: str, trusted: str | None = None) -> ssl.SSLSocket:
    """A connection of a client that trusts this authority alone; the home's by the strict rules."""
    context = ssl.create_default_context(cadata=trusted or authority(world).read_text())
    if trusted is None:
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    raw = socket.create_connection(("127.0.0.1", tls_port(world)), timeout=10)
    return wrapped(raw, context, host)
