"""Values of a type from plain objects, JSON and msgpack, also by several threads at once.

msgspec (0.22) builds what it has to know of a type when the type is used for the first time. If
two threads do so at once, one of them reads what the other has not written yet, and the process
ends with a segmentation fault. So each type is made ready by one thread before any thread uses it.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar, overload

import msgspec

T = TypeVar("T")

_ready: set[Any] = set()
_lock = threading.Lock()


def _make_ready(kind: Any) -> None:
    """Let msgspec build all that it has to know of a type, and of the types of its fields."""
    if kind not in _ready:
        with _lock:
            msgspec.json.Decoder(kind)
            _ready.add(kind)


@overload
def convert(value: object, kind: type[T], *, strict: bool = ...) -> T: ...
@overload
def convert(value: object, kind: Any, *, strict: bool = ...) -> Any: ...
def convert(value: object, kind: Any, *, strict: bool = True) -> Any:
    """A plain object as a value of the type.

    Without `strict`, texts are taken for numbers and truth values. Raises msgspec.ValidationError.
    """
    _make_ready(kind)
    return msgspec.convert(value, kind, strict=strict)


@overload
def from_json(data: bytes | str, kind: type[T]) -> T: ...
@overload
def from_json(data: bytes | str, kind: Any) -> Any: ...
def from_json(data: bytes | str, kind: Any) -> Any:
    """JSON as a value of the type. Raises msgspec.DecodeError, also a ValidationError."""
    _make_ready(kind)
    return msgspec.json.decode(data, type=kind)


def from_msgpack(data: bytes, kind: type[T]) -> T:
    """Msgpack as a value of the type. Raises msgspec.DecodeError, also a ValidationError."""
    _make_ready(kind)
    return msgspec.msgpack.decode(data, type=kind)
