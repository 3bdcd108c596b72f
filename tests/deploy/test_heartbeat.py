"""What a person who waits for a silent step sees, and how time in no step is counted."""

from __future__ import annotations

import contextlib
import re
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from gatling.deploy import heartbeat
from gatling.deploy.journal import Journal
from gatling.state import apps, deployments
from gatling.state.database import open_database
from gatling.ui.progress import Progress
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "printed"


@pytest.fixture
def progress(file: Path) -> Iterator[Progress]:
    with file.open("w") as stream:
        yield Progress(stream)


@pytest.fixture
def journal(tmp_path: Path, progress: Progress) -> Iterator[Journal]:
    with contextlib.closing(open_database(tmp_path / "state.db")) as db:
        apps.create(db, "shop", lambda _: True)
        begun = deployments.begin(db, "shop", cause="push", actor="t", mark="m", commit=None)
        yield Journal(db, begun.id, progress)


def test_a_silent_step_says_that_it_goes_on(
    journal: Journal, progress: Progress, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "SILENCE_SECONDS", 0.05)
    with heartbeat.beating(progress, journal.doing):
        with journal.step("export_source"):
            pass
        journal.between = "starting mix"
        until(lambda: beats(file, "starting mix"), "what is between")
        with journal.step("boot_check"):
            until(lambda: beats(file, "boot check") > 1, "two beats")
        until(lambda: beats(file, "after boot check"), "the end")


def beats(file: Path, name: str) -> int:
    """How often a step was said to go on, for however long on a slow machine."""
    return len(re.findall(rf"^       {name}: \d+ s so far$", file.read_text(), re.MULTILINE))


def test_a_step_that_prints_needs_no_beat(
    journal: Journal, progress: Progress, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def monotonic() -> float:
        """A moment after the last line, however slow the machine is."""
        nonlocal looks
        looks += 1
        return progress.last + 0.04

    monkeypatch.setattr(heartbeat, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "time", SimpleNamespace(monotonic=monotonic))
    with heartbeat.beating(progress, journal.doing), journal.step("mix_compile"):
        progress.line("Compiling")
        until(lambda: looks > 5, "some looks")
    assert "so far" not in file.read_text()


def test_of_nested_steps_each_is_recorded_with_its_own_end(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with journal.step("plan"):
        now[0] += 1
        with journal.step("after_build"):
            now[0] += 5
    with contextlib.suppress(OSError), journal.step("hot_swap"):
        now[0] += 2
        with journal.step("before_watch"):
            now[0] += 3
        with journal.step("settle"):
            now[0] += 4
        raise OSError(28, "full")
    recorded = deployments.get(journal._db, journal._deployment).steps
    assert [(step.name, step.outcome, step.seconds) for step in recorded] == [
        ("plan", "succeeded", 6), ("after_build", "succeeded", 5),
        ("hot_swap", "running", None), ("before_watch", "succeeded", 3),
        ("settle", "succeeded", 4),
    ]  # fmt: skip
    deployments.end(journal._db, journal._deployment, "failed", error="full")
    recorded = deployments.get(journal._db, journal._deployment).steps
    assert [step.outcome for step in recorded] == ["succeeded"] * 2 + [
        "failed",
        "succeeded",
        "succeeded",
    ]


def test_a_phase_ends_with_what_it_has_spent_its_time_on(
    journal: Journal, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [journal.doing()[1]]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    journal.phase("Building")
    with journal.step("export_source"):
        passes(0.01)
    journal.between = "starting mix"
    passes(2)
    with journal.step("mix_deps_get"):
        passes(0.25)
    with journal.step("hot_swap"):
        passes(10)
        with journal.step("before_watch"):
            passes(10)
            assert journal.doing() == ("before_watch", now[0] - 10)
        assert journal.doing() == ("hot_swap", now[0] - 20)
    passes(0.5)
    assert journal.doing() == ("after hot swap", now[0] - 0.5)
    journal.phase("Watching")
    with journal.step("watch"):
        passes(0.01)
    journal.end_phase()
    assert file.read_text() == (
        "-----> Building\n"
        "       before_watch\n"
        "       starting mix 2.0 s · mix deps.get 250 ms · hot swap 20 s\n"
        "-----> Watching\n"
    )
