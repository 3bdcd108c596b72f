"""A reserve of the disk is kept, and locks are their owner's alone."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from gatling import files
from gatling.errors import DiskFull, InvalidInput
from gatling.platform import lock
from gatling.platform.server.helper import nginx, unit_files


class Disk:
    """What statvfs(3) says of a disk."""

    f_frsize = 4096

    def __init__(self, free: int, files: int = 1_000_000, left: int = 1_000_000) -> None:
        self.f_bavail, self.f_files, self.f_favail = free // self.f_frsize, files, left


@pytest.mark.parametrize(
    ("disk", "why"),
    [
        (Disk(1 << 30), None),
        (Disk(10 << 20), "10 MB are free"),
        (Disk(1 << 30, left=100), "100 more files fit"),
        (Disk(1 << 30, files=0, left=0), None),  # btrfs: it does not count them
    ],
)
def test_what_would_fill_the_disk_does_not_begin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, disk: Disk, why: str | None
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    if why is None:
        files.need_space(tmp_path, "A build")
        return
    with pytest.raises(DiskFull, match=why):
        files.need_space(tmp_path, "A build")


def test_a_place_that_is_not_there_is_somebody_else_s_to_tell(tmp_path: Path) -> None:
    files.need_space(tmp_path / "nowhere", "A build")


def test_a_lock_can_be_held_by_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with files.locked(tmp_path / "new"):
            assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
        old = tmp_path / "old"
        old.touch(mode=0o644)
        with lock.try_hold(old) as held:
            assert held
            assert old.stat().st_mode & 0o777 == 0o600
        old.chmod(0o644)
        with lock.hold(old, lambda: None):
            assert old.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    (tmp_path / "link").symlink_to(old)
    with pytest.raises(OSError, match="symbolic links"), files.locked(tmp_path / "link"):
        pass


def test_no_other_module_opens_the_file_of_a_lock_with_the_usual_mode() -> None:
    """Whatever is locked is a directory, or opened with a mode of its own, or by open_lock."""
    source = Path(files.__file__).parent
    locking = [path for path in source.rglob("*.py")
               if re.search(r"flock\(|files\.try_lock\(", path.read_text())]  # fmt: skip
    assert len(locking) > 5
    for path in locking:
        for line in path.read_text().splitlines():
            assert not re.search(r"\.open\(\"[aw]\+?\"\)", line), f"{path}: {line}"


def test_who_waits_for_a_lock_can_give_up(tmp_path: Path) -> None:
    def give_up() -> None:
        raise InvalidInput("enough")

    with (
        files.locked(tmp_path / "lock"),
        pytest.raises(InvalidInput, match="enough"),
        files.locked(tmp_path / "lock", give_up),
    ):
        pass


def noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The calls of fsync(2) and rename(2) from now on, in their order, with what they are about."""
    calls: list[tuple[str, str]] = []
    sync, rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        calls.append(("fsync", str(Path(f"/proc/self/fd/{fd}").readlink())))
        sync(fd)

    def renamed(self: Path, target: Path) -> Path:
        calls.append(("rename", f"{self} {target}"))
        rename(self, target)
        return target

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    return calls


def replacing(directory: Path, name: str) -> list[tuple[str, str]]:
    """How a file is replaced so that a power cut leaves its old or its new content, whole."""
    new = str(directory / f".{name}.{os.getpid()}.new")
    return [("fsync", new), ("rename", f"{new} {directory / name}"), ("fsync", str(directory))]


def test_a_file_is_on_the_disk_before_it_replaces_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = noted(monkeypatch)
    files.write(tmp_path / "sites.conf", "server {}")
    assert calls == replacing(tmp_path, "sites.conf")


def test_units_and_the_configuration_of_nginx_are_replaced_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an app runs with after a power cut: an empty drop-in would name no user."""
    units, sites = tmp_path / "units", tmp_path / "sites"
    units.mkdir()
    sites.mkdir()
    calls = noted(monkeypatch)
    with (tmp_path / "untold").open("w+") as untold:
        unit_files.UnitFiles(untold).write(units / "gatling@shop.conf", "[Service]")
    nginx._replace(sites / "sites.conf", "server {}")
    for expected in (replacing(units, "gatling@shop.conf"), replacing(sites, "sites.conf")):
        assert [call for call in calls if call in expected] == expected


_RENAMES = re.compile(r"\.rename\(|os\.(?:replace|rename)\(")
MAY_RENAME = {
    "files.py": "this is the function that others use",
    "beam/compiler.py": "a cache, which is compiled again",
    "cli/ca.py": "no rename",
    "platform/applog.py": "whole files that only get another number",
    "platform/embedded/launch.py": "a process, which no power cut leaves running",
    "platform/enter.py": "in /run, which is no disk",
    "platform/server/helper/apps.py": "directories that are empty, or about to be removed",
    "platform/toolchains/fetch.py": "within a working directory; store.py syncs what comes of it",
    "proxy/route.py": "empty files; recovery points again",
    "releases/static.py": "links, which recovery makes again",
}
"""Modules in which a rename needs no fsync, or is not one."""


def test_who_renames_also_syncs() -> None:
    """A new way to replace a file is seen: its module must sync, or say why it need not."""
    root = Path(files.__file__).parent
    lacking = [
        name
        for path in sorted(root.rglob("*.py"))
        if (name := str(path.relative_to(root))) not in MAY_RENAME
        and _RENAMES.search(text := path.read_text())
        and not re.search(r"fsync|syncfs|files\.(?:write|sync)|sync\(", text)
    ]
    assert lacking == []
