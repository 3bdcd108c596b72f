"""Charts as paths of SVG."""

from __future__ import annotations

import json

from gatling.dashboard.drawing import HEIGHT, WIDTH, chart


def test_a_line_goes_over_the_whole_width_and_stays_below_the_edge() -> None:
    made = chart("a", "A", "ms", [0, 5, 10], [("p95", [0, 50, 100])], span=(0, 10))
    (line,) = made.lines
    assert line.path == f"M0.0,{float(HEIGHT)} L300.0,67.8 L600.0,15.7"
    assert line.area.endswith(f"L600.0,{HEIGHT} L0.0,{HEIGHT} Z")
    assert made.top > 100
    assert made.last == 100


def test_a_line_has_gaps_where_nothing_was_measured() -> None:
    made = chart(
        "a", "A", "ms", [0, 1, 2, 3, 4], [("p95", [None, 1.0, None, 1.0, 1.0])], span=(0, 4)
    )
    assert made.lines[0].path.count("M") == 2
    assert made.lines[0].area.count("Z") == 2
    assert chart("a", "A", "", [], [("x", [])], span=(0, 0)).last is None


def test_marks_lie_on_the_time_axis_and_data_is_json() -> None:
    mark = (5.0, "deployment", "2026-01-01T00:00:00Z", "</script>\u2028 push")
    made = chart("a", "A", "rate", [0, 10], [("x", [1, 2])], span=(0, 10), marks=[mark])
    assert made.marks[0].x == WIDTH / 2
    data = json.loads(made.data)
    assert data["values"] == [[0, 10], [1, 2]]
    assert data["marks"] == [[5, "deployment", "</script>\u2028 push"]]
