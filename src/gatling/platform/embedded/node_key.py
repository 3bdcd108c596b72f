"""A key that the kernel requires of each connection to a node: TCP-MD5, tcp(7) and RFC 2385.

Every user of the machine reaches a node on loopback. Erlang makes an atom of the name in each
handshake before it looks at the cookie, and the cookie itself is in command lines. With a key on
its socket the kernel drops all segments that are not signed with it, so Erlang never sees them.

The key is in a file for the user alone, which the node reads as one more configuration. Linux needs
CONFIG_TCP_MD5SIG, which Debian's kernels have, and no privilege.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import socket
import struct
from typing import TYPE_CHECKING

from gatling import files
from gatling.cleanup import finally_

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAME = "node.config"
KEY_BYTES = 32
TCP_MD5SIG_EXT = 32
_PREFIX_IS_GIVEN = 1
_LOOPBACK, _LOOPBACK_BITS = "127.0.0.0", 8
_MOST = 80
"""TCP_MD5SIG_MAXKEYLEN of linux/tcp.h."""
_KEY = re.compile(r"signed with ([0-9a-f]+)\.")


def option(key: bytes) -> tuple[int, int, bytes]:
    """The option that has the kernel require this key of all peers on loopback."""
    return socket.IPPROTO_TCP, TCP_MD5SIG_EXT, _value(key)


def _value(key: bytes) -> bytes:
    """See linux/tcp.h, struct tcp_md5sig."""
    address = struct.pack("=H2x4s", socket.AF_INET, socket.inet_aton(_LOOPBACK)).ljust(128, b"\0")
    head = struct.pack("=BBHi", _PREFIX_IS_GIVEN, _LOOPBACK_BITS, len(key), 0)
    return address + head + key.ljust(_MOST, b"\0")


def config(key: bytes) -> str:
    """The configuration of a node whose distribution has this key on all of its sockets."""
    value = ",".join(map(str, _value(key)))
    raw = f"[{{raw,{socket.IPPROTO_TCP},{TCP_MD5SIG_EXT},<<{value}>>}}]"
    return (
        f"%% Written by Gatling. Connections to the app's nodes are signed with {key.hex()}.\n"
        f"[{{kernel,[{{inet_dist_listen_options,{raw}}},{{inet_dist_connect_options,{raw}}}]}}].\n"
    )


@functools.cache
def is_supported() -> bool:
    """Whether this kernel signs connections, on loopback as well."""
    probe = option(b"k" * KEY_BYTES)
    with contextlib.suppress(OSError), socket.socket() as listening, socket.socket() as client:
        for one in (listening, client):
            one.settimeout(1)
            one.setsockopt(*probe)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        client.connect(listening.getsockname())
        return True
    return False


def ensure(directory: Path) -> Path | None:
    """The file of an app's key, which is made if necessary; None where there can be none."""
    file = directory / NAME
    if not is_supported():
        return None
    if not file.exists():
        import secrets  # loads OpenSSL, and only a new key needs it

        own = directory / f"{NAME}.{secrets.token_hex(4)}"
        with contextlib.suppress(OSError):  # a full disk, say: a node without a key serves as well
            files.write(own, config(secrets.token_bytes(KEY_BYTES)))
            with finally_(lambda: own.unlink(missing_ok=True)):
                os.link(own, file)  # of two commands one has made it, and both use that
    return file if file.exists() else None


def options(file: Path) -> tuple[tuple[int, int, bytes], ...]:
    """The options of a socket that connects, by a file of `ensure`; none without such a file."""
    try:
        found = _KEY.search(file.read_text())
    except OSError:
        return ()
    return (option(bytes.fromhex(found[1])),) if found else ()


def argument(file: Path) -> str:
    """The flags of a node with this key."""
    return f" -config {shlex.quote(str(file.with_suffix('')))}"


def is_in(command_line: Sequence[str], file: Path) -> bool:
    """Whether a node with this command line has the key of the file."""
    return str(file.with_suffix("")) in command_line
