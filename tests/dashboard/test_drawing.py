"""Charts as paths of SVG."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from gatling import times
from gatling.dashboard import pages
from gatling.dashboard.drawing import HEIGHT, WIDTH, chart
from gatling.dashboard.pages import with_gaps
from gatling.operations.timeline import Point

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from gatling.platform.open import Gatling


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


def test_a_value_of_long_ago_is_not_the_latest() -> None:
    assert chart("a", "A", "ms", [0, 10], [("x", [1, 2])], span=(0, 3600)).last is None
    assert chart("a", "A", "ms", [0, 3500], [("x", [1, 2])], span=(0, 3600)).last == 2


def test_points_that_are_missing_leave_a_gap() -> None:
    def point(at: int) -> Point:
        return Point(
            at=times.stamp_of(at), seconds=10, up=10, requests=1, per_second=0.1, failed=0,
            p50_ms=None, p95_ms=None, p99_ms=None, cpu=0, memory=None, node_memory=None,
            processes=None, run_queue=None, messages=None,
        )  # fmt: skip

    found = with_gaps([point(0), point(10), point(60), point(70)], 10)
    assert [at for at, _ in found] == [0, 10, 20, 60, 70]
    assert [one is None for _, one in found] == [False, False, True, False, False]
    assert with_gaps([], 10) == []


def test_marks_lie_on_the_time_axis_and_data_is_json() -> None:
    mark = (5.0, "deployment", "2026-01-01T00:00:00Z", "</script>\u2028 push")
    made = chart("a", "A", "rate", [0, 10], [("x", [1, 2])], span=(0, 10), marks=[mark])
    assert made.marks[0].x == WIDTH / 2
    data = json.loads(made.data)
    assert data["values"] == [[0, 10], [1, 2]]
    assert data["marks"] == [[5, "deployment", "</script>\u2028 push"]]


def test_a_small_chart_is_shown_again_for_some_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of fifty apps is loaded every five seconds. A chart that is missing is not kept."""
    asked: list[list[str]] = []

    def of_apps(_: object, names: list[str], *__: object) -> dict[str, list[Point]]:
        asked.append(names)
        return {name: [] for name in names if name != "new"}

    now = 1000.0
    monkeypatch.setattr("gatling.dashboard.pages.timeline.of_apps", of_apps)
    monkeypatch.setattr("gatling.dashboard.pages.time.monotonic", lambda: now)
    gatling = cast("Gatling", SimpleNamespace(home=SimpleNamespace(root=tmp_path)))
    for _ in range(2):
        assert pages._sparks_of(gatling, ["shop", "new"]).keys() == {"shop"}
    now += pages.SPARK_FRESH_SECONDS
    assert pages._sparks_of(gatling, ["shop"]).keys() == {"shop"}
    assert asked == [["shop", "new"], ["new"], ["shop"]]
