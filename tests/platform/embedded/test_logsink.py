"""The log of an app: what supervisord hands on becomes lines with time and release."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from supervisor.events import (
    ProcessStateBackoffEvent,
    ProcessStateExitedEvent,
    ProcessStateRunningEvent,
    ProcessStateStoppedEvent,
)
from supervisor.states import ProcessStates

from gatling import files, proc
from gatling.platform import applog, restarts
from gatling.platform.applog import AppLog
from gatling.platform.embedded.logsink import Requests, Sink, remember_status
from gatling.proxy import log_rotation

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "instances.log"


def generations(path: Path) -> dict[str, int]:
    return {p.name: p.stat().st_size for p in path.parent.iterdir()}


def texts(path: Path) -> list[str]:
    return [line.split(" ", 2)[2] for line in path.read_text().splitlines()]


def test_a_log_is_for_its_user_alone_and_is_appended_to(path: Path) -> None:
    path.write_text("t v1 before\n")
    path.chmod(0o644)
    log = AppLog(path)
    log.write("v2", b"a\xff\r")
    log.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before, line = path.read_bytes().splitlines()
    assert before == b"t v1 before"
    time, release, text = line.split(b" ", 2)
    assert (release, text) == (b"v2", b"a\xff")
    assert (len(time), time[-1:]) == (len("2026-01-31T12:00:00.000Z"), b"Z")


def test_it_is_rotated_by_size_and_a_number_of_files_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applog, "MAX_BYTES", 1000)
    before = os.umask(0)
    try:
        log = AppLog(path)
        for n in range(200):
            log.write("v1", f"line {n:03}".encode())
        log.close()
    finally:
        os.umask(before)
    sizes = generations(path)
    assert set(sizes) == {path.name, *(f"{path.name}.{n}" for n in range(1, applog.BACKUPS + 1))}
    assert all(1000 < sizes[name] < 1100 for name in sizes if name != path.name)
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in path.parent.iterdir())
    kept = [
        text
        for n in range(applog.BACKUPS, 0, -1)
        for text in texts(path.with_name(f"{path.name}.{n}"))
    ] + texts(path)
    assert kept == [f"line {n:03}" for n in range(200 - len(kept), 200)]
    assert len(kept) > 100


def test_a_log_of_another_process_is_rotated_as_well(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applog, "MAX_BYTES", 1000)
    path.write_bytes(b"x" * 990 + b"\n")
    log = AppLog(path)
    log.write("v1", b"over the limit")
    log.write("v1", b"the first of the next")
    log.close()
    assert texts(path) == ["the first of the next"]
    assert path.with_name(f"{path.name}.1").read_bytes().endswith(b" over the limit\n")


class Programs:
    """Programs of supervisord as the sink sees them."""

    def __init__(self, apps: Path) -> None:
        self.apps = apps
        self.sink = Sink(apps)

    def starts(self, program: str, release: int) -> None:
        app, _, slot = program.rpartition(".")
        (self.apps / app / "logs").mkdir(parents=True, exist_ok=True)
        directory = self.apps / app / "slots" / slot
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "instance.json").write_text(json.dumps({"release": release}))

    def prints(self, program: str, data: bytes, pid: int = 7) -> None:
        self.sink.output(SimpleNamespace(process=self.process(program), data=data, pid=pid))

    def becomes(self, kind: Any, process: Any) -> None:
        event = kind.__new__(kind)
        event.process, event.expected = process, True
        self.sink.state(event)

    def said(self, app: str = "shop") -> list[tuple[str, str]]:
        log = self.apps / app / "logs/instances.log"
        if not log.exists():
            return []
        lines = [line.split(" ", 2) for line in log.read_text(errors="replace").splitlines()]
        return [(release, text) for _, release, text in lines]

    @staticmethod
    def process(program: str) -> Any:
        return SimpleNamespace(config=SimpleNamespace(name=program), pid=7)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def test_pieces_of_output_become_lines_of_their_release(programs: Programs) -> None:
    programs.starts("shop.1", 3)
    programs.starts("shop.2", 4)
    programs.prints("shop.1", b"one\ntwo be")
    programs.prints("shop.2", b"from the other ")
    programs.prints("shop.1", b"gins\r\n\n")
    programs.prints("shop.2", b"slot\n")
    assert programs.said() == [
        ("v3", "one"), ("v3", "two begins"), ("v3", ""), ("v4", "from the other slot"),
    ]  # fmt: skip


def test_apps_have_logs_of_their_own(programs: Programs) -> None:
    programs.starts("shop.1", 1)
    programs.starts("shop-web.1", 2)
    programs.prints("shop.1", b"a\n")
    programs.prints("shop-web.1", b"b\n")
    assert (programs.said("shop"), programs.said("shop-web")) == ([("v1", "a")], [("v2", "b")])


def test_the_next_release_in_a_slot(programs: Programs) -> None:
    programs.starts("shop.1", 1)
    programs.prints("shop.1", b"old\n", pid=7)
    programs.starts("shop.1", 2)
    programs.prints("shop.1", b"new\n", pid=8)
    assert programs.said() == [("v1", "old"), ("v2", "new")]


def test_a_line_without_end_is_handed_on_in_pieces(programs: Programs) -> None:
    programs.starts("shop.1", 1)
    for _ in range(10):
        programs.prints("shop.1", b"x" * 4096)
    programs.prints("shop.1", b"\n")
    said = programs.said()
    assert "".join(text for _, text in said) == "x" * 40960
    assert 1 < len(said) < 10


@pytest.mark.parametrize(
    ("kind", "wait_status", "said"),
    [
        (ProcessStateExitedEvent, 1 << 8, "exited with status 1"),
        (ProcessStateExitedEvent, 0, "exited with status 0"),
        (ProcessStateExitedEvent, 9, "killed by SIGKILL"),
        (ProcessStateBackoffEvent, 6 | 0x80, "killed by SIGABRT"),
    ],
)
def test_an_end_is_told_with_its_cause_after_the_last_words(
    programs: Programs, kind: Any, wait_status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1009.5)
    programs.starts("shop.1", 1)
    programs.prints("shop.1", b"last words without a newline")
    process = programs.process("shop.1")
    backs_off = kind is ProcessStateBackoffEvent
    first = ProcessStates.BACKOFF if backs_off else ProcessStates.EXITED
    vars(process).update(wait_status=wait_status, laststart=1000.0, delay=0, state=first)
    programs.becomes(kind, process)
    assert (process.state, process.delay) == (first, 1009.5 if backs_off else 0)
    programs.becomes(kind, process)
    assert (process.state, process.delay) == (ProcessStates.BACKOFF, 1010.5)
    assert programs.said() == [
        ("v1", "last words without a newline"),
        ("v1", f"-- instance {said} after 9.5 s; restart 1 within an hour"),
        ("v1", f"-- instance {said} after 9.5 s; restart 2 within an hour, in 1 s"),
    ]
    ends = restarts.read(programs.apps / "shop/slots/1/ends")
    assert ends == [restarts.End(1009.5, 9.5, said)] * 2


def test_an_end_on_purpose_is_told_as_such(programs: Programs) -> None:
    programs.starts("shop.1", 1)
    programs.becomes(ProcessStateStoppedEvent, programs.process("shop.1"))
    assert programs.said() == [("v1", "-- instance stopped")]
    assert not (programs.apps / "shop/slots/1/ends").exists()


def test_supervisord_keeps_what_a_process_ended_with() -> None:
    class Process:
        wait_status = 0

        def finish(self, pid: int, status: int) -> tuple[int, int, int]:
            return pid, status, self.wait_status

    remember_status(Process)
    assert Process().finish(7, 9) == (7, 9, 9)


def test_what_is_nobodys_business(programs: Programs) -> None:
    programs.starts("shop.1", 1)
    programs.becomes(ProcessStateRunningEvent, programs.process("shop.1"))
    programs.becomes(ProcessStateExitedEvent, programs.process("proxy"))
    programs.prints("proxy", b"nginx\n")
    assert programs.said() == []
    assert {p.name for p in programs.apps.iterdir()} == {"shop"}


def test_no_error_reaches_supervisord(programs: Programs) -> None:
    programs.prints("gone.1", b"an app that was unloaded\n")
    programs.becomes(ProcessStateExitedEvent, programs.process("gone.1"))
    programs.sink.output(SimpleNamespace())
    programs.sink.state(SimpleNamespace())
    assert list(programs.apps.iterdir()) == []


def test_several_processes_may_write_and_rotate(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applog, "MAX_BYTES", 2000)
    monkeypatch.setattr(applog, "BACKUPS", 100)
    logs = [AppLog(path) for _ in range(3)]
    for number in range(300):
        logs[number % 3].write("v1", f"line {number}".encode())
    for log in logs:
        log.close()
    written = [line for file in path.parent.iterdir() for line in texts(file)]
    assert sorted(written) == sorted(f"line {number}" for number in range(300))
    assert max(generations(path).values()) < 2100


def test_the_log_of_requests_is_rotated_each_minute_if_it_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, reopened = tmp_path / "requests.log", []
    monkeypatch.setattr(log_rotation, "ROTATE_BYTES", 100)
    monkeypatch.setattr(os, "kill", lambda pid, number: reopened.append((pid, number)))
    tick = Requests(log).tick
    tick(None)  # nothing has been requested yet
    log.write_bytes(b"x" * 100)
    own = os.getpid()
    (tmp_path / "pid").write_text(f"{own} {(proc.start_time(own) or 0) + 1} 0 boot")
    tick(None)  # the process of that number is another one now
    log.write_bytes(b"y" * 100)
    (tmp_path / "pid").write_text(f"{own} {proc.start_time(own)} 0 boot")
    tick(None)
    assert reopened == [(own, signal.SIGUSR1)]
    assert [log_rotation.numbered(log, n).read_bytes()[:1] for n in (1, 2)] == [b"y", b"x"]
    (tmp_path / "pid").unlink()
    log.write_bytes(b"z" * 100)
    tick(None)  # an error does not reach supervisord
    log.write_bytes(b"w" * 100)
    with files.locked(tmp_path / "requests.log.lock"):  # a command does the same
        tick(None)
    assert log.read_bytes()[:1] == b"w"
