"""Making backups of a directory that stands for a server's."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

from gatling import files
from gatling.errors import DiskFull, GatlingError, InvalidInput
from gatling.host import archive, backup
from gatling.platform import lock
from gatling.platform.server.home import ServerHome
from tests.host.archives import Server, filled, read


def test_a_backup_is_its_owners_alone_and_replaces_nothing(old: Server, made: Path) -> None:
    assert made.stat().st_mode & 0o777 == 0o600
    before = made.read_bytes()
    with pytest.raises(InvalidInput, match="exists already"):
        backup.backup(made, old.root)
    dangling = made.with_name("link")
    dangling.symlink_to(made.with_name("nowhere"))
    with pytest.raises(InvalidInput, match="exists already"):
        backup.backup(dangling, old.root)
    assert made.read_bytes() == before
    assert sorted(p.name for p in made.parent.iterdir()) == ["b.tar.gz", "link", "old"]


def test_equal_files_of_releases_are_in_it_once(made: Path) -> None:
    links = {info.name: info.linkname for info, _ in read(made) if info.islnk()}
    assert links == {"apps/shop/releases/v2/bin/shop": "apps/shop/releases/v1/bin/shop"}


def test_what_cannot_be_in_it_is_told(old: Server, tmp_path: Path) -> None:
    os.mkfifo(old.app("shop") / "state" / "pipe")
    deep = old.app("shop") / "state"
    for _ in range(120):
        deep /= "d"
        deep.mkdir()
    said = backup.backup(tmp_path / "b.tar.gz", old.root)
    assert "left out: 'apps/shop/state/pipe'" in said
    assert said.count("left out") == 2


def test_a_full_disk_leaves_no_file(
    old: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(DiskFull):
        backup.backup(tmp_path / "b.tar.gz", old.root)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_a_deployment_is_held_off_while_its_app_is_copied(
    old: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(app: str) -> bool:
        with lock.try_hold(old.app(app) / "lock") as free:
            return not free

    seen = {}
    real = backup._Writer._directory

    def spy(self: Any, path: str, within: int | None, where: tuple[str, ...]) -> None:
        seen[where[1:3]] = (held("idle"), held("shop"))
        real(self, path, within, where)

    monkeypatch.setattr(backup._Writer, "_directory", spy)
    backup.backup(tmp_path / "b.tar.gz", old.root)
    assert seen["idle", "state"] == (True, True)
    assert seen["shop", "logs"] == (False, True)
    assert (held("idle"), held("shop")) == (False, False)


def test_a_file_that_shrinks_meanwhile_does_not_break_a_backup(
    old: Server, new: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = old.app("shop") / "state" / "log"
    file.write_text("x" * 100_000)
    real = archive.Exactly.__init__

    def cut(self: Any, opened: Any) -> None:
        if os.fstat(opened.fileno()).st_size == 100_000:
            os.truncate(file, 10)
        real(self, opened)

    monkeypatch.setattr(archive.Exactly, "__init__", cut)
    backup.backup(tmp_path / "b.tar.gz", old.root)
    new.restore(tmp_path / "b.tar.gz")
    assert (new.app("shop") / "state/log").read_bytes() == b"x" * 10 + bytes(99_990)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as others")
def test_an_app_cannot_have_others_files_backed_up(tmp_path: Path) -> None:
    root = Path(tempfile.mkdtemp(prefix="gatling-", dir="/tmp"))  # where others can come
    try:
        old = filled(root / "old")
        state = old.app("shop") / "state"
        for path in (root, old.root, old.root / "apps", old.app("shop")):
            path.chmod(0o755)
        (state / "roots").write_text("root only")
        (state / "roots").chmod(0o600)
        for path in (state, *(state / name for name in ("deep", "deep/er", "deep/er/a\nb"))):
            os.chown(path, 65534, 65534)
        said = backup.backup(tmp_path / "b.tar.gz", old.root)
    finally:
        shutil.rmtree(root)
    assert "left out: 'apps/shop/state/roots'" in said
    contents = [content for _, content in read(tmp_path / "b.tar.gz")]
    assert b"data" in contents
    assert b"root only" not in contents
    assert os.geteuid() == os.getegid() == 0


def test_only_a_host_of_gatlings_is_backed_up(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not a Gatling host"):
        backup.backup(tmp_path / "b", tmp_path)


def test_a_sparse_file_is_left_out_and_said(old: Server, tmp_path: Path) -> None:
    with (old.app("shop") / "state" / "hole").open("wb") as file:
        file.truncate(1 << 40)
    said = backup.backup(tmp_path / "b.tar.gz", old.root)
    assert "left out: 'apps/shop/state/hole (sparse, 1048576 MB)'" in said
    assert not [info for info, _ in read(tmp_path / "b.tar.gz") if info.name.endswith("hole")]


def test_a_backup_that_waits_for_one_app_holds_no_other(
    old: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *others, last = backup.app_names(ServerHome(old.root / "home"))
    assert others
    free = set[str]()

    def look(_: float) -> None:
        for name in others:
            with lock.try_hold(old.app(name) / "lock") as mine:
                if mine:
                    free.add(name)

    monkeypatch.setattr(backup, "PATIENCE_SECONDS", 1)
    monkeypatch.setattr("time.sleep", look)
    with (
        lock.hold(old.app(last) / "lock", lambda: None),
        pytest.raises(GatlingError, match=f"most recently of {last}"),
    ):
        backup.backup(tmp_path / "b.tar.gz", old.root)
    # a process that another thread is starting may keep a lock until its exec, so not every time
    assert free == set(others)
    assert not (tmp_path / "b.tar.gz").exists()


def test_a_backup_stops_before_the_disk_is_full(
    old: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "RESERVE_BYTES", 1 << 60)
    with pytest.raises(DiskFull, match="The backup needs room"):
        backup.backup(tmp_path / "b.tar.gz", old.root)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
