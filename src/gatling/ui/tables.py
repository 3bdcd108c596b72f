"""Tables and lists of fields that fit a terminal. Pure."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = 2
"""Blanks between two columns."""
SHORTEST = 12
"""A column that may be cut keeps this width."""
EMPTY = "–"
"""The text of a cell without a value."""
LABEL = 16
"""The width of a field's label."""


class Columns(NamedTuple):
    """A table's header and its cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def widths(self) -> list[int]:
        """The width of each column."""
        return [
            max(width(title), *(width(row[at]) for row in self.rows), 0)
            for at, title in enumerate(self.header)
        ]

    def is_empty(self, title: str) -> bool:
        """Whether no row has a value in a column."""
        at = self.header.index(title)
        return all(row[at] == EMPTY for row in self.rows)

    def without(self, title: str) -> Columns:
        """The same without one column."""
        at = self.header.index(title)
        rows = tuple((*row[:at], *row[at + 1 :]) for row in self.rows)
        return Columns((*self.header[:at], *self.header[at + 1 :]), rows)


def fitted(
    columns: Columns, room: int, cut: Sequence[str] = (), drop: Sequence[str] = ()
) -> Columns:
    """The table in `room` columns of the terminal.

    The columns named by `cut` are shortened first, the widest of them most. Then those named by
    `drop` are left out one by one, empty ones before all others. If the table is still too wide,
    its widest columns are shortened.
    """
    drop = sorted(drop, key=lambda title: not columns.is_empty(title))  # sorted() is stable
    for number in range(len(drop) + 1):
        left = columns
        for title in drop[:number]:
            left = left.without(title)
        allowed = [title in cut for title in left.header]
        widths = _shrunk(left.widths(), room, allowed, SHORTEST)
        if _total(widths) <= room:
            return _cut_to(left, widths)
    widths = _shrunk(left.widths(), room, [True] * len(left.header), 4)
    return _cut_to(left, widths)


def lines(columns: Columns) -> list[str]:
    """The header and the rows, aligned."""
    widths = columns.widths()
    return [_line(row, widths) for row in (columns.header, *columns.rows)]


def field(label: str, value: str, room: int | None) -> list[str]:
    """A label and its value; a long value goes on in further lines, below its beginning."""
    if room is None or room < LABEL + SHORTEST:
        return [f"{label:<{LABEL}} {value}"]
    import textwrap  # compiles patterns, and few tables have a cell to wrap

    wrapped = textwrap.wrap(
        value, room - LABEL - 1, break_long_words=False, break_on_hyphens=False
    ) or [""]
    first, *more = wrapped
    return [f"{label:<{LABEL}} {first}", *(f"{'':<{LABEL}} {line}" for line in more)]


def width(text: str) -> int:
    """The columns of a terminal that a text takes: a CJK character or an emoji takes two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def shortened(text: str, room: int) -> str:
    """The text, with an ellipsis in the place of what does not fit."""
    if width(text) <= room:
        return text
    while text and width(text) > room - 1:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _shrunk(widths: list[int], room: int, allowed: Sequence[bool], shortest: int) -> list[int]:
    while _total(widths) > room:
        candidates = [at for at, may in enumerate(allowed) if may and widths[at] > shortest]
        if not candidates:
            break
        widths[max(candidates, key=lambda at: widths[at])] -= 1
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _cut_to(columns: Columns, widths: Sequence[int]) -> Columns:
    header, *rows = [
        tuple(shortened(cell, room) for cell, room in zip(row, widths, strict=True))
        for row in (columns.header, *columns.rows)
    ]
    return Columns(header, tuple(rows))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell + " " * (room - width(cell)) for cell, room in zip(row, widths, strict=True)]
    return (" " * GAP).join(padded).rstrip()
