"""Requests for databases that are not Gatling's: root's helper refuses them and runs nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatling.platform.postgres import points
from gatling.platform.postgres.clusters import Cluster
from gatling.platform.server import cluster_units
from gatling.platform.server.helper import backups, database_packages, databases

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
                 "PROOFS", "REPOSITORY"):  # fmt: skip
        monkeypatch.setattr(cluster_units, name, tmp_path / name.lower())
    monkeypatch.setattr(databases, "TMPFILES", tmp_path / "tmpfiles")
    monkeypatch.setattr(database_packages, "NO_MAIN", tmp_path / "no_main")
    monkeypatch.setattr(databases, "pwd", helper.users)
    (helper.server / "apps" / "shop").mkdir()
    return tmp_path


RESTORE: dict[str, Any] = {
    "verb": "database-restore", "database": "shop-restored", "source": "shop",
    "source_generation": 1, "stanza": "shop.1.7301234567890123456", "label": "20260101-031500F",
    "bytes": 31 << 20, "target": "2026-01-31 14:05:00.000000+00", "point": "",
}  # fmt: skip
VERBS = [
    "create",
    "access",
    "facts",
    "point",
    "keep",
    "keep-former",
    "remove",
    "backup",
    "backups",
    "restore",
    "fork",
    "own",
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("wrong", BAD)
def test_a_cluster_that_cannot_be(
    helper: Helper, places: Path, verb: str, wrong: dict[str, Any]
) -> None:
    before = helper.files()
    rest: dict[str, Any] = {"apps": {"shop": "write"}, "stamp": "20260101T000000Z",
                            "kept": "shop-2026.dump", "name": "gatling-v12-1"} | POLICY  # fmt: skip
    assert "refused" in helper.ask(RESTORE | GOOD | rest | {"verb": f"database-{verb}"} | wrong)
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


@pytest.mark.parametrize("name", [
    "", "x", "gatling-v12", "gatling-v0-1", "gatling-v12-", "gatling-v12-1'); DROP",
    "gatling-v12-1\n", "gatling-v12-G", "gatling-v12-1; SELECT 1", "gatling-proof-1",
    "GATLING-v12-1", 12, None, f"gatling-v12-{'a' * 99}", f"gatling-v{'1' * 99}-1",
])  # fmt: skip
def test_a_restore_point_that_cannot_be(helper: Helper, source: Path, name: object) -> None:
    """Its name is the only word of a request that is in SQL."""
    before = helper.files()
    answer = helper.ask(GOOD | {"verb": "database-point", "name": name})
    assert "refused" in answer
    assert helper.calls == []
    assert helper.files() == before


def test_a_restore_point_needs_a_cluster(helper: Helper, places: Path) -> None:
    answer = helper.ask(GOOD | {"verb": "database-point", "name": "gatling-v12-1"})
    assert answer["refused"] == "The database shop is not on this server."
    assert points.NAME.fullmatch(points.name(12, 1 << 63))
    assert points.name(12, 1) != points.name(12, 2)


@pytest.mark.parametrize(
    "kept",
    [
        "",
        "shop-.dump",
        "../../etc/passwd",
        "blog-20260101T000000Z.dump",
        "shop-restored-20260101T000000Z.dump",
        "shop.2-20260101T000000Z.dump",
    ],
)
def test_data_without_a_last_copy_stays(helper: Helper, places: Path, kept: str) -> None:
    data = places / "clusters/15/gatling.shop.1"
    data.mkdir(parents=True)
    (places / "databases").mkdir()
    for other in ("blog", "shop-restored", "shop.2"):
        (places / f"databases/{other}-20260101T000000Z.dump").touch()
    answer = helper.ask(GOOD | {"verb": "database-remove", "kept": kept})
    assert answer["refused"] == "no last copy of it was kept"
    assert helper.calls == []
    assert data.is_dir()


@pytest.mark.parametrize("copy", ["shop", "shop.1"])
def test_what_killed_upgrades_left_goes_with_a_cluster(
    helper: Helper, places: Path, copy: str
) -> None:
    """Another cluster that apps have used stays, and goes by a request of its own."""
    names = ("gatling.shop.1", "gatling.shop.2", "gatling.shop.3", "gatling.shop_restored.2")
    one, left, used, other = (places / "clusters/15" / name for name in names)
    for directory in (one, left, used, other):
        directory.mkdir(parents=True)
    notes = places / "databases"
    notes.mkdir()
    (notes / f"{copy}-20260101T000000Z.dump").touch()
    for label in ("shop.2", "shop-restored.2"):
        (notes / f"restoring-15-{label}").touch()
    kept = f"/anywhere/{copy}-20260101T000000Z.dump"
    assert helper.ask(GOOD | {"verb": "database-remove", "kept": kept}) == {}
    assert [path.exists() for path in (one, left, used, other)] == [False, False, True, True]
    assert {note.name for note in notes.glob("[mr]*-15-*")} == {"restoring-15-shop-restored.2"}


@pytest.mark.parametrize("enabled", [False, True])
def test_a_cluster_is_dropped_with_one_reload(
    helper: Helper, places: Path, monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    """pg_dropcluster reloads systemd, and disables units, only for what somebody has enabled."""
    monkeypatch.setattr(databases, "UNITS", helper.units)
    keeps, update = places / "autoremove", places / "pg_updateaptconfig"
    monkeypatch.setattr(databases, "APT_KEEPS", keeps)
    monkeypatch.setattr(databases, "UPDATE_APT", update)
    update.touch()
    keeps.write_text('    "^postgresql.*-15";\n')
    wants = helper.units / "timers.target.wants"
    wants.mkdir()
    (wants / "pg_dump@15-gatling.shop.10.timer").touch()  # of another cluster
    if enabled:
        (wants / "pg_dump@15-gatling.shop.1.timer").touch()
    (places / "configurations/15/gatling.shop.1").mkdir(parents=True)
    (places / "databases").mkdir()
    (places / "databases/making-15-shop.1").touch()
    assert helper.ask(GOOD | {"verb": "database-remove", "kept": ""}) == {}
    (dropped,) = [words for words in helper.calls if "pg_dropcluster" in words]
    assert (dropped[0] == "pg_dropcluster") == enabled
    assert helper.calls.count(["systemctl", "daemon-reload"]) == 1
    # apt no longer keeps the packages of a version that has no cluster any more
    assert [str(update)] in helper.calls


def test_a_copy_of_a_cluster_whose_version_was_removed(helper: Helper, places: Path) -> None:
    (places / "configurations/15/gatling.shop.1").mkdir(parents=True)
    wanted = {"verb": "database-keep-former", "stamp": "20260101T000000Z"}
    answer = helper.ask(GOOD | wanted)
    assert "that version is not installed any more" in answer["refused"]
    assert "pg_dropcluster 15 gatling.shop.1" in answer["hint"]
    assert helper.calls == []


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


@pytest.fixture
def source(places: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data of a database that can be restored under another name."""
    monkeypatch.setattr(backups, "PROGRAM", Path(__file__))
    (places / "configurations/15/gatling.shop.1").mkdir(parents=True)
    data = places / "clusters/15/gatling.shop.1"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    return data


