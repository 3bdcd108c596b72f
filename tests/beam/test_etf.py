"""Erlang's external term format: what goes there comes back, and nothing else does harm."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatling.beam import etf
from gatling.beam.etf import Atom, MalformedTerm, Opaque
from tests.scale import scaled

ATOMS = st.text(min_size=1, max_size=40).filter(lambda t: t not in ("true", "false")).map(Atom)
LEAVES = (
    st.integers(-(1 << 200), 1 << 200)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.binary(max_size=40)
    | ATOMS
)
TERMS: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.binary(max_size=8) | ATOMS, inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=scaled(75, 300))
@given(TERMS)
def test_a_term_comes_back_as_it_was(term: Any) -> None:
    assert etf.decode(etf.encode(term)) == term


@settings(max_examples=scaled(75, 300))
@given(TERMS, st.data())
def test_damaged_bytes_are_refused_or_are_another_term(term: Any, data: st.DataObject) -> None:
    raw = bytearray(etf.encode(term))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    for damaged in (bytes(raw), cut):
        try:
            etf.decode(damaged)
        except MalformedTerm:
            continue


@pytest.mark.parametrize(
    ("encoded", "term"),
    [
        # as erlang:term_to_binary/1 of OTP 25 writes them
        (b"\x83a\x07", 7),
        (b"\x83b\xff\xff\xff\xff", -1),
        (b"\x83k\x00\x02\x01\x02", [1, 2]),
        (b"\x83j", []),
        (b"\x83h\x02w\x02oka\x01", (Atom("ok"), 1)),
        (b"\x83w\x04true", True),
        (b"\x83n\x08\x01\x00\x00\x00\x00\x00\x00\x00\x80", -(1 << 63)),
        (b"\x83m\x00\x00\x00\x03abc", b"abc"),
        (b"\x83t\x00\x00\x00\x01w\x01ka\x05", {Atom("k"): 5}),
    ],
)
def test_what_erlang_writes(encoded: bytes, term: Any) -> None:
    assert etf.decode(encoded) == term


def test_a_pid_goes_back_as_it_came() -> None:
    pid = b"X" + b"w\x03a@b" + struct.pack(">III", 1, 2, 3)
    term = etf.decode(b"\x83" + pid)
    assert term == Opaque(pid)
    assert etf.encode((term,)).endswith(pid)


def test_none_is_undefined_and_the_rest_has_no_form() -> None:
    assert etf.decode(etf.encode(None)) == Atom("undefined")
    with pytest.raises(MalformedTerm):
        etf.encode(object())
    with pytest.raises(MalformedTerm):
        etf.encode(1 << 5000)


def test_what_has_no_form_in_python_is_refused() -> None:
    with pytest.raises(MalformedTerm, match="keys"):
        etf.decode(b"\x83t\x00\x00\x00\x01ja\x01")  # #{[] => 1}
    with pytest.raises(MalformedTerm, match="deeply"):
        etf.decode(b"\x83" + b"h\x01" * 100_000 + b"a\x01")


def test_a_length_that_lies_takes_no_memory() -> None:
    for tag in (b"l", b"i", b"t", b"m", b"o"):
        with pytest.raises(MalformedTerm):
            etf.decode(b"\x83" + tag + b"\xff\xff\xff\xff")
