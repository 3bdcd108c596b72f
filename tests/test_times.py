"""How long something is waited for, on a machine that is slow."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gatling import times


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long the process is suspended when it sleeps, once each."""
    now, left = 0.0, list[float]()

    def sleep(seconds: float) -> None:
        nonlocal now
        now += left.pop(0) if left else seconds

    monkeypatch.setattr(times, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    return left


def test_looks_end_with_the_time(pauses: list[float]) -> None:
    assert list(times.looks(1, 0.25)) == [False] * 4 + [True]
    assert list(times.looks(0, 0.25)) == [True]


def test_the_last_look_comes_after_the_time(pauses: list[float]) -> None:
    """A process that was suspended for all of the time looks nevertheless."""
    pauses.append(60)
    assert list(times.looks(1, 0.25)) == [False, True]
