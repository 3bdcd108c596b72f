"""Tables, times and sizes as people read them."""

from __future__ import annotations

import contextlib
import io
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatling.ui import output

if TYPE_CHECKING:
    from collections.abc import Sequence

CELL = st.text(alphabet="abcé –", max_size=12)


def printed(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    with contextlib.redirect_stdout(io.StringIO()) as written:
        output.table(header, rows)
    return written.getvalue().splitlines()


def test_columns_are_aligned_and_gaps_are_marked() -> None:
    rows = [("shop", 12, None), ("a-long-name", 0, ""), ("b", False, "x")]
    assert printed(("app", "count", "url"), rows) == [
        "app          count  url",
        "shop         12     –",
        "a-long-name  0      –",
        "b            false  x",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert printed(("at", "by"), []) == ["at  by"]


@settings(max_examples=50)
@given(st.lists(st.tuples(CELL, CELL, st.just("end")), min_size=1, max_size=5))
def test_the_last_column_begins_at_one_place(rows: list[tuple[str, str, str]]) -> None:
    lines = printed(("one", "two", "end"), rows)
    assert len({line.rindex("end") for line in lines}) == 1


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a": ["é", None, 1.5], "b": "two\nlines"}
    output.print_json(value)
    text = capsys.readouterr().out
    assert json.loads(text) == value
    assert "é" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (0.0004, "0 ms"), (0.25, "250 ms"), (1, "1.0 s"), (1.44, "1.4 s"),
        (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1m"), (102, "1m 42s"),
        (3599.6, "1h"), (3660, "1h 1m"), (86399, "23h 59m"), (90000, "1d 1h"), (864000, "10d"),
    ],
)  # fmt: skip
def test_how_long_it_took(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("before", "text"),
    [
        (timedelta(minutes=2, seconds=10), "2m ago"), (timedelta(minutes=3), "3m ago"),
        (timedelta(days=2), "2d ago"), (timedelta(days=-1), "just now"),
        (timedelta(seconds=18.4), "18 s ago"),
    ],
)  # fmt: skip
def test_how_long_ago_it_was(before: timedelta, text: str) -> None:
    stamp = (datetime.now(UTC) - before).isoformat(timespec="milliseconds")
    assert output.ago(stamp.replace("+00:00", "Z")) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1499, "1 kB"),
        (90_000, "90 kB"),
        (1_000_000, "1.0 MB"),
        (12_440_000, "12.4 MB"),
    ],
)
def test_how_big_it_is(count: int, text: str) -> None:
    assert output.size(count) == text
