"""What the statistics of a cluster show to be wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gatling.platform.postgres import health
from gatling.platform.postgres.clusters import Facts

WELL = Facts(
    version="17.6", bytes=5 * 10**9, connections=20, active=2, max_connections=100,
    started_at="2026-01-01T00:00:00Z", cache_hits=0.99, longest_query=0.1, longest_transaction=1.0,
    checksums=True, dead_bytes=10**8, log_bytes=1 << 30, log_limit=1 << 30, log_waiting=1,
    archiving_failed=False, slot_bytes=0, age=0.1, free_bytes=50 * 10**9,
)  # fmt: skip


def test_nothing_is_wrong_with_one_that_is_well() -> None:
    assert health.faults("shop", "shop", WELL) == []
    for few in ({"connections": 89}, {"age": 0.5}, {"longest_transaction": 6 * 3600.0},
                {"log_bytes": 4 << 30}, {"slot_bytes": 1 << 30}, {"free_bytes": 5 * 10**9},
                {"archiving_failed": True, "log_waiting": 0}):  # fmt: skip
        assert health.faults("shop", "shop", replace(WELL, **few)) == []


@pytest.mark.parametrize(
    ("bad", "what", "hint"),
    [
        ({"archiving_failed": True, "log_waiting": 40, "log_bytes": 9 * 10**9},
         "events: its log cannot be archived. 40 segments of it wait, it takes 9.0 GB, and 50.0 GB",
         "`gatling db backup shop --name events`"),
        ({"slot_bytes": 2 << 30}, "a replication slot keeps 2.1 GB", "pg_drop_replication_slot"),
        ({"log_bytes": 5 << 30}, "its log takes 5.4 GB", "PostgreSQL's own log"),
        ({"free_bytes": 4 * 10**9}, "takes 5.0 GB, and 4.0 GB of the disk are free", "enlarge"),
        ({"dead_bytes": 3 * 10**9}, "deleted rows take about 3.0 GB of 5.0 GB", "VACUUM"),
        ({"age": 0.51}, "has used 51% of its transaction numbers",
         "`gatling db psql shop --name events -- -c 'VACUUM (FREEZE)'`"),
        ({"connections": 90}, "90 of 100 connections are in use", "POOL_SIZE"),
        ({"longest_transaction": 8 * 3600.0}, "has been open for 8 hours", "pg_stat_activity"),
    ],
)  # fmt: skip
def test_each_fault_is_said_with_advice(bad: dict[str, Any], what: str, hint: str) -> None:
    (found,) = health.faults("events", "shop", replace(WELL, **bad))
    assert found.what.startswith("events")
    assert what in found.what
    assert hint in found.hint


def test_the_log_has_one_reason() -> None:
    every = replace(
        WELL, archiving_failed=True, log_waiting=9, slot_bytes=9 << 30, log_bytes=9 << 30
    )
    (found,) = health.faults("shop", "shop", every)
    assert "cannot be archived" in found.what