@pytest.mark.parametrize("wrong", [
    {"source": "../shop"}, {"source": "Shop"}, {"source": 5}, {"source": "a\nb"},
    {"source_generation": 0}, {"source_generation": "1"}, {"source_generation": True},
    {"stanza": "blog.1.7301234567890123456"}, {"stanza": "shop.2.7301234567890123456"},
    {"stanza": "shop.1.73 --repo1-path=/tmp"}, {"stanza": "../shop.1.73"}, {"stanza": ""},
    {"stanza": "shop.1.73\n"}, {"label": "latest"}, {"label": "../20260101-031500F"},
    {"label": "20260101-031500F --delta"}, {"label": "20260101-031500F\n"}, {"label": 5},
    {"target": "now"}, {"target": "2026-01-31 14:05:00+00"}, {"target": "x' --delta"},
    {"target": "2026-01-31 14:05:00.000000+00\n"}, {"target": None}, {"bytes": -1},
    {"bytes": "1"}, {"bytes": 1 << 60}, {"database": "shop"}, {"database": "shop.new"},
    {"point": "gatling-v12-1"}, {"point": None}, {"target": "", "point": "x"},
    {"target": "", "point": "gatling-v12-1 --delta"}, {"target": "", "point": "gatling-v12-1\n"},
])  # fmt: skip
def test_a_restore_that_cannot_be(
    helper: Helper, source: Path, places: Path, wrong: dict[str, Any]
) -> None:
    before = helper.files()
    assert "refused" in helper.ask(GOOD | RESTORE | wrong)
    assert helper.calls == []
    assert helper.programs == []
    assert helper.files() == before


