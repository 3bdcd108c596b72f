"""What was written between two moments."""

from __future__ import annotations

import pytest

from gatling.deploy.migrations import written
from gatling.deploy.migrations.written import UNKNOWN, Counters, Lost, Touched


def test_the_differences_the_largest_first() -> None:
    before = Counters(100, {"1": ("orders", 10, 5, 0), "2": ("quiet", 7, 7, 7),
                            "4": ("gone", 1, 0, 0)})  # fmt: skip
    now = Counters(130, {"1": ("orders2", 12, 5, 1), "2": ("quiet", 7, 7, 7),
                         "3": ("tools.new", 40, 0, 0)})  # fmt: skip
    assert written.since(before, now) == Lost(
        30, [Touched("tools.new", 40, 0, 0), Touched("orders2", 2, 0, 1)]
    )


def test_counters_that_began_again() -> None:
    """After a crash of the database: at least what was written since that."""
    before = Counters(100, {"1": ("orders", 10, 5, 0)})
    found = written.since(before, Counters(110, {"1": ("orders", 3, 6, 0)}))
    assert found == Lost(10, [Touched("orders", 3, 6, 0)])


@pytest.mark.parametrize("record", ["", "{}", "null", '{"xid": "x", "tables": {}}', "[1"])
def test_a_record_without_counters(record: str) -> None:
    assert written.decode(record) == UNKNOWN
    assert written.since(UNKNOWN, Counters(5, {})) is None


def test_a_record_is_read_again_and_is_not_too_large() -> None:
    counters = Counters(5, {"1": ("orders", 1, 2, 3)})
    assert written.decode(written.encode(counters)) == counters
    many = Counters(7, {str(n): ("t" * 63, n, n, n) for n in range(20_000)})
    assert len(written.encode(many)) < written.MAX_BYTES
    assert written.decode(written.encode(many)) == Counters(7, {})
