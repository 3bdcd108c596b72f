"""A reserve of the disk is kept."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gatling import files
from gatling.errors import DiskFull

if TYPE_CHECKING:
    from pathlib import Path


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