def test_a_restore_runs_as_postgres_and_cannot_change_other_clusters(
    helper: Helper, source: Path, places: Path
) -> None:
    operators = places / "clusters/15/main"
    operators.mkdir()
    assert helper.ask(GOOD | RESTORE)["status"] == 0
    (program,) = helper.programs
    assert program["unit"] == "gatling-restore-shop-restored.1.service"
    properties = dict(text.split("=", 1) for text in program["properties"])
    assert properties["User"] == "postgres"
    assert {"PrivateNetwork", "NoNewPrivileges", "MemoryMax", "TasksMax"} <= set(properties)
    assert set(properties["ReadOnlyPaths"].split()) == {f"-{source}", f"-{operators}"}
    assert "configurations" not in properties["ReadWritePaths"]
    # it has restored nothing here, so nothing of it is left
    assert not list((places / "databases").glob("restoring-*"))
    assert (source / "PG_VERSION").read_text() == "15\n"


@pytest.mark.parametrize("left", ["clusters", "configurations"])
def test_a_restore_leaves_a_cluster_that_is_there(
    helper: Helper, source: Path, places: Path, left: str
) -> None:
    there = places / left / "15/gatling.shop_restored.1"
    there.mkdir(parents=True)
    answer = helper.ask(GOOD | RESTORE)
    assert answer["refused"] == "The database shop-restored is there already."
    assert there.is_dir()
    assert helper.calls == []
    assert helper.programs == []


@pytest.mark.parametrize("verb", ["database-restore", "database-remove"])
def test_what_a_killed_restore_leaves_can_go(
    helper: Helper, source: Path, places: Path, verb: str
) -> None:
    """root's note says that no app has had access, so no last copy is needed."""
    clusters = places / "clusters/15"
    left = [clusters / "gatling.shop_restored.1", clusters / "gatling.shop_restored.1.new",
            places / "proofs/shop-restored.1"]  # fmt: skip
    for directory in left:
        directory.mkdir(parents=True)
    (places / "databases").mkdir()
    (places / "databases/restoring-15-shop-restored.1").touch()
    assert "refused" not in helper.ask(GOOD | RESTORE | {"verb": verb, "kept": ""})
    assert [directory for directory in left if directory.exists()] == []
    assert not (places / "databases/restoring-15-shop-restored.1").exists()
    assert source.is_dir()


PLACE: dict[str, Any] = {
    "kind": "s3", "host": "s3.example.com", "port": 443, "path": "/gatling", "bucket": "backups",
    "region": "eu-1", "key": "AKIA", "key_secret": "hidden", "passphrase": "correct-horse",
}  # fmt: skip


@pytest.mark.parametrize("wrong", [
    {"host": "x\nrepo1-path=/"}, {"host": "-x"}, {"path": "/a/../b"}, {"bucket": "a b"},
    {"key_secret": "a\nb"}, {"key_secret": 5}, {"port": "443"}, {"kind": "gcs"},
    {"ca_file": "../x"}, {"passphrase": "x"}, {"unknown": "x"}, {"region": ""},
])  # fmt: skip
def test_a_repository_that_cannot_be(
    helper: Helper, source: Path, places: Path, wrong: dict[str, Any]
) -> None:
    before = helper.files()
    asked = {"verb": "database-repository-set", "keep": False, "repository": PLACE | wrong}
    assert "refused" in helper.ask(asked)
    assert helper.files() == before
    for other in ({"repository": None}, {"keep": 1}, {"repository": [PLACE]}):
        assert "refused" in helper.ask(asked | {"repository": PLACE} | other)
    assert helper.files() == before


