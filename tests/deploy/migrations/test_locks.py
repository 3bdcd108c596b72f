"""What a session reports of locks, as a person reads it."""

from __future__ import annotations

from gatling.deploy.migrations.locks import Lock, Reports, script


def taken(*lines: str, ended: float = 100.0) -> list[Lock]:
    reports = Reports()
    for line in lines:
        reports.line(f"NOTICE:  gatling locks: {line}")
    return reports.result(ended)


def test_the_strongest_lock_of_each_table_the_longest_first() -> None:
    found = taken(
        "ready",
        "+ 10.0 ShareLock orders", "+ 10.5 AccessExclusiveLock orders",
        "- 11.5 AccessExclusiveLock orders", "- 14.0 ShareLock orders",
        "+ 20.0 ShareRowExclusiveLock public.\"my table\"",
        "- 29.0 ShareRowExclusiveLock public.\"my table\"",
    )  # fmt: skip
    assert found == [
        Lock('public."my table"', "ShareRowExclusiveLock", 9.0),
        Lock("orders", "AccessExclusiveLock", 1.0),
    ]
    assert found[1].text == (
        "orders: a lock that keeps the app from reading and writing for 1.0 s"
    )  # fmt: skip


def test_a_lock_that_comes_again_and_one_that_is_held_at_the_end() -> None:
    found = taken(
        "+ 10 ShareLock a", "- 11 ShareLock a", "+ 20 ShareLock a", "- 22 ShareLock a",
        "+ 95 AccessExclusiveLock b", "- 1 ShareLock unknown",
    )  # fmt: skip
    assert [(one.table, one.seconds) for one in found] == [("b", 5.0), ("a", 3.0)]
    assert taken("+ 200 ShareLock late")[0].seconds == 0


def test_other_lines_are_none_of_it() -> None:
    reports = Reports()
    for line in ("", "ERROR:  division by zero", "NOTICE:  + 1 ShareLock a"):
        reports.line(line)
    assert reports.result(5.0) == []
    assert not reports.ready.is_set()
    reports.line("psql:1: NOTICE:  gatling locks: ready")
    assert reports.ready.is_set()


def test_the_script_ends_by_itself() -> None:
    assert "interval '660 s'" in script(660.0)
