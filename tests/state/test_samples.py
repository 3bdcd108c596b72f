"""Samples of apps over time: merged into series, bounded, and replaced when they are damaged."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from typing import TYPE_CHECKING

import msgspec
import pytest

from gatling.errors import GatlingError
from gatling.proxy.figures import BOUNDS
from gatling.state import samples
from gatling.state.samples import RANGES, SERIES, Sample, opened

if TYPE_CHECKING:
    from pathlib import Path

NOON = 1_800_000_000 // 600 * 600


def sample(requests: int = 1, **given: float) -> Sample:
    return msgspec.structs.replace(
        Sample(seconds=10, up=10, classes=[0, requests, 0, 0, 0], ranges=[requests] + [0] * 11),
        **given,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / samples.FILE


def test_the_ranges_are_those_of_the_proxy() -> None:
    assert len(BOUNDS) + 1 == RANGES


def test_a_sample_is_in_each_series(file: Path) -> None:
    with opened(file) as store:
        for number in range(6):
            store.add(NOON + 10 * number, {"shop": sample(2, memory=number, run_queue=number - 1)})
        store.add(NOON + 60, {"shop": sample(5), "blog": sample(1)})
        ten, minute, longest = (
            store.of_app("shop", each.step, NOON, NOON + 600) for each in SERIES
        )
        assert [at for at, _ in ten] == [NOON + 10 * number for number in range(7)]
        assert [(at, each.requests, each.seconds, each.memory) for at, each in minute] == [
            (NOON, 12, 60, 5), (NOON + 60, 5, 10, 0),
        ]  # fmt: skip
        assert minute[0][1].run_queue == 4
        assert minute[1][1].run_queue == -1
        assert [(at, each.requests, each.ranges[0]) for at, each in longest] == [(NOON, 17, 17)]
        assert store.newest() == NOON + 60
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_old_or_of_no_app_is_removed(file: Path) -> None:
    with opened(file) as store:
        store.add(NOON, {"shop": sample(), "gone": sample()})
        store.add(NOON + 3 * 3600, {"shop": sample()})
        store.tidy(NOON + 3 * 3600, ["shop"])
        assert [len(store.of_app("shop", each.step, 0, 1e12)) for each in SERIES] == [1, 2, 2]
        assert store.of_app("gone", 600, 0, 1e12) == []
        store.tidy(NOON + 31 * 86400, ["shop"])
        assert store.of_app("shop", 600, 0, 1e12) == []


def test_a_month_of_fifty_apps_is_bounded(file: Path) -> None:
    """By the number of rows in all series, and the size of a row."""
    rows = sum(each.kept // each.step for each in SERIES)
    large = Sample(600, 600, [10**9] * 5, [10**9] * 12, 1e6, *[2**45] * 5)
    assert rows * len(msgspec.msgpack.encode(large)) * 50 < 128e6


def test_no_row_is_looked_at_in_vain(file: Path) -> None:
    """To open the file, to find the newest sample, and to remove what is old when nothing is."""
    with opened(file) as store:
        store.add(NOON, {"shop": sample()})
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        db.executemany(
            "INSERT OR REPLACE INTO samples SELECT ?, step, at + ?, data FROM samples"
            " WHERE app = 'shop' AND at <= ?",
            ((app, 600 * n, NOON) for app in ("blog", "shop", "wiki") for n in range(3000)),
        )
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    with opened(file) as store:
        store._connection.set_progress_handler(count, 1)
        assert store.newest() == NOON + 600 * 2999
        store.tidy(NOON, ["blog", "shop", "wiki"])
        assert 0 < steps < 1000
        assert len(store.of_app("blog", 10, 0, 2 * NOON)) == 3000
        assert steps > 3000


def test_the_finest_series_that_reaches_so_far() -> None:
    assert [samples.series_for(each).step for each in (60, 7200, 7201, 86400, 90 * 86400)] == [
        10, 10, 60, 60, 600,
    ]  # fmt: skip


def test_a_damaged_file_is_begun_anew_by_who_writes(file: Path) -> None:
    file.write_bytes(b"this is no database, but long enough to be read as one" * 40)
    with pytest.raises(GatlingError, match="cannot be used") as caught, opened(file):
        pass
    assert samples.FILE in caught.value.hint
    with opened(file, replace=True) as store:
        store.add(NOON, {"shop": sample()})
    with opened(file) as store:
        assert len(store.of_app("shop", 10, 0, 1e12)) == 1


def test_rows_of_another_form_are_left_out_and_replaced(file: Path) -> None:
    with opened(file) as store:
        store.add(NOON, {"shop": sample()})
    connection = sqlite3.connect(file)
    with connection:
        connection.execute("UPDATE samples SET data = ?", (msgspec.msgpack.encode(["x", 1]),))
    connection.close()
    with opened(file) as store:
        assert store.of_app("shop", 10, 0, 1e12) == []
        store.add(NOON, {"shop": sample(3)})
        assert store.of_app("shop", 10, 0, 1e12)[0][1].requests == 3


def test_an_app_that_is_removed(file: Path) -> None:
    samples.forget(file.parent, "shop")  # without any file
    assert not file.exists()
    with opened(file) as store:
        store.add(NOON, {"shop": sample(), "blog": sample()})
    samples.forget(file.parent, "shop")
    with opened(file) as store:
        assert store.of_app("shop", 600, 0, 1e12) == []
        assert len(store.of_app("blog", 600, 0, 1e12)) == 1