def test_secrets_of_a_repository_are_not_answered(helper: Helper, places: Path) -> None:
    assert helper.ask({"verb": "database-repository"})["kind"] == "directory"
    cluster_units.REPOSITORY.write_text(json.dumps(PLACE))
    answer = helper.ask({"verb": "database-repository"})
    assert (answer["kind"], answer["bucket"]) == ("s3", "backups")
    assert "hidden" not in json.dumps(answer)
    assert "correct-horse" not in json.dumps(answer)
    # the directory of this machine is used again, and needs nothing
    asked = {"verb": "database-repository-set", "keep": False, "repository": {"kind": "directory"}}
    assert helper.ask(asked) == {}
    assert not cluster_units.REPOSITORY.exists()


def test_the_network_is_only_for_a_repository_elsewhere(helper: Helper, places: Path) -> None:
    cluster = Cluster("shop", 15)
    for properties in (
        cluster_units.backup_properties(cluster),
        cluster_units.restore_properties([]),
    ):
        assert "PrivateNetwork=yes" in properties
    cluster_units.REPOSITORY.write_text(json.dumps(PLACE))
    for properties in (
        cluster_units.backup_properties(cluster),
        cluster_units.restore_properties([]),
    ):
        assert "PrivateNetwork=yes" not in properties
        assert "NoNewPrivileges=yes" in properties


FORK: dict[str, Any] = {
    "verb": "database-fork", "database": "shop-try", "source": "shop", "source_generation": 1,
    "apps": {"shop": "write"}, "app": "shop", "schema_only": False, "scrub": "",
}  # fmt: skip


@pytest.mark.parametrize("wrong", [
    {"source": "../shop"}, {"source": "Shop"}, {"source": 5}, {"source_generation": 0},
    {"source_generation": True}, {"database": "shop"}, {"apps": {"blog": "write"}}, {"apps": None},
    {"app": "blog"}, {"app": "../shop"}, {"app": 5}, {"app": "postgres"}, {"schema_only": 1},
    {"schema_only": None}, {"scrub": None}, {"scrub": ["SELECT 1"]}, {"scrub": "x" * 200_000},
    {"scrub": "\0"},
])  # fmt: skip
def test_a_fork_that_cannot_be(
    helper: Helper, source: Path, places: Path, wrong: dict[str, Any]
) -> None:
    before = helper.files()
    assert "refused" in helper.ask(GOOD | FORK | wrong)
    assert helper.calls == []
    assert helper.programs == []
    assert helper.files() == before


def test_only_a_fork_goes_without_a_last_copy(helper: Helper, source: Path, places: Path) -> None:
    """It does until it is taken for a database like others, or another one gets its name."""
    data = places / "clusters/15/gatling.shop_try.1"
    note = places / "databases/fork-15-shop-try.1"
    (places / "configurations/15/gatling.shop_try.1").mkdir(parents=True)
    note.parent.mkdir()
    gone = GOOD | {"verb": "database-remove", "database": "shop-try", "kept": ""}
    data.mkdir(parents=True)
    assert helper.ask(gone)["refused"] == "no last copy of it was kept"
    note.touch()
    assert helper.ask(gone | {"database": "shop"})["refused"] == "no last copy of it was kept"
    assert helper.ask(GOOD | {"verb": "database-own", "database": "shop-try"}) == {}
    assert helper.ask(gone)["refused"] == "no last copy of it was kept"
    assert data.is_dir()
    note.touch()
    assert helper.ask(gone) == {}
    assert not data.exists()
    assert not note.exists()
