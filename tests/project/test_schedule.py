"""Schedules: cronsim's word is Debian's cron; systemd must be told the same times."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatling.platform.server import timers
from gatling.project import schedule
from tests.scale import scaled


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


@settings(max_examples=60)
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
        ("0 6 1 * 0-6", ["*-*-* 6:0:00"]),
        ("0 6 1 * *", ["*-*-1 6:0:00"]),
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


@pytest.mark.parametrize(
    ("cron", "day", "due"),
    [
        # a fixed time that is left out comes after the change, one that comes twice is due once
        ("30 2 * * *", datetime(2026, 3, 29), ["03:00+02:00"]),
        ("30 2 * * *", datetime(2026, 10, 25), ["02:30+02:00"]),
        ("0 4 * * *", datetime(2026, 10, 25), ["04:00+01:00"]),
        # what is due each hour is so in each that there is
        ("30 * * * *", datetime(2026, 3, 29), ["00:30+01:00", "01:30+01:00", "03:30+02:00"]),
        ("30 * * * *", datetime(2026, 10, 25),
         ["00:30+02:00", "01:30+02:00", "02:30+02:00", "02:30+01:00", "03:30+01:00"]),
    ],
)  # fmt: skip
def test_when_clocks_change(cron: str, day: datetime, due: list[str]) -> None:
    zone = ZoneInfo("Europe/Berlin")
    start = day.replace(tzinfo=zone).astimezone(UTC)
    minutes = [(start + timedelta(minutes=n)).astimezone(zone) for n in range(60 * 6)]
    found = [f"{m:%H:%M}{m.isoformat()[-6:]}" for m in minutes if schedule.is_due(cron, m)]
    assert [one for one in found if one[:2] < "05"][: len(due)] == due
    assert [one for one in found if one[:2] < "04"] == [one for one in due if one[:2] < "04"]


def test_the_hosts_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":Europe/Berlin")
    assert str(schedule.here()) == "Europe/Berlin"
    monkeypatch.setenv("TZ", "CET-1")  # known by neither name nor file
    assert schedule.here() is not None
    monkeypatch.delenv("TZ")
    now = datetime.now(UTC)
    assert now.astimezone(schedule.here()).utcoffset() == now.astimezone().utcoffset()


@settings(max_examples=scaled(75, 300))
@given(CRONS)
def test_roots_helper_takes_what_is_written(cron: str) -> None:
    for calendar in schedule.calendars(cron):
        assert timers.CALENDAR.fullmatch(calendar)
        assert len(calendar) <= timers.MAX_CALENDAR


def test_the_longest_calendar_is_taken() -> None:
    every = ",".join(map(str, range(60))), ",".join(map(str, range(23)))
    cron = f"{every[0][:-3]} {every[1]} {','.join(map(str, range(1, 31)))} 1-11 0-5"
    for calendar in schedule.calendars(cron):
        assert timers.CALENDAR.fullmatch(calendar)
        assert len(calendar) <= timers.MAX_CALENDAR


GOLDEN = """\
# Written by Gatling.
[Unit]
Description=Gatling: times of the job shop.report

[Timer]
OnCalendar=*-*-13 0:0:00
OnCalendar=Fri *-*-* 0:0:00
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def test_a_timer(tmp_path: Path) -> None:
    text = timers.text("shop", "report", schedule.calendars("0 0 13 * 5"))
    assert text == GOLDEN
    (tmp_path / timers.timer("shop", "report")).write_text(text)
    (tmp_path / timers.SERVICE).write_text(timers.service(Path("/bin/true")))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / timers.timer("shop", "report"))],
        check=False, capture_output=True, text=True,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
