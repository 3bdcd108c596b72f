"""A reserve of the disk is kept, and locks are their owner's alone."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from gatling import files
from gatling.errors import DiskFull, InvalidInput
from gatling.platform import lock


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
