"""supervisord as it is, with programs that need no release: ends, pauses, and what is left."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.platform import restarts
from gatling.platform.base import Instance, State
from gatling.platform.embedded import instances
from gatling.platform.embedded.instances import EmbeddedInstances
from gatling.platform.embedded.supervisord import Supervisord
from tests.conftest import until
from tests.places import embedded_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.platform.embedded.home import EmbeddedHome

DAEMON = "setsid sh -c 'trap : TERM HUP; while sleep 1; do :; done' &"


@pytest.fixture
def home() -> Iterator[EmbeddedHome]:
    with tempfile.TemporaryDirectory(prefix="gt-") as directory:
        yield embedded_home(Path(directory) / "home")


@pytest.fixture
def supervisor(home: EmbeddedHome) -> Iterator[EmbeddedInstances]:
    programs = Supervisord(home)
    made = EmbeddedInstances(home, programs)
    home.app("shop").logs.mkdir(parents=True)
    instances.configure(home, programs, "shop")
    made.ensure_running()
    try:
        yield made
    finally:
        made.stop("shop", 1, 5)
        made.shut_down()


def start(supervisor: EmbeddedInstances, script: str) -> None:
    argv, env = ("/bin/sh", "-c", script), {"PATH": os.environ["PATH"]}
    supervisor.start(Instance("shop", 1, 3, argv, env, Path("/")))


def marked(home: EmbeddedHome) -> list[int]:
    wanted = f"GATLING_MARK=slot:{home.app('shop').slot(1)}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_one_that_ends_again_and_again_waits_longer_each_time(
    home: EmbeddedHome, supervisor: EmbeddedInstances
) -> None:
    start(supervisor, "exit 7")
    until(lambda: len(supervisor.ends("shop", 1)) >= 4, "four ends", 60)
    ends = supervisor.ends("shop", 1)
    assert {end.cause for end in ends} == {"exited with status 7"}
    begun = [end.at - end.after for end in ends]
    assert [pause >= least for pause, least in zip(
        (after - before for before, after in itertools.pairwise(begun)), (0, 0.9, 1.9),
        strict=False,
    )] == [True] * 3  # fmt: skip
    until(lambda: supervisor.status("shop", 1).state == State.RESTARTING, "a pause")
    lines = home.app("shop").instance_log.read_text()
    assert " v3 -- instance exited with status 7 after " in lines
    assert "; restart 3 within an hour, in 2 s\n" in lines
    file = home.app("shop").slot(1) / "ends"
    file.write_text(file.read_text() * restarts.HOPELESS)
    assert supervisor.status("shop", 1).state == State.FAILED
    supervisor.stop("shop", 1, 5)
    assert supervisor.ends("shop", 1) == []


def test_a_program_that_runs_is_left_alone_by_a_change_of_its_configuration(
    home: EmbeddedHome, supervisor: EmbeddedInstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade of Gatling: another Python runs it."""
    start(supervisor, "exec sleep 600")
    until(lambda: supervisor.status("shop", 1).pid is not None, "the program")
    pid = supervisor.status("shop", 1).pid
    other = home.root / "python"
    other.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(other))
    argv, env = ("/bin/sh", "-c", "exec sleep 600"), {"PATH": os.environ["PATH"]}
    supervisor.start(Instance("shop", 2, 4, argv, env, Path("/")))
    until(lambda: supervisor.status("shop", 2).pid is not None, "the program of the other slot")
    assert supervisor.status("shop", 1).pid == pid
    supervisor.stop("shop", 1, 5)
    seen = home.root / "seen"
    monkeypatch.setattr(sys, "executable", _noting(home.root / "third", seen))
    start(supervisor, "exec sleep 600")
    until(lambda: supervisor.status("shop", 1).pid is not None, "the program, once more")
    until(seen.exists, "the Python of its start")
    supervisor.stop("shop", 2, 5)


def _noting(file: Path, seen: Path) -> str:
    """A Python that leaves a trace of having run."""
    file.write_text(f'#!/bin/sh\ntouch {seen}\nexec {sys.executable} "$@"\n')
    file.chmod(0o755)
    return str(file)


def test_what_it_has_started_ends_with_it(
    home: EmbeddedHome, supervisor: EmbeddedInstances
) -> None:
    start(supervisor, f"{DAEMON} exec sleep 600")
    until(lambda: len(marked(home)) >= 3, "the program and its daemon")
    supervisor.stop("shop", 1, 5)
    assert marked(home) == []
    start(supervisor, f"{DAEMON} sleep 0.5; kill -9 $$")
    until(lambda: len(supervisor.ends("shop", 1)) >= 2, "another start", 60)
    assert supervisor.ends("shop", 1)[0].cause == "killed by SIGKILL"
    until(lambda: len(marked(home)) <= 5, "the end of the daemons of those before")


def test_an_unused_one_that_ignores_sigterm_gets_it_again(
    home: EmbeddedHome, supervisor: EmbeddedInstances
) -> None:
    """As a node that boots, which would take the whole time limit."""
    ready = home.root / "ready"
    start(supervisor, f"trap 'trap - TERM' TERM; touch {ready}; while :; do sleep 0.05; done")
    until(ready.exists, "the program")
    begun = time.monotonic()
    supervisor.stop("shop", 1, 60, unused=True)
    assert time.monotonic() - begun < 30
    assert supervisor.status("shop", 1).state == State.STOPPED


def test_a_handler_of_one_that_may_have_served_runs_once(
    home: EmbeddedHome, supervisor: EmbeddedInstances
) -> None:
    said = home.root / "said"
    start(
        supervisor, f"trap 'echo TERM >> {said}' TERM; touch {said}; while :; do sleep 0.05; done"
    )
    until(said.exists, "the program")
    supervisor.stop("shop", 1, 1.5)
    assert said.read_text() == "TERM\n"
