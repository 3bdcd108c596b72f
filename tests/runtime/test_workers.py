"""Stopping workers: all at the same time, and a failure keeps only its own process."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gatling import times
from gatling.errors import SupervisorFailed
from gatling.platform.base import State, Status
from gatling.runtime import workers


class Supervisor:
    """Stops `slow.1` only after `quick.1` was reported, and `stuck.1` never."""

    def __init__(self) -> None:
        self.reported = threading.Event()
        self.seconds: dict[str, float] = {}

    def stop(self, _: str, slot: str, seconds: float) -> None:
        self.seconds[slot] = seconds
        if slot == "stuck.1":
            raise SupervisorFailed("stuck.1 does not stop.")
        if slot == "slow.1":
            assert self.reported.wait(30), "quick was not reported while slow was being stopped"


def test_each_process_is_reported_when_it_has_stopped_and_a_failure_comes_last() -> None:
    supervisor, stopped = Supervisor(), []
    settings = {
        "processes.slow.command": "bin/app eval slow",
        "processes.slow.stop": "7",
        "processes.quick.command": "bin/app eval quick",
    }
    app = cast("Any", SimpleNamespace(name="shop", effective=settings))
    gatling = cast("Any", SimpleNamespace(instances=supervisor))

    def report(process: str) -> None:
        stopped.append(process)
        supervisor.reported.set()

    slots = ["slow.1", "quick.1", "quick.2", "stuck.1", "stuck.2"]
    with pytest.raises(SupervisorFailed, match="stuck"):
        workers._stop(gatling, app, slots, report)
    assert stopped == ["quick", "slow"]
    # what the settings do not know any more has a time of its own
    assert (supervisor.seconds["slow.1"], supervisor.seconds["stuck.2"]) == (
        7,
        workers.STOP_SECONDS,
    )


def test_a_worker_that_exits_while_gatling_is_slow_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process is suspended for all of the time between its first look and the next one."""
    now, seen = 0.0, [State.RUNNING]

    def sleep(_: float) -> None:
        nonlocal now
        now += 2 * workers.WATCH_SECONDS
        seen.append(State.RESTARTING)

    def statuses(_: object, __: str, slots: list[str]) -> dict[str, Status]:
        return {slot: Status(seen[-1]) for slot in slots}

    monkeypatch.setattr(times, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    monkeypatch.setattr(workers, "statuses", statuses)
    (said,) = workers.unwell(cast("Any", None), "shop", ["worker.1"])
    assert said.startswith("worker.1 keeps exiting.")
