"""What the pusher sees, and that nothing about the pusher stops a deployment."""

from __future__ import annotations

import contextlib
import os
import pty
import stat
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from gatling.errors import BuildFailed, GatlingError
from gatling.ui import output
from gatling.ui import progress as module
from gatling.ui.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator


class Pipe:
    """A pipe to a pusher."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.stream: IO[str] = os.fdopen(writing, "w", encoding="utf-8")
        self._open = True

    def text(self) -> str:
        """All that was written; nothing can be any more."""
        self.stream.close()
        with os.fdopen(self.reading, encoding="utf-8") as file:
            self._open = False
            return file.read()

    def close_reader(self) -> None:
        if self._open:
            os.close(self.reading)
            self._open = False

    def fill(self) -> None:
        os.set_blocking(self.stream.fileno(), False)
        try:
            while True:
                os.write(self.stream.fileno(), b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(self.stream.fileno(), True)

    def close(self) -> None:
        self.close_reader()
        with contextlib.suppress(BrokenPipeError):
            self.stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def test_plain_lines_through_a_pipe(pipe: Pipe) -> None:
    progress = Progress(pipe.stream)
    progress.phase("Building")
    progress.begin("mix_compile")
    progress.line("Compiling 3 files é")
    progress.end("mix_compile", 1.26)
    progress.begin("after_mix_compile", announced=True)
    progress.line("of a callback")
    progress.end("after_mix_compile", 0.1)
    progress.note("worth knowing")
    progress.say("a line")
    progress.done("=====> shop v1")
    assert pipe.text() == (
        "-----> Building\n"
        "       Compiling 3 files é\n"
        "       after_mix_compile\n"
        "         of a callback\n"
        "       worth knowing\n"
        "a line\n"
        "=====> shop v1\n"
    )


def test_each_line_is_there_at_once(pipe: Pipe) -> None:
    progress = Progress(pipe.stream)
    progress.say("first")
    assert os.read(pipe.reading, 100) == b"first\n"


def test_a_failure_says_what_why_and_what_to_do(pipe: Pipe) -> None:
    Progress(pipe.stream).fail(BuildFailed("It failed.", hint="Try again.", log=("a", "b")))
    lines = pipe.text().splitlines()
    assert lines == ["     | a", "     | b", " !     It failed.", " !     Try again."]


def test_a_log_that_was_just_seen_is_not_repeated(pipe: Pipe) -> None:
    Progress(pipe.stream).fail(GatlingError("It failed.", log=("seen",), log_shown=True))
    assert pipe.text() == " !     It failed.\n"


@pytest.mark.parametrize(
    ("variables", "colour"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], colour: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    reading, writing = pty.openpty()
    with os.fdopen(writing, "w") as terminal:
        Progress(terminal).done("good")
        monkeypatch.setattr(sys, "stdout", terminal)
        output.table(("app",), [("shop",)])
        seen = b""
        while b"shop" not in seen:
            seen += os.read(reading, 100)
    os.close(reading)
    good, _, _ = seen.partition(b"app")
    assert b"good" in good
    assert (b"\x1b[" in good, b"\x1b[2m" in good) == (colour, colour)


def test_the_log_has_everything_without_colour_and_is_for_its_user_alone(
    pipe: Pipe, tmp_path: Path
) -> None:
    path = tmp_path / "logs" / "deployment-1.log"
    progress = Progress(pipe.stream)
    progress.say("before the log")
    before = os.umask(0)
    try:
        progress.open_log(path)
    finally:
        os.umask(before)
    progress.done("done")
    progress.record("for the log alone \ud800")
    assert path.read_text() == "done\nfor the log alone \\ud800\n"  # written at once
    progress.close()
    progress.close()
    progress.record("too late")
    assert path.read_text() == "done\nfor the log alone \\ud800\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert pipe.text() == "before the log\ndone\n"


def test_the_log_has_room_for_so_much_output_and_for_what_gatling_says(
    pipe: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatling.ui.progress.MAX_OUTPUT", 40)
    progress = Progress(pipe.stream)
    progress.open_log(tmp_path / "log")
    lines = [f"line {number}" for number in range(6)]
    for line in lines:
        progress.line(line)
    progress.say("failed")
    progress.close()
    kept = "".join(f"       {line}\n" for line in [*lines[:2], "… more output than is stored"])
    assert (tmp_path / "log").read_text() == kept + "failed\n"
    assert pipe.text() == "".join(f"       {line}\n" for line in lines) + "failed\n"


def test_a_log_is_appended_to(pipe: Pipe, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    progress = Progress(pipe.stream)
    progress.open_log(path)
    progress.say("after")
    progress.close()
    assert path.read_text() == "before\nafter\n"


def test_a_pusher_who_is_gone_changes_nothing(pipe: Pipe, tmp_path: Path) -> None:
    progress = Progress(pipe.stream)
    progress.open_log(tmp_path / "log")
    progress.say("seen")
    pipe.close_reader()
    for n in range(5):
        progress.line(f"unseen {n}")
    progress.fail(GatlingError("unseen, too"))
    progress.close()
    assert len((tmp_path / "log").read_text().splitlines()) == 7


def test_a_pipe_that_nobody_reads_is_given_up(
    pipe: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    progress = Progress(pipe.stream)
    progress.open_log(tmp_path / "log")
    pipe.fill()
    started = time.monotonic()
    for n in range(100):
        progress.line(f"line {n}")
    assert 0.2 <= time.monotonic() - started < 10  # it has waited once, not for each line
    progress.close()
    assert len((tmp_path / "log").read_text().splitlines()) == 100


def test_a_slow_reader_gets_everything(pipe: Pipe) -> None:
    progress = Progress(pipe.stream)
    pipe.fill()
    received = bytearray()

    def read() -> None:
        time.sleep(0.2)  # the writer has to wait for it
        while not received.endswith(b"the end\n"):
            received.extend(os.read(pipe.reading, 4096))

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(2000):
        progress.say(f"line {n}")
    progress.say("the end")
    reader.join(20)
    wanted = "".join(f"line {n}\n" for n in range(2000)) + "the end\n"
    assert received.lstrip(b"x").decode() == wanted


def test_a_full_disk_does_not_hide_what_failed(pipe: Pipe) -> None:
    progress = Progress(pipe.stream)
    progress.open_log(Path("/dev/full"))
    progress.fail(GatlingError("the reason"))
    progress.close()
    assert pipe.text() == " !     the reason\n"
