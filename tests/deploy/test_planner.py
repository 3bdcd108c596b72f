"""The files by which throw-away nodes are asked, in a directory that the app's user owns."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gatling.deploy import planner
from gatling.home import AppPaths
from gatling.releases import untrusted

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def paths(tmp_path: Path) -> AppPaths:
    made = AppPaths(tmp_path / "home", "shop", server=True)
    made.work.mkdir(parents=True)
    return made


def test_they_lie_in_no_directory_that_could_be_exchanged(paths: AppPaths, tmp_path: Path) -> None:
    with planner._files(paths) as answers:
        assert answers.old.parent == answers.new.parent == paths.work
        theirs = tmp_path / "gatlings"
        theirs.write_text("of nobody else")
        os.link(theirs, answers.new)
        answers.old.symlink_to(theirs)
    assert list(paths.work.iterdir()) == []
    assert theirs.read_text() == "of nobody else"
    assert theirs.stat().st_nlink == 1


def test_what_somebody_puts_in_their_place_harms_nobody(paths: AppPaths, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    with planner._files(paths) as answers:
        answers.old.symlink_to(tmp_path / "private")
        (answers.new / "below").mkdir(parents=True)
    assert (tmp_path / "private").is_dir()
    assert list(paths.work.iterdir()) == [answers.new]  # and it is the app's own mess


def test_nothing_is_written_through_a_link(paths: AppPaths, tmp_path: Path) -> None:
    link = paths.work / "planner-old"
    link.symlink_to(tmp_path / "gatlings")
    with pytest.raises(FileExistsError):
        os.close(os.open(link, planner.NEW))
    with pytest.raises(OSError, match="symbolic link"):
        untrusted.read(link, paths.root)
    assert not (tmp_path / "gatlings").exists()
