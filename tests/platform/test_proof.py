"""Comparing a restored cluster with the live one, and how many backups stay: pure."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import CommandFailed, DiskFull, MissingProgram
from gatling.platform.postgres import answers, backups, pgbackrest, proof
from gatling.platform.postgres.proof import Sample
from gatling.platform.postgres.sites import Site
from tests.platform.test_pgbackrest import entry, report

if TYPE_CHECKING:
    from pathlib import Path

LIVE = Sample("d", {"a": (10, "x"), "b": (100_000, "y")})


@pytest.mark.parametrize(("copy", "fault"), [
    (Sample("d", {"a": (10, "x"), "b": (100_000, "y")}), ""),
    (Sample("e", {"a": (10, "x"), "b": (100_000, "y")}), "the definitions of the tables differ"),
    (Sample("d", {"a": (10, "x")}), "b is missing"),
    (Sample("d", {"a": (9, "x"), "b": (100_000, "y")}), "a has 10 rows, and the copy has 9"),
    (Sample("d", {"a": (10, "z"), "b": (100_000, "y")}), "the rows of a differ"),
])  # fmt: skip
def test_a_copy_is_the_same(copy: Sample, fault: str) -> None:
    found = proof.compare(LIVE, copy, [])
    assert found.fault == fault
    if not fault:
        assert (found.tables, found.rows, found.written) == (2, 100_010, 0)


def test_a_table_that_was_written_to_may_differ_a_little() -> None:
    near = Sample("d", {"a": (10, "x"), "b": (100_900, "z")})
    assert proof.compare(LIVE, near, ["b"]).written == 1
    assert "100000 rows" in proof.compare(LIVE, near, ["a"]).fault
    empty = Sample("d", {"a": (10, "x"), "b": (0, "")})
    assert proof.compare(LIVE, empty, ["b"]).fault == "b has 100000 rows, and the copy has 0"


def test_a_dump_has_lines_that_differ_each_time() -> None:
    one, other = "\\restrict abc\nCREATE TABLE a ();\n", "\\restrict xyz\nCREATE TABLE a ();\n"
    assert proof.schema(one) == proof.schema(other)
    assert proof.schema(one) != proof.schema(one + "CREATE TABLE b ();\n")


DAY = 86400


def made(day: int, kind: str = "full", *, proved: bool = True) -> dict[str, Any]:
    """A backup of a day; an incremental one builds on the full one of the day before."""
    base = f"2026010{day - (kind == 'incr')}-000000F"
    label = base if kind == "full" else f"{base}_2026010{day}-000000I"
    notes = {"proved": "x"} if proved else None
    times = {"start": day * DAY - 60, "stop": day * DAY}
    return entry(label, f"{day}/1", type=kind, timestamp=times, annotation=notes)


def test_how_many_full_backups_stay() -> None:
    def kept(count: int, days: int, *every: dict[str, Any]) -> int:
        return pgbackrest.kept(pgbackrest.backups(report(*every)), count, days, 9.5 * DAY)

    four = [made(day) for day in (1, 3, 5, 9)]
    assert kept(2, 0, *four) == 2
    assert kept(1, 7, *four) == 3  # those of seven days
    assert kept(1, 0, *four[:1]) == 1
    # the newest proved one stays, and what is newer
    assert kept(1, 0, made(1), made(3, proved=False), made(5, proved=False)) == 3
    chain = [made(1), made(2, "incr"), made(5, proved=False)]
    assert kept(1, 0, *chain) == 2
    # nothing is removed while nothing is proved
    assert kept(1, 0, made(1, proved=False), made(3, proved=False)) == 2


def test_what_a_backup_builds_on() -> None:
    def needs(*every: dict[str, Any]) -> bool:
        return backups._needs_full(pgbackrest.backups(report(*every)), 9 * DAY)

    assert needs()
    assert not needs(made(4))
    assert needs(made(1))  # too old
    wrong = {"annotation": {"refuted": "x"}}
    assert needs(made(4), made(5, "incr") | wrong)


def site(place: Path) -> Site:
    return Site("shop", "shop.1", str(place), str(place), str(place), str(place / "own"),
                str(place / "repository"), str(place / "settings.json"),
                str(place / "proof" / "shop.1"))  # fmt: skip


def test_a_full_disk_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backups.Backups(site(tmp_path), print)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=300 << 20))
    with pytest.raises(DiskFull, match="needs 1256 MB: 300 MB are free"):
        made._check_room(1000 << 20)


def test_without_the_program_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(MissingProgram):
        backups.Backups(site(tmp_path), print).make(full=False, count=2, days=14)
    assert not (tmp_path / "own").exists()


def test_the_answer_of_the_program() -> None:
    said: list[str] = []
    answer = answers.Answer(said.append)
    for line in ("Copying", "\0" + json.dumps({"a": 1})):
        answer.take(line)
    assert said == ["Copying"]
    assert answer.result() == {"a": 1}
    with pytest.raises(CommandFailed, match="interrupted"):
        answers.last("Copying\n")
    error = {"what": "full", "hint": "h", "log": ["l"], "kind": "DiskFull"}
    with pytest.raises(DiskFull, match="full"):
        answers.last("\0" + json.dumps(error))
