"""Erlang's external term format, as far as the control channel needs it.

Source: the Erlang documentation, "External Term Format" (erl_ext_dist). Atoms become `Atom`,
binaries bytes, lists lists (a string list of bytes too), tuples tuples, maps dicts. Pids,
references and ports are kept as they came, to be sent back; all other terms are refused.

The decoded data comes from an app, so a term costs no more memory than its budget allows: an empty
list is one byte in a message and 64 in Python. Keys of maps are atoms or binaries, whose hashes
nobody outside of this process can predict.
"""

from __future__ import annotations

import struct
from typing import Any

VERSION = 131

MAX_ELEMENTS = 100_000
"""Elements of a term, itself included, unless the caller sets another number."""
MAX_DEPTH = 64
MAX_ATOM_BYTES = 4 * 255
"""An atom has at most 255 characters, and UTF-8 at most four bytes for each."""

_NEW_FLOAT, _INTEGER, _ATOM, _LARGE_TUPLE, _NIL, _LIST, _BINARY = 70, 98, 100, 105, 106, 108, 109
_SMALL_BIG, _SMALL_ATOM, _MAP, _ATOM_UTF8, _SMALL_ATOM_UTF8 = 110, 115, 116, 118, 119


class Atom(str):
    """An atom; equal to the text of its name."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Atom({str.__repr__(self)})"


class Opaque:
    """A pid, port, reference or fun, in its encoded form."""

    __slots__ = ("encoded",)

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and other.encoded == self.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __repr__(self) -> str:
        return f"Opaque({self.encoded!r})"


class MalformedTerm(ValueError):
    """Bytes that are not a term, or one of a kind that is not expected here."""


TRUE, FALSE, UNDEFINED = Atom("true"), Atom("false"), Atom("undefined")


def encode(term: Any) -> bytes:
    """A term with the version byte in front; raises MalformedTerm for what has no form here."""
    out = bytearray([VERSION])
    _encode(term, out)
    return bytes(out)


def decode(data: bytes, elements: int = MAX_ELEMENTS) -> Any:
    """The one term in `data`, of at most so many elements; raises MalformedTerm."""
    term, end = decode_first(data, elements)
    if end != len(data):
        raise MalformedTerm(f"{len(data) - end} bytes after the term")
    return term


def decode_first(data: bytes, elements: int = MAX_ELEMENTS) -> tuple[Any, int]:
    """The first term in `data`, and where it ends; raises MalformedTerm."""
    if not data or data[0] != VERSION:
        raise MalformedTerm("no version byte")
    decoder = _Decoder(data, 1, elements)
    try:
        return decoder.term(0), decoder.at
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise MalformedTerm(f"cut off or damaged: {error}") from None


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
            # in the form that Erlang chooses as well, so that pids compare equal
            if len(name) < 256:
                out += struct.pack(">BB", _SMALL_ATOM_UTF8, len(name)) + name
            else:
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


class _Decoder:
    """Reads one term, and counts what it is made of."""

    def __init__(self, data: bytes, at: int, elements: int) -> None:
        self._data, self.at, self._left = data, at, elements
        self._atoms: dict[bytes, Atom | bool] = {}

    def term(self, depth: int) -> Any:  # noqa: PLR0911, PLR0912 (one for each kind)
        self._count(1)
        if depth > MAX_DEPTH:
            raise MalformedTerm("nested too deeply")
        tag = self._byte()
        match tag:
            case 97:
                return self._byte()
            case 98:
                return self._unpack(">i", 4)
            case 70:
                return self._unpack(">d", 8)
            case 100 | 118:
                return self._atom(self._unpack(">H", 2), tag)
            case 115 | 119:
                return self._atom(self._byte(), tag)
            case 104:
                return tuple(self._many(self._byte(), depth))
            case 105:
                return tuple(self._many(self._unpack(">I", 4), depth))
            case 106:
                return []
            case 107:
                size = self._unpack(">H", 2)
                self._count(size)
                return list(self._bytes(size))
            case 108:
                return self._list(self._unpack(">I", 4), depth)
            case 109:
                return self._bytes(self._unpack(">I", 4))
            case 110:
                return self._integer(self._byte())
            case 116:
                return self._map(self._unpack(">I", 4), depth)
        return self._opaque(tag, depth)

    def _count(self, elements: int) -> None:
        self._left -= elements
        if self._left < 0:
            raise MalformedTerm("more elements than allowed")

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _unpack(self, form: str, size: int) -> Any:
        self.at += size
        return struct.unpack_from(form, self._data, self.at - size)[0]

    def _bytes(self, size: int) -> bytes:
        found = self._data[self.at : self.at + size]
        if len(found) != size:
            raise IndexError("end of data")
        self.at += size
        return found

    def _atom(self, size: int, tag: int) -> Atom | bool:
        if size > MAX_ATOM_BYTES:
            raise MalformedTerm(f"an atom of {size} bytes")
        raw = self._bytes(size)
        known = self._atoms.get(raw)
        if known is None:
            name = raw.decode("latin-1" if tag in (_ATOM, _SMALL_ATOM) else "utf-8")
            known = {"true": True, "false": False}.get(name, Atom(name))
            self._atoms[raw] = known
        return known

    def _many(self, size: int, depth: int) -> list[Any]:
        if size > len(self._data) - self.at:  # each takes a byte at least
            raise IndexError("end of data")
        return [self.term(depth + 1) for _ in range(size)]

    def _list(self, size: int, depth: int) -> list[Any]:
        elements = self._many(size, depth)
        if self._byte() != _NIL:
            raise MalformedTerm("an improper list")
        return elements

    def _map(self, size: int, depth: int) -> dict[Atom | bytes, Any]:
        flat = self._many(2 * size, depth)
        if not all(isinstance(key, (Atom, bytes)) for key in flat[::2]):
            raise MalformedTerm("a map with keys that have no form here")
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def _integer(self, size: int) -> int:
        negative = self._byte()
        value = int.from_bytes(self._bytes(size), "little")
        return -value if negative else value

    def _opaque(self, tag: int, depth: int) -> Opaque:
        """A pid, port, reference, fun: measured, not understood."""
        start = self.at - 1
        match tag:
            case 88 | 120:
                self.term(depth + 1)
                self._bytes(12)
            case 89:
                self.term(depth + 1)
                self._bytes(8)
            case 90:
                words = self._unpack(">H", 2)
                self.term(depth + 1)
                self._bytes(4 + 4 * words)
            case 113:
                for _ in range(3):
                    self.term(depth + 1)
            case 112:
                self._bytes(self._unpack(">I", 4) - 4)  # the size counts itself
            case _:
                raise MalformedTerm(f"a term of kind {tag}")
        return Opaque(self._data[start : self.at])
