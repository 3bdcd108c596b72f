"""The files by which throw-away nodes are asked, in a directory that the app's user owns."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.deploy.plan import inspection
from gatling.errors import Interrupted, PlannerFailed
from gatling.platform.embedded.home import EmbeddedPaths
from gatling.platform.embedded.tasks import LocalTasks
from gatling.platform.server.home import ServerPaths
from gatling.releases import safe_copy
from gatling.state.apps import App
from tests.deploy.plan.test_plan import release
from tests.places import surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def paths(tmp_path: Path) -> ServerPaths:
    made = ServerPaths(tmp_path / "home", "shop")
    made.work.mkdir(parents=True)
    return made


def test_they_lie_in_no_directory_that_could_be_exchanged(
    paths: ServerPaths, tmp_path: Path
) -> None:
    with inspection._files(paths, private_tmp=True) as answers:
        assert answers.old.parent == answers.new.parent == paths.work
        theirs = tmp_path / "gatlings"
        theirs.write_text("of nobody else")
        os.link(theirs, answers.new)
        answers.old.symlink_to(theirs)
    assert list(paths.work.iterdir()) == []
    assert theirs.read_text() == "of nobody else"
    assert theirs.stat().st_nlink == 1


def test_what_somebody_puts_in_their_place_harms_nobody(paths: ServerPaths, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    with inspection._files(paths, private_tmp=True) as answers:
        answers.old.symlink_to(tmp_path / "private")
        (answers.new / "below").mkdir(parents=True)
    assert (tmp_path / "private").is_dir()
    assert list(paths.work.iterdir()) == [answers.new]  # and it is the app's own mess


def test_nothing_is_written_through_a_link(paths: ServerPaths, tmp_path: Path) -> None:
    link = paths.work / "planner-old"
    link.symlink_to(tmp_path / "gatlings")
    with pytest.raises(FileExistsError):
        os.close(os.open(link, inspection.NEW))
    with pytest.raises(OSError, match="symbolic link"):
        safe_copy.read(link, paths.root)
    assert not (tmp_path / "gatlings").exists()


@pytest.fixture
def trees(tmp_path: Path) -> EmbeddedPaths:
    """Two releases whose script is the test's own, and writes its pid."""
    paths = EmbeddedPaths(tmp_path / "home", "shop")
    for number in (1, 2):
        tree = paths.release(number)
        (tree / "bin").mkdir(parents=True)
        (tree / "lib/shop-0.1.0/ebin").mkdir(parents=True)
        (tree / "releases").mkdir()
        (tree / "releases/start_erl.data").write_text("13.0 0.1.0")
    return paths


def scripted(paths: EmbeddedPaths, *lines: str) -> None:
    for number in (1, 2):
        script = paths.release(number) / "bin/shop"
        script.write_text("\n".join(["#!/bin/sh", f"echo $$ > {paths.root}/pid.{number}", *lines]))
        script.chmod(0o755)


def ask(paths: EmbeddedPaths) -> None:
    app = App(
        name="shop", created_at="", domains=("shop.localhost",), ports={1: 20001, 2: 20002},
        node_ports={1: 20003, 2: 20004}, live_release=1, live_slot=1, wanted="running",
        settings={}, manifest={},
    )  # fmt: skip
    with inspection.ask(
        LocalTasks(), surroundings(paths.home), app, release(1), release(2), [], []
    ):
        pass


@pytest.fixture
def interrupted() -> Iterator[None]:
    """Ctrl-C after a second, as a deployment sees it."""

    def handle(*_: object) -> None:
        raise Interrupted("Ctrl-C")

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 1)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("interrupted")
def test_an_interruption_ends_the_nodes(trees: EmbeddedPaths) -> None:
    scripted(trees, "sleep 300", "echo never")
    started = time.monotonic()
    with pytest.raises(Interrupted):
        ask(trees)
    assert time.monotonic() - started < 30
    pids = [(trees.root / f"pid.{number}").read_text().strip() for number in (1, 2)]
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_release_that_does_not_boot_is_told_with_its_cause(trees: EmbeddedPaths) -> None:
    scripted(
        trees, "echo 'ERROR! Config provider failed with:'", "echo '** (KeyError) no :a'", "exit 1"
    )
    with pytest.raises(PlannerFailed) as caught:
        ask(trees)
    assert caught.value.what == "v1 does not boot: ** (KeyError) no :a"
