"""Erlang's external term format, as far as the control channel needs it.

Source: the Erlang documentation, "External Term Format" (erl_ext_dist). Atoms become `Atom`,
binaries bytes, lists lists (a string list of bytes too), tuples tuples, maps dicts. Pids,
references and ports are kept as they came, to be sent back; what has no use here is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

VERSION = 131

_NEW_FLOAT, _INTEGER, _ATOM, _LARGE_TUPLE, _NIL, _LIST, _BINARY = 70, 98, 100, 105, 106, 108, 109
_SMALL_BIG, _SMALL_ATOM, _MAP, _ATOM_UTF8 = 110, 115, 116, 118


class Atom(str):
    """An atom; equal to the text of its name."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Atom({str.__repr__(self)})"


@dataclass(frozen=True, slots=True)
class Opaque:
    """A pid, port, reference or fun, in its encoded form."""

    encoded: bytes


class MalformedTerm(ValueError):
    """Bytes that are not a term, or one of a kind that is not expected here."""


TRUE, FALSE, UNDEFINED = Atom("true"), Atom("false"), Atom("undefined")


def encode(term: Any) -> bytes:
    """A term with the version byte in front; raises MalformedTerm for what has no form here."""
    out = bytearray([VERSION])
    _encode(term, out)
    return bytes(out)


def decode(data: bytes) -> Any:
    """The one term in `data`; raises MalformedTerm."""
    term, rest = decode_first(data)
    if rest:
        raise MalformedTerm(f"{len(rest)} bytes after the term")
    return term


def decode_first(data: bytes) -> tuple[Any, bytes]:
    """The first term in `data`, and what comes after it; raises MalformedTerm."""
    if not data or data[0] != VERSION:
        raise MalformedTerm("no version byte")
    try:
        term, end = _decode(data, 1)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise MalformedTerm(f"cut off or damaged: {error}") from None
    except TypeError:
        raise MalformedTerm("a map with keys that have no form here") from None
    except RecursionError:
        raise MalformedTerm("nested too deeply") from None
    return term, data[end:]


def _encode(term: Any, out: bytearray) -> None:  # noqa: PLR0912 (one for each kind)
    match term:
        case Opaque():
            out += term.encoded
        case bool():
            _encode(TRUE if term else FALSE, out)
        case None:
            _encode(UNDEFINED, out)
        case Atom():
            name = term.encode()
            out += struct.pack(">BH", _ATOM_UTF8, len(name)) + name
        case str() | bytes():
            raw = term.encode() if isinstance(term, str) else term
            out += struct.pack(">BI", _BINARY, len(raw)) + raw
        case int():
            _encode_integer(term, out)
        case float():
            out += struct.pack(">Bd", _NEW_FLOAT, term)
        case tuple():
            out += struct.pack(">BI", _LARGE_TUPLE, len(term))
            for element in term:
                _encode(element, out)
        case list():
            if term:
                out += struct.pack(">BI", _LIST, len(term))
                for element in term:
                    _encode(element, out)
            out.append(_NIL)
        case dict():
            out += struct.pack(">BI", _MAP, len(term))
            for key, value in term.items():
                _encode(key, out)
                _encode(value, out)
        case _:
            raise MalformedTerm(f"{type(term).__name__} has no form as a term")


def _encode_integer(value: int, out: bytearray) -> None:
    if -(1 << 31) <= value < 1 << 31:
        out += struct.pack(">Bi", _INTEGER, value)
        return
    size = (abs(value).bit_length() + 7) // 8
    if size > 255:
        raise MalformedTerm("an integer of more than 255 bytes")
    out += struct.pack(">BBB", _SMALL_BIG, size, value < 0) + abs(value).to_bytes(size, "little")


def _decode(data: bytes, at: int) -> tuple[Any, int]:  # noqa: PLR0911, PLR0912 (one for each kind)
    tag, at = data[at], at + 1
    match tag:
        case 97:
            return data[at], at + 1
        case 98:
            return struct.unpack_from(">i", data, at)[0], at + 4
        case 70:
            return struct.unpack_from(">d", data, at)[0], at + 8
        case 100 | 118:
            size = struct.unpack_from(">H", data, at)[0]
            return _atom(data, at + 2, size, tag)
        case 115 | 119:
            return _atom(data, at + 1, data[at], tag)
        case 104:
            return _tuple(data, at + 1, data[at])
        case 105:
            return _tuple(data, at + 4, struct.unpack_from(">I", data, at)[0])
        case 106:
            return [], at
        case 107:
            size = struct.unpack_from(">H", data, at)[0]
            return list(_bytes(data, at + 2, size)[0]), at + 2 + size
        case 108:
            return _list(data, at + 4, struct.unpack_from(">I", data, at)[0])
        case 109:
            return _bytes(data, at + 4, struct.unpack_from(">I", data, at)[0])
        case 110:
            return _integer(data, at + 1, data[at])
        case 111:
            return _integer(data, at + 4, struct.unpack_from(">I", data, at)[0])
        case 116:
            return _map(data, at + 4, struct.unpack_from(">I", data, at)[0])
    return _opaque(data, at - 1)


def _bytes(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    found = data[at : at + size]
    if len(found) != size:
        raise IndexError("end of data")
    return found, at + size


def _atom(data: bytes, at: int, size: int, tag: int) -> tuple[Any, int]:
    raw, at = _bytes(data, at, size)
    name = raw.decode("latin-1" if tag in (_ATOM, _SMALL_ATOM) else "utf-8")
    return {"true": True, "false": False}.get(name, Atom(name)), at


def _tuple(data: bytes, at: int, size: int) -> tuple[tuple[Any, ...], int]:
    elements, at = _many(data, at, size)
    return tuple(elements), at


def _list(data: bytes, at: int, size: int) -> tuple[list[Any], int]:
    elements, at = _many(data, at, size)
    if data[at] != _NIL:
        raise MalformedTerm("an improper list")
    return elements, at + 1


def _map(data: bytes, at: int, size: int) -> tuple[dict[Any, Any], int]:
    flat, at = _many(data, at, 2 * size)
    return dict(zip(flat[::2], flat[1::2], strict=True)), at


def _many(data: bytes, at: int, size: int) -> tuple[list[Any], int]:
    if size > len(data) - at:  # each takes a byte at least
        raise IndexError("end of data")
    elements = []
    for _ in range(size):
        element, at = _decode(data, at)
        elements.append(element)
    return elements, at


def _integer(data: bytes, at: int, size: int) -> tuple[int, int]:
    raw, end = _bytes(data, at + 1, size)
    value = int.from_bytes(raw, "little")
    return (-value if data[at] else value), end


def _opaque(data: bytes, at: int) -> tuple[Opaque, int]:
    """A pid, port, reference, fun: measured, not understood."""
    start, tag, at = at, data[at], at + 1
    match tag:
        case 88:
            _, at = _decode(data, at)
            at += 12
        case 89:
            _, at = _decode(data, at)
            at += 8
        case 120:
            _, at = _decode(data, at)
            at += 12
        case 90:
            words = struct.unpack_from(">H", data, at)[0]
            _, at = _decode(data, at + 2)
            at += 4 + 4 * words
        case 113:
            for _ in range(3):
                _, at = _decode(data, at)
        case 112:
            at += struct.unpack_from(">I", data, at)[0]
        case _:
            raise MalformedTerm(f"a term of kind {tag}")
    return Opaque(_bytes(data, start, at - start)[0]), at
