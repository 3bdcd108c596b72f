"""How the helper stops a unit, with a systemd whose units end when a test says so."""

from __future__ import annotations

import subprocess

import pytest

from gatling.platform import limits, ports
from gatling.platform.server.helper import stopping

UNIT, PID = "gatling@shop.1.service", 4711
SYSTEMD = "TERM"
"""What systemd sends itself, when it is asked to stop a unit."""


class Unit:
    """A unit that ends at a certain SIGTERM, and listens from another one on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, ends_at: int, listens_at: int) -> None:
        self.ends_at, self.listens_at = ends_at, listens_at
        self.signals: list[str] = []
        self.now = 0.0
        """The time, which goes on only while a unit is waited for."""
        monkeypatch.setattr(stopping, "time", self)
        monkeypatch.setattr(limits, "TERM_AGAIN_SECONDS", 0.02)
        monkeypatch.setattr(ports, "listening", self.listening)

    def monotonic(self) -> float:
        return self.now

    def listening(self, pid: int) -> list[str]:
        assert pid == PID
        return ["127.0.0.1:4000"] if len(self.signals) >= self.listens_at else []

    def call(self, argv: list[str], *, check: bool = True, timeout: float = 120) -> str:
        assert not check
        assert argv[-1] == UNIT
        if argv[1] == "show":
            return f"{PID}\n"
        if argv[1] == "kill":
            self.signals.append(argv[2].removeprefix("--signal="))
            assert ("--kill-whom=main" in argv) == (self.signals[-1] == "TERM")
        if argv[1] == "stop":
            self.signals = self.signals or [SYSTEMD]
            if "KILL" not in self.signals and len(self.signals) < self.ends_at:
                self.now += timeout
                raise subprocess.TimeoutExpired(argv, timeout)
        return ""


def test_an_unused_one_that_boots_and_ignores_sigterm_gets_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unit = Unit(monkeypatch, ends_at=3, listens_at=100)
    stopping.stop(UNIT, 60, unit.call, unused=True)
    assert unit.signals == [SYSTEMD, "TERM", "TERM"]


def test_one_that_has_come_to_listen_gets_it_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Unit(monkeypatch, ends_at=100, listens_at=2)
    stopping.stop(UNIT, 0.5, unit.call, unused=True)
    assert unit.signals == [SYSTEMD, "TERM", "KILL"]


@pytest.mark.parametrize(("unused", "listens_at"), [(False, 100), (True, 0)])
def test_one_that_may_handle_it_gets_it_once(
    monkeypatch: pytest.MonkeyPatch, *, unused: bool, listens_at: int
) -> None:
    """A handler of the app's own runs once, and has all of its time."""
    unit = Unit(monkeypatch, ends_at=100, listens_at=listens_at)
    stopping.stop(UNIT, 0.3, unit.call, unused=unused)
    assert unit.now == pytest.approx(0.3)
    assert unit.signals == [SYSTEMD, "KILL"]


def test_one_that_never_ends_is_killed_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Unit(monkeypatch, ends_at=1000, listens_at=1000)
    stopping.stop(UNIT, 0.2, unit.call, unused=True)
    assert unit.now == pytest.approx(0.2)
    assert (unit.signals[0], unit.signals[-1], unit.signals.count("KILL")) == ("TERM", "KILL", 1)
