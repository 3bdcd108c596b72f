"""How the helper stops a unit, with a systemd whose units end when a test says so."""

from __future__ import annotations

import subprocess
import time

import pytest

from gatling.platform import limits
from gatling.platform.server.helper import stopping

UNIT = "gatling@shop.1.service"


class Unit:
    """A unit that was started some seconds ago and ends at a certain SIGTERM, or at none."""

    def __init__(self, age: float, ends_at: int) -> None:
        self.started, self.ends_at = time.monotonic() - age, ends_at
        self.signals: list[str] = []

    def call(self, argv: list[str], *, check: bool = True, timeout: float = 120) -> str:
        assert not check
        assert argv[-1] == UNIT
        if argv[1] == "show":
            return f"{round(self.started * 1e6)}\n"
        if argv[1] == "kill":
            self.signals.append(argv[2].removeprefix("--signal="))
            assert ("--kill-whom=main" in argv) == (self.signals[-1] == "TERM")
        if argv[1] == "stop":
            self.signals = self.signals or ["TERM"]  # systemd's own
            if "KILL" not in self.signals and len(self.signals) < self.ends_at:
                time.sleep(timeout)
                raise subprocess.TimeoutExpired(argv, timeout)
        return ""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TERM_AGAIN_SECONDS", 0.02)


def test_a_node_that_boots_and_ignores_sigterm_gets_it_again() -> None:
    unit = Unit(age=1, ends_at=3)
    stopping.stop(UNIT, 60, unit.call)
    assert unit.signals == ["TERM", "TERM", "TERM"]


def test_one_that_has_booted_gets_it_once() -> None:
    unit = Unit(age=limits.BOOT_SECONDS + 1, ends_at=2)
    stopping.stop(UNIT, 0.1, unit.call)
    assert unit.signals == ["TERM", "KILL"]


def test_one_that_never_ends_is_killed_when_its_time_is_up() -> None:
    unit = Unit(age=1, ends_at=1000)
    begun = time.monotonic()
    stopping.stop(UNIT, 0.2, unit.call)
    assert 0.2 <= time.monotonic() - begun < 2
    assert (unit.signals[0], unit.signals[-1], unit.signals.count("KILL")) == ("TERM", "KILL", 1)


def test_a_unit_that_systemd_knows_nothing_of_is_stopped_as_any_other() -> None:
    calls: list[list[str]] = []

    def call(argv: list[str], *, check: bool = True, timeout: float = 120) -> str:
        assert not check
        assert timeout > 1
        calls.append(argv)
        return "\n"

    stopping.stop(UNIT, 60, call)
    assert [argv[1] for argv in calls] == ["show", "stop"]
