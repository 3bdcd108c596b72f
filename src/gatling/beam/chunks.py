"""A few chunks of a compiled module's file, read without a node.

Source: the Erlang documentation of beam_lib, and the emulator's `beam_file.c`. Since OTP 28 the
number of atoms is negative and their lengths are compact integers.
"""

from __future__ import annotations

import struct
import zlib

_GZIP = b"\x1f\x8b"
MAX_BYTES = 64 << 20


def atoms(beam: bytes) -> frozenset[str]:
    """All atoms that a module names, functions and modules that it calls included.

    Empty for what is not a compiled module.
    """
    try:
        table = _chunk(_unpacked(beam), b"AtU8")
        if table is None:
            return frozenset()
        (count,) = struct.unpack_from(">i", table)
        return frozenset(_compact(table) if count < 0 else _plain(table))
    except (struct.error, IndexError, zlib.error, OSError, EOFError):
        return frozenset()


def _unpacked(beam: bytes) -> bytes:
    """A module may be compressed as a whole (`strip_beams` with `compress`)."""
    if not beam.startswith(_GZIP):
        return beam
    unpacker = zlib.decompressobj(wbits=31)
    return unpacker.decompress(beam, MAX_BYTES)


def _chunk(beam: bytes, wanted: bytes) -> bytes | None:
    """A chunk of an IFF file: `FOR1`, its size, `BEAM`, and chunks of name, size and content."""
    if beam[:4] != b"FOR1" or beam[8:12] != b"BEAM":
        return None
    at = 12
    while at + 8 <= len(beam):
        name = beam[at : at + 4]
        (size,) = struct.unpack_from(">I", beam, at + 4)
        if name == wanted:
            return beam[at + 8 : at + 8 + size]
        at += 8 + (size + 3) // 4 * 4
    return None


def _plain(table: bytes) -> list[str]:
    found, at = [], 4
    while at < len(table):
        size = table[at]
        found.append(_text(table, at + 1, size))
        at += 1 + size
    return found


def _compact(table: bytes) -> list[str]:
    found, at = [], 4
    while at < len(table):
        if table[at] & 0b1000:  # eleven bits, in this byte and the next
            size = (table[at] >> 5) << 8 | table[at + 1]
            at += 2
        else:
            size = table[at] >> 4
            at += 1
        found.append(_text(table, at, size))
        at += size
    return found


def _text(table: bytes, at: int, size: int) -> str:
    return table[at : at + size].decode("utf-8", "replace")
