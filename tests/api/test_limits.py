"""The limits of a token."""

from __future__ import annotations

import pytest

from gatling.api.answers import Refused
from gatling.api.limits import AT_ONCE, BURST, RATE, Bucket, Limits


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_lets_a_burst_through_and_then_a_rate() -> None:
    clock = Clock()
    bucket = Bucket(2.0, 3, clock)
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.5
    assert [bucket.take(), bucket.take()] == [0, 0.5]
    clock.now += 3600
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]


def test_each_token_has_a_rate_of_its_own() -> None:
    clock = Clock()
    limits = Limits(clock)
    for _ in range(BURST):
        limits.admit("ann")
    with pytest.raises(Refused) as refused:
        limits.admit("ann")
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
    limits.admit("bob")
    clock.now += 1 / RATE
    limits.admit("ann")


def test_places_are_given_back() -> None:
    limits = Limits()
    for _ in range(2):
        with pytest.raises(ValueError, match="x"), limits.under_way("ann", "request", 1):
            raise ValueError("x")
    with limits.under_way("ann", "request", 1):
        with pytest.raises(Refused), limits.under_way("ann", "request", 1):
            pass
        with limits.under_way("bob", "request", AT_ONCE):
            pass
