"""pgBackRest's report, as version 2.45 prints it, and what follows from it: pure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatling.errors import GatlingError
from gatling.platform.postgres import pgbackrest


def entry(label: str, stop: str, **other: Any) -> dict[str, Any]:
    return {
        "annotation": {"proved": "2026-01-01T00:00:00Z"}, "error": False, "label": label,
        "info": {"delta": 109058244, "size": 109058244,
                 "repository": {"delta": 14561837, "size": 14561837}},
        "lsn": {"start": "0/6000028", "stop": stop}, "prior": None, "reference": None,
        "timestamp": {"start": 1795902998, "stop": 1795903001}, "type": "full",
    } | other  # fmt: skip


def report(*entries: dict[str, Any], code: int = 0) -> str:
    return json.dumps([{"name": "shop.1.7", "backup": list(entries), "cipher": "none",
                        "status": {"code": code, "message": "other"}}])  # fmt: skip


def test_states() -> None:
    found = pgbackrest.backups(
        report(
            entry("a", "0/6000100"),
            entry("b", "0/7000100", annotation=None),
            entry("c", "0/8000100", error=True, annotation=None),
            entry("d", "0/9000100", annotation={"proved": "x", "refuted": "orders has 3 rows"}),
            # a page was copied while it was being written
            entry("e", "0/A000100", error=True),
        )
    )
    assert [one.state for one in found] == ["proved", "unproved", "refuted", "refuted", "proved"]
    reasons = [one.reason for one in found[2:]]
    assert reasons == ["a page has a wrong checksum", "orders has 3 rows", ""]
    proved = found[0]
    assert (proved.kind, proved.stop_lsn, proved.stored) == ("full", 0x6000100, 14561837)


def test_a_repository_without_backups_and_one_that_is_unusable() -> None:
    assert pgbackrest.backups("[]") == []
    assert pgbackrest.backups(report(code=2)) == []
    with pytest.raises(GatlingError, match="cannot be used"):
        pgbackrest.backups(report(code=99))
    # as version 2.45 prints it for a bucket that refuses the key
    status = {"code": 99, "lock": {"backup": {"held": False}}, "message": "other"}
    detail = {"code": 99, "message": "[ProtocolError] HTTP request failed with 403 (Forbidden):\nx"}
    invalid = {"name": "[invalid]", "backup": [], "status": status,
               "repo": [{"cipher": "none", "key": 1, "status": detail}]}  # fmt: skip
    with pytest.raises(GatlingError) as caught:
        pgbackrest.backups(json.dumps([invalid]))
    assert "[ProtocolError] HTTP request failed with 403 (Forbidden):" in caught.value.log
    # a file that is decrypted with another passphrase is quoted as it is
    garbled = json.dumps([invalid]).replace("\\nx", "\x19\udc91x")
    with pytest.raises(GatlingError, match="cannot be used"):
        pgbackrest.backups(garbled)


def test_the_backups_of_a_database() -> None:
    every = json.loads(report(entry("a", "0/6000100")))
    other = [{**every[0], "name": name} for name in ("blog.2.8", "shop.2.9", "operator's", "shop")]
    both = json.dumps(every + other)
    assert [one.stanza for one in pgbackrest.backups(both, "shop")] == ["shop.1.7", "shop.2.9"]
    assert [one.generation for one in pgbackrest.backups(both, "blog")] == [2]
    with pytest.raises(ValueError, match="shop"):
        pgbackrest.stanza("shop.1", "7 --x")


def test_the_backup_for_a_moment() -> None:
    every = pgbackrest.backups(
        report(
            entry("a", "0/6000100"),
            entry("b", "0/8000100", error=True, annotation=None),
            entry("c", "1/0000100"),
        )
    )

    def label(place: str, stanza: str = "shop.1.7") -> str | None:
        found = pgbackrest.at_or_before(every, stanza, pgbackrest.lsn(place))
        return found.label if found else None

    assert label("0/6000100") == "a"
    assert label("0/9000000") == "a"  # the one between is damaged
    assert label("1/0000200") == "c"
    assert label("0/6000000") is None
    assert label("1/0000200", "shop.1.8") is None  # a place in the log of another cluster
    unproved = entry("b", "0/8000100", annotation={})
    every = pgbackrest.backups(report(entry("a", "0/6000100"), unproved))
    assert label("0/9000000") == "a"


@pytest.mark.parametrize("text", ["", "6000028", "0/", "0/G", "0/6000028 ", "0/123456789"])
def test_no_place_in_the_log(text: str) -> None:
    with pytest.raises(ValueError, match="not a place"):
        pgbackrest.lsn(text)


def test_notes_are_one_printable_line() -> None:
    assert pgbackrest.note("a\nb\x1b[31m ä") == "a b [31m"
    assert len(pgbackrest.note("x" * 999)) == pgbackrest.MAX_NOTE
    assert pgbackrest.note("\n") == "unknown"
