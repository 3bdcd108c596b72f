"""root's helper and the volume of databases: what it refuses, in which order it works, kills."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import InvalidInput
from gatling.platform.postgres import volume as rules
from gatling.platform.server import cluster_units
from gatling.platform.server.helper import database_packages, databases, machine, volumes

if TYPE_CHECKING:
    from tests.platform.server.helper.conftest import Helper

GIB = 1 << 30
CREATE: dict[str, Any] = {
    "verb": "database-volume", "action": "create", "bytes": 2 * GIB, "move": True,
}  # fmt: skip


class Host:
    """A machine on which the calls of the helper seem to happen; it is killed at one of them."""

    def __init__(self, helper: Helper) -> None:
        self.helper, self.clusters = helper, cluster_units.CLUSTERS
        self.mounted, self.killed_at, self.fails = False, "", ""
        self.active = ["postgresql@15-gatling.shop.1.service"]

    def call(self, argv: list[str], *, check: bool = True, timeout: float = 120) -> str:
        del check, timeout
        self.helper.calls.append(argv)
        line = " ".join(argv)
        if self.killed_at and self.killed_at in line:
            raise KeyboardInterrupt
        if self.fails and self.fails in line:
            raise subprocess.CalledProcessError(1, argv, stderr=b"no such device")
        if "list-units" in line:
            found = self.active if volumes.ALL_CLUSTERS in argv else []
            return json.dumps([{"unit": unit} for unit in found])
        if argv[0] == "fallocate":
            os.truncate(argv[-1], int(argv[2]))
        if argv[0] == "findmnt":
            return "/dev/loop7\n"
        self.mounted = self.mounted or line == f"systemctl start {volumes.UNIT}"
        return ""

    @property
    def lines(self) -> list[str]:
        return [" ".join(argv) for argv in self.helper.calls]


@pytest.fixture
def host(helper: Helper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    for name in ("DATABASES", "CLUSTERS", "CONFIGURATIONS"):
        monkeypatch.setattr(cluster_units, name, tmp_path / name.lower())
    for name in ("FILE", "BEFORE", "TRIAL"):
        monkeypatch.setattr(volumes, name, tmp_path / name.lower())
    made = Host(helper)
    data = made.clusters / "15/gatling.shop.1"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    monkeypatch.setattr(Path, "is_mount", lambda path: path == made.clusters and made.mounted)
    monkeypatch.setattr(machine, "call", made.call)
    monkeypatch.setattr(volumes, "pwd", helper.users)
    helper.users.known["postgres"] = ""
    monkeypatch.setattr(databases, "as_postgres", dict)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/sbin/mkfs.xfs")
    return made


def ask(host: Host, **changes: Any) -> Any:
    return host.helper.ask(CREATE | changes)


@pytest.mark.parametrize("wrong", [
    {"action": "remove"}, {"action": None}, {"move": "yes"}, {"move": 1}, {"bytes": "20G"},
    {"bytes": 1}, {"bytes": 2.5 * GIB}, {"bytes": 1 << 60}, {"bytes": True},
    {"action": "grow", "bytes": None},
])  # fmt: skip
def test_a_volume_that_cannot_be(host: Host, wrong: dict[str, Any]) -> None:
    before = host.helper.files()
    assert "refused" in ask(host, **wrong)
    assert host.lines == []
    assert host.helper.files() == before


def test_databases_are_moved_in_this_order(host: Host) -> None:
    assert ask(host)["there"]
    order = ["fallocate --length", "mkfs.xfs -q -K -m reflink=1", "mount -t xfs", "stop postgresql",
             "umount ", f"start {volumes.UNIT}", "start postgresql@15-gatling.shop.1"]  # fmt: skip
    places = [next(n for n, line in enumerate(host.lines) if part in line and n > 3)
              for part in order]  # fmt: skip
    assert places == sorted(places)
    assert (volumes.BEFORE / "15/gatling.shop.1/PG_VERSION").exists(), "the files of before stay"
    assert (volumes.TRIAL / "15/gatling.shop.1/PG_VERSION").exists(), "they were copied"
    assert volumes.FILE.stat().st_mode & 0o777 == 0o600
    assert volumes.FILE.stat().st_size == 2 * GIB
    assert (host.helper.units / "local-fs.target.wants" / volumes.UNIT).is_symlink()
    again = ask(host)
    assert again["refused"] == "There is a volume already."
    # and it becomes larger, never smaller
    host.helper.forget()
    assert ask(host, action="grow", bytes=3 * GIB, move=False)["bytes"] == 3 * GIB
    assert host.lines[-2:] == ["losetup --set-capacity /dev/loop7", f"xfs_growfs {host.clusters}"]
    assert "cannot become smaller" in ask(host, action="grow", move=False)["refused"]


def test_the_package_is_installed_by_its_name(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_packages, "NO_MAIN", tmp_path / "no_main")
    assert host.helper.ask({"verb": "database-volume-install"}) == {"status": 0}
    assert host.helper.attended[-1][-1].endswith(" postgresql-common xfsprogs")


@pytest.mark.parametrize("step", ["fallocate", "mkfs", "mount -t", "stop postgresql"])
def test_what_fails_leaves_the_databases_running_where_they_were(host: Host, step: str) -> None:
    host.fails = step
    answer = ask(host)
    assert "failed" in answer or "cannot mount XFS: no such device" in answer["refused"]
    assert (host.clusters / "15/gatling.shop.1/PG_VERSION").exists()
    assert not volumes.FILE.exists()
    assert not volumes.BEFORE.exists()
    assert host.lines[-1] == "systemctl start postgresql@15-gatling.shop.1.service"


@pytest.mark.parametrize(
    "step", ["fallocate", "mount -t", "stop postgresql", "daemon-reload", f"start {volumes.UNIT}"]
)
def test_the_same_request_completes_what_was_killed(host: Host, step: str) -> None:
    host.killed_at = step
    with pytest.raises(KeyboardInterrupt):
        volumes.handle(CREATE)
    host.killed_at, host.active = "", []
    decided = step in ("daemon-reload", f"start {volumes.UNIT}")
    if decided:  # no second copy
        host.helper.forget()
        assert not list(host.clusters.iterdir())
    answer = ask(host)
    assert answer["there"]
    assert host.mounted
    if decided:
        assert not any("mkfs" in line for line in host.lines)
    assert (volumes.BEFORE / "15/gatling.shop.1/PG_VERSION").exists()


def test_a_kill_between_the_rename_and_the_decision(host: Host) -> None:
    host.clusters.rename(volumes.BEFORE)
    host.clusters.mkdir()
    assert ask(host)["there"]
    assert (volumes.BEFORE / "15/gatling.shop.1/PG_VERSION").exists()
    assert (volumes.TRIAL / "15/gatling.shop.1/PG_VERSION").exists()


def test_a_boot_without_the_link_mounts_the_volume_for_a_cluster(host: Host) -> None:
    """After a power cut between the two: the unit alone is the decision."""
    assert ask(host)["there"]
    link = host.helper.units / "local-fs.target.wants" / volumes.UNIT
    link.unlink()
    assert ask(host, action="info", move=False)["there"]
    assert ask(host)["refused"] == "There is a volume already."
    assert link.is_symlink()


def test_what_is_refused_before_anything_is_changed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**changes: Any) -> str:
        before = host.helper.files()
        said = ask(host, **changes)["refused"]
        left = {line for line in host.lines if "list-units" not in line} - {"losetup --find"}
        assert left == set()
        assert {*host.helper.files()} - {*before} <= {"databases", "databases/.volume.lock"}
        return str(said)

    assert "clusters of databases (1)" in refused(move=False)
    assert "no volume, or it is not mounted" in refused(action="grow")
    host.fails = "losetup"
    assert "no loop devices" in refused()
    host.fails = ""
    monkeypatch.setattr(volumes, "WORKING", [volumes.ALL_CLUSTERS])
    assert "is running" in refused()
    monkeypatch.setattr(volumes, "WORKING", ["none"])
    assert "are free on the disk of" in refused(bytes=60 << 40)
    with monkeypatch.context() as patch:
        patch.setattr(volumes, "_used", lambda: 2 * GIB)
        assert "needs 3585 MB or more" in refused()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda _: None)
        assert "xfsprogs is not installed" in refused()
    host.mounted = True
    assert "a file system of its own already" in refused()
    host.mounted = False
    volumes.BEFORE.mkdir()
    assert "the files of an earlier move" in refused()


@pytest.mark.parametrize(("text", "count"), [("20G", 20 * GIB), ("1024m", GIB), ("2T", 2048 * GIB)])
def test_sizes(text: str, count: int) -> None:
    assert rules.size(text) == count


@pytest.mark.parametrize("text", ["", "20", "0G", "-1G", "1.5G", "20GB", "900M", "9999T", "G"])
def test_sizes_that_cannot_be(text: str) -> None:
    with pytest.raises(InvalidInput):
        rules.size(text)
