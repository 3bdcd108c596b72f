"""Schedules: cronsim's word is Debian's cron; systemd must be told the same times."""

from __future__ import annotations

import os
import subprocess
from datetime import datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatling.project import schedule


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    one = st.integers(low, high).map(str)
    span = st.tuples(st.integers(low, high), st.integers(low, high)).map(
        lambda pair: "{}-{}".format(*sorted(pair))
    )
    step = st.tuples(st.just("*") | span, st.integers(1, 9)).map(lambda pair: "{}/{}".format(*pair))
    listed = st.lists(one | span, min_size=1, max_size=3).map(",".join)
    return st.just("*") | listed | step


CRONS = st.tuples(
    _field(0, 59), _field(0, 23), _field(1, 28), _field(1, 12), _field(0, 7)
).map(" ".join)  # fmt: skip


def systemd_says(calendars: list[str], after: datetime, count: int) -> list[datetime]:
    """The next times, as systemd itself counts them."""
    found: set[datetime] = set()
    for calendar in calendars:
        shown = subprocess.run(
            ["systemd-analyze", "calendar", f"--iterations={count}",
             f"--base-time={after:%Y-%m-%d %H:%M:%S}", calendar],
            capture_output=True, text=True, check=True,
            env=os.environ | {"TZ": "UTC", "LC_ALL": "C"},
        ).stdout  # fmt: skip
        for line in shown.splitlines():
            label, _, rest = line.strip().partition(": ")
            if label == "Next elapse" or label.startswith("Iter. #"):
                found.add(datetime.strptime(rest.strip(), "%a %Y-%m-%d %H:%M:%S UTC"))
    return sorted(found)[:count]


@settings(max_examples=60, deadline=None)
@given(CRONS)
@example("* * 1 * 0-6")  # either of the two: each day
def test_systemd_has_the_same_times(cron: str) -> None:
    at = after = datetime(2026, 2, 27, 23, 58, 30)
    expected = []
    for _ in range(12):
        at = schedule.following(cron, at)
        expected.append(at)
    assert systemd_says(schedule.calendars(cron), after, 12) == expected


@pytest.mark.parametrize(
    ("cron", "calendars"),
    [
        ("*/15 * * * *", ["*-*-* *:0,15,30,45:00"]),
        ("30 3 * * mon-fri", ["Mon,Tue,Wed,Thu,Fri *-*-* 3:30:00"]),
        ("0 0 1,15 * *", ["*-*-1,15 0:0:00"]),
        ("0 0 13 * 5", ["*-*-13 0:0:00", "Fri *-*-* 0:0:00"]),
        ("0 6 * jan,JUL 7", ["Sun *-1,7-* 6:0:00"]),
        ("@daily", ["*-*-* 0:0:00"]),
        ("@weekly", ["Sun *-*-* 0:0:00"]),
    ],
)
def test_calendars(cron: str, calendars: list[str]) -> None:
    assert schedule.calendars(cron) == calendars


@pytest.mark.parametrize(
    ("cron", "why"),
    [
        ("", "not five fields"), ("* * * *", "not five fields"), ("* * * * * *", "not five fields"),
        ("@reboot", "not five fields"), ("60 * * * *", "bad minute"), ("* * * * 8", "bad day"),
        ("0 0 31 2 *", "bad day-of-month"), ("0 0 L * *", "crontab"), ("0 0 * * 5#2", "crontab"),
        ("*/0 * * * *", "bad minute"), ("a b c d e", "bad minute"),
        ("\uff15 * * * *", "bad minute"),
    ],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(cron: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        schedule.check(cron)


def test_a_minute_is_due_once() -> None:
    start = datetime(2026, 1, 1)
    due = [
        minute
        for minute in (start + timedelta(minutes=n) for n in range(120))
        if schedule.is_due("7,37 1 * * *", minute)
    ]
    assert due == [datetime(2026, 1, 1, 1, 7), datetime(2026, 1, 1, 1, 37)]
