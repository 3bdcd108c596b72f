"""The libraries that a program or library of the ELF format asks the dynamic linker for.

Files come from pushed code. `ldd` would run them, so they are only read here, within bounds.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAGIC = b"\x7fELF\x02\x01"
"""An ELF file of 64 bits, little-endian, as on all machines that Erlang has a JIT for."""
_HEADER = struct.Struct("<16xHHIQQQIHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<qQ")
_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_NEEDED, _STRINGS, _RPATH, _RUNPATH = 1, 5, 15, 29
_VERSIONS = 0x6FFFFFFE
_FILE, _SYMBOL = struct.Struct("<HHIII"), struct.Struct("<IHHII")
_MAX_VERSIONS = 4096
_MAX_SEGMENTS = 256
_MAX_DYNAMIC = 1 << 20
_MAX_NAME = 4096


class Linked(NamedTuple):
    """The dynamic section of a file."""

    machine: int
    interpreter: str
    """The dynamic linker's path; empty in a library."""
    needed: tuple[str, ...]
    """The names of the libraries."""
    paths: tuple[str, ...]
    """The directories in which they are looked for first."""
    versions: tuple[tuple[str, str], ...] = ()
    """The versions of symbols that are needed of a library: `("libc.so.6", "GLIBC_2.34")`."""


def linked(opened: int) -> Linked | None:
    """Read an open file; None for a file that is linked to nothing, or that is malformed."""
    try:
        return _linked(opened)
    except (struct.error, UnicodeDecodeError, OverflowError, ValueError, OSError):
        return None


def _linked(opened: int) -> Linked | None:
    start = os.pread(opened, 64, 0)
    if not start.startswith(_MAGIC):
        return None
    _, machine, _, _, offset, _, _, _, size, count = _HEADER.unpack(start[: _HEADER.size])
    if size != _SEGMENT.size or count > _MAX_SEGMENTS:
        return None
    table = os.pread(opened, size * count, offset)
    segments = [_SEGMENT.unpack_from(table, n * size) for n in range(count)]
    interpreter, dynamic = "", b""
    for kind, _, where, _, _, length, _, _ in segments:
        if kind == _INTERPRETER:
            interpreter = _text(os.pread(opened, min(length, _MAX_NAME), where))
        elif kind == _DYNAMIC:
            dynamic = os.pread(opened, min(length, _MAX_DYNAMIC), where)
    entries = [
        _ENTRY.unpack_from(dynamic, at)
        for at in range(0, len(dynamic) - _ENTRY.size + 1, _ENTRY.size)
    ]
    addresses = [value for tag, value in entries if tag == _STRINGS]
    if not addresses:
        return None
    strings = _offset(segments, addresses[0])

    def name(value: int) -> str:
        return _text(os.pread(opened, _MAX_NAME, strings + value))

    needed = tuple(name(value) for tag, value in entries if tag == _NEEDED)
    paths = [
        path for tag, value in entries if tag in {_RPATH, _RUNPATH}
        for path in name(value).split(":")
    ]  # fmt: skip
    versions: list[tuple[str, str]] = []
    for value in [value for tag, value in entries if tag == _VERSIONS]:
        versions += _versions(opened, _offset(segments, value), name)
    return Linked(machine, interpreter, needed, tuple(paths), tuple(versions))


def _versions(opened: int, at: int, name: Callable[[int], str]) -> Iterator[tuple[str, str]]:
    """Yield the entries of the section .gnu.version_r: a list of libraries, each with one."""
    for _ in range(_MAX_VERSIONS):
        _, count, library, first, following = _FILE.unpack(os.pread(opened, _FILE.size, at))
        symbol = at + first
        for _ in range(min(count, _MAX_VERSIONS)):
            _, _, _, version, more = _SYMBOL.unpack(os.pread(opened, _SYMBOL.size, symbol))
            yield name(library), name(version)
            symbol += more
        if not following:
            return
        at += following


def _offset(segments: list[tuple[int, ...]], address: int) -> int:
    for kind, _, where, virtual, _, length, _, _ in segments:
        if kind == _LOAD and virtual <= address < virtual + length:
            return where + address - virtual
    raise ValueError(address)


def _text(data: bytes) -> str:
    end = data.find(b"\0")
    if end < 0:
        raise ValueError("no end")
    return data[:end].decode()
