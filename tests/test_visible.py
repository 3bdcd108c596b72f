"""Control characters of others never reach a terminal."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatling import visible

DANGEROUS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]"
)
ANY = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as it is – ünïcode 漢字 👍", "as it is – ünïcode 漢字 👍"),
        ("a\tb", "a\tb"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b[2J\x1b[H", "\\x1b[2J\\x1b[H"),
        ("\x9b31m", "\\x9b31m"),
        ("\x1b[31;1mred\x1b[0m", "red"),
        ("\x1b\x1b[0m[31m", "\\x1b[31m"),
        ("over\rwritten", "over\\rwritten"),
        ("one\ntwo", "one\\ntwo"),
        ("file\u202etxt.exe", "file\\u202etxt.exe"),
        ("end\u2028line", "end\\u2028line"),
        (b"\xff\xfe".decode("utf-8", "surrogateescape"), "\\xff\\xfe"),
    ],
)
def test_control_characters_are_spelled_out(text: str, shown: str) -> None:
    assert visible.one_line(text) == shown


@given(ANY)
def test_whatever_comes_one_printable_line_is_shown(text: str) -> None:
    shown = visible.one_line(text)
    assert not DANGEROUS.search(shown)
    assert "\n" not in shown
    assert visible.one_line(shown) == shown
    shown.encode()


@given(ANY)
def test_several_lines_stay_lines(text: str) -> None:
    assert visible.lines(text).count("\n") == text.count("\n")


@given(st.dictionaries(ANY, ANY))
def test_json_has_the_same_values_without_control_characters(value: dict[str, str]) -> None:
    document = visible.in_json(json.dumps(value, indent=2, ensure_ascii=False))
    assert not DANGEROUS.search(document)
    assert json.loads(document) == value
