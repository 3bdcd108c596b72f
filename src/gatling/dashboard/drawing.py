"""Charts as paths of SVG, so that they are there without JavaScript. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 600, 120
"""Of the drawing, in units of its own; pages stretch it."""
HEADROOM = 1.15
LATELY = 120.0
"""Seconds within which a value counts as the latest; more in charts of a long time."""


class Line(Struct, frozen=True):
    """A line of a chart."""

    name: str
    path: str
    area: str
    """The same down to the axis."""


class MarkLine(Struct, frozen=True):
    """A thing that happened, on the time axis."""

    x: float
    kind: str
    at: str
    text: str


class Chart(Struct, frozen=True):
    """Numbers over time."""

    name: str
    title: str
    unit: str
    """`""`, `ms`, `bytes`: how a number is written."""
    lines: list[Line]
    marks: list[MarkLine]
    top: float
    """The value at the upper edge."""
    last: float | None
    """The latest value; None if nothing was measured lately."""
    data: str
    """JSON of the same: times, and the values of each line; then the marks."""


def chart(
    name: str,
    title: str,
    unit: str,
    times: Sequence[float],
    series: Sequence[tuple[str, Sequence[float | None]]],
    *,
    span: tuple[float, float],
    marks: Sequence[tuple[float, str, str, str]] = (),
    least: float = 1.0,
) -> Chart:
    """Draw series over the same Unix times. The scale reaches `least` in any case.

    Marks are a time, a kind, the time as text, and what happened.
    """
    values = [value for _, each in series for value in each if value is not None]
    top = max([least, *(value * HEADROOM for value in values)])

    def x(at: float) -> float:
        return round(WIDTH * (at - span[0]) / max(1e-9, span[1] - span[0]), 1)

    def y(value: float) -> float:
        return round(HEIGHT * (1 - value / top), 1)

    lines = [_line(label, times, each, x, y) for label, each in series]
    drawn = [MarkLine(x(at), kind, when, text) for at, kind, when, text in marks]
    recent = span[1] - max(LATELY, (span[1] - span[0]) / 20)
    ends = [
        value for at, value in zip(times, series[0][1], strict=True)
        if value is not None and at >= recent
    ]  # fmt: skip
    data: dict[str, Any] = {
        "unit": unit,
        "span": [round(span[0]), round(span[1])],
        "names": [label for label, _ in series],
        "values": [[round(at) for at in times], *(list(each) for _, each in series)],
        "marks": [[round(at), kind, text] for at, kind, _, text in marks],
        "top": top,
    }
    return Chart(
        name, title, unit, lines, drawn, top, ends[-1] if ends else None,
        msgspec.json.encode(data).decode(),
    )  # fmt: skip


def _line(
    name: str,
    times: Sequence[float],
    values: Sequence[float | None],
    x: Callable[[float], float],
    y: Callable[[float], float],
) -> Line:
    """A line with gaps where nothing was measured."""
    path, area, begun = [], [], 0.0
    before: float | None = None
    for at, value in zip(times, values, strict=True):
        if value is None:
            if before is not None:
                area.append(f"L{before},{HEIGHT} L{begun},{HEIGHT} Z")
            before = None
            continue
        place = x(at)
        path.append(f"{'L' if before is not None else 'M'}{place},{y(value)}")
        if before is None:
            begun = place
        area.append(path[-1])
        before = place
    if before is not None:
        area.append(f"L{before},{HEIGHT} L{begun},{HEIGHT} Z")
    return Line(name, " ".join(path), " ".join(area))
