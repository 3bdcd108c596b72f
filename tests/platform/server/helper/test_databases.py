"""Requests for databases that are not Gatling's: root's helper refuses them and runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatling.platform.server import cluster_units
from gatling.platform.server.helper import backups, databases

if TYPE_CHECKING:
    from tests.platform.server.helper.conftest import Helper

GOOD: dict[str, Any] = {"database": "shop", "version": 15, "generation": 1}
POLICY: dict[str, Any] = {"full": False, "count": 2, "days": 14}
BAD = [
    {"database": "../shop"}, {"database": "shop;id"}, {"database": "a\nb"}, {"database": 5},
    {"database": "Shop"}, {"version": "15"}, {"version": True}, {"version": 14}, {"version": 100},
    {"version": 15.5}, {"generation": 0}, {"generation": -1}, {"generation": 10**9},
]  # fmt: skip


@pytest.fixture
def places(helper: Helper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASES", "CLUSTERS", "CONFIGURATIONS", "PROGRAMS", "SOCKETS", "BACKUPS",
                 "PROOFS"):  # fmt: skip
        monkeypatch.setattr(cluster_units, name, tmp_path / name.lower())
    for name in ("TMPFILES", "NO_MAIN"):
        monkeypatch.setattr(databases, name, tmp_path / name.lower())
    monkeypatch.setattr(databases, "pwd", helper.users)
    (helper.server / "apps" / "shop").mkdir()
    return tmp_path


VERBS = ["create", "access", "facts", "keep", "remove", "backup", "backups"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("wrong", BAD)
def test_a_cluster_that_cannot_be(
    helper: Helper, places: Path, verb: str, wrong: dict[str, Any]
) -> None:
    before = helper.files()
    rest: dict[str, Any] = {"apps": {"shop": "write"}, "stamp": "20260101T000000Z",
                            "kept": "shop-2026.dump"} | POLICY  # fmt: skip
    assert "refused" in helper.ask(GOOD | rest | {"verb": f"database-{verb}"} | wrong)
    assert helper.calls == []
    assert helper.files() == before


@pytest.mark.parametrize("verb", ["create", "access", "backup"])
@pytest.mark.parametrize("apps", [
    None, [], {"blog": "write"}, {"shop": "superuser"}, {"shop": ["write"]}, {"../shop": "write"},
    {"shop": "write", "": "read"}, {f"a{number}": "read" for number in range(100)},
])  # fmt: skip
def test_an_app_that_cannot_be(helper: Helper, places: Path, verb: str, apps: object) -> None:
    before = helper.files()
    assert "refused" in helper.ask(GOOD | POLICY | {"verb": f"database-{verb}", "apps": apps})
    assert helper.calls == []
    assert helper.files() == before


@pytest.mark.parametrize("version", ["17; id", "9", "../15", "15 evil", "-o=x", "99999"])
def test_a_package_that_cannot_be(helper: Helper, places: Path, version: str) -> None:
    before = helper.files()
    assert "refused" in helper.ask({"verb": "database-install", "version": version})
    assert helper.attended == []
    assert helper.files() == before


def test_a_version_that_is_not_installed(helper: Helper, places: Path) -> None:
    answer = helper.ask(GOOD | {"verb": "database-create", "apps": {"shop": "write"}})
    assert answer["refused"] == "PostgreSQL 15 is not installed on this server."
    assert helper.calls == []


@pytest.mark.parametrize(
    "kept", ["", "shop-.dump", "../../etc/passwd", "blog-20260101T000000Z.dump"]
)
def test_data_without_a_last_copy_stays(helper: Helper, places: Path, kept: str) -> None:
    data = places / "clusters/15/gatling.shop.1"
    data.mkdir(parents=True)
    (places / "databases").mkdir()
    (places / "databases/blog-20260101T000000Z.dump").touch()
    answer = helper.ask(GOOD | {"verb": "database-remove", "kept": kept})
    assert answer["refused"] == "no last copy of it was kept"
    assert helper.calls == []
    assert data.is_dir()


def test_an_operator_s_cluster_is_not_touched(helper: Helper, places: Path) -> None:
    """Clusters of apps have names that nobody else's have, and `making` says which may go."""
    (places / "clusters/15/main").mkdir(parents=True)
    (places / "databases").mkdir()
    answer = helper.ask(GOOD | {"database": "main", "verb": "database-remove", "kept": ""})
    assert answer == {}
    assert (places / "clusters/15/main").is_dir()


@pytest.mark.parametrize("wrong", [
    {"full": 1}, {"full": "--x"}, {"full": None}, {"count": 0}, {"count": "2"}, {"count": 10**9},
    {"days": -1}, {"days": "; id"}, {"days": 10**9},
])  # fmt: skip
def test_a_backup_that_cannot_be(helper: Helper, places: Path, wrong: dict[str, Any]) -> None:
    before = helper.files()
    wanted = {"verb": "database-backup", "apps": {"shop": "write"}} | POLICY
    assert "refused" in helper.ask(GOOD | wanted | wrong)
    assert helper.calls == []
    assert helper.attended == []
    assert helper.files() == before


def test_a_backup_without_the_program_or_the_cluster(
    helper: Helper, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = GOOD | POLICY | {"verb": "database-backup", "apps": {"shop": "write"}}
    monkeypatch.setattr(backups, "PROGRAM", places / "none")
    assert "is not installed" in helper.ask(wanted)["refused"]
    assert helper.ask(GOOD | {"verb": "database-backups"}) == {"backups": []}
    monkeypatch.setattr(backups, "PROGRAM", Path(__file__))
    assert "is not on this server" in helper.ask(wanted)["refused"]
    assert helper.attended == []
    assert not cluster_units.BACKUPS.exists()
