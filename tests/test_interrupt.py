"""What calls a deployment off, once, and only until the cut-over."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit, Interrupted
from gatling.interrupt import SIGNALS, interruptible
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WATCHED = """
import sys, time
from pathlib import Path
from gatling.interrupt import interruptible
from gatling.errors import Interrupted
said = Path(sys.argv[1])
try:
    with interruptible(watch_pusher=True):
        said.write_text("begun")
        time.sleep(60)
except Interrupted as error:
    said.write_text(error.what)
"""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (signal.SIGINT, "Ctrl-C"),
        (signal.SIGTERM, "SIGTERM"),
        (signal.SIGHUP, "pusher disconnected"),
    ],
)
def test_a_signal_interrupts_once(number: signal.Signals, why: str) -> None:
    with interruptible():
        with pytest.raises(Interrupted, match=why) as caught:
            signal.raise_signal(number)
        assert caught.value.exit_status == Exit.INTERRUPTED
        assert "before the cut-over" in caught.value.what
        for again in SIGNALS:  # the clean-up that follows is not interrupted again
            signal.raise_signal(again)


def test_behind_the_shield_nothing_interrupts() -> None:
    with interruptible() as interruption:
        interruption.shield()
        for number in SIGNALS:
            signal.raise_signal(number)


def test_the_handlers_of_before_are_back_afterwards() -> None:
    seen: list[int] = []
    for number in SIGNALS:
        signal.signal(number, lambda number, _frame: seen.append(number))
    with interruptible():
        pass
    with pytest.raises(Interrupted), interruptible():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), interruptible():
        raise ZeroDivisionError
    assert seen == []
    for number in SIGNALS:
        signal.raise_signal(number)
    assert seen == list(SIGNALS)


def test_an_interruption_may_be_caught_within() -> None:
    done = []
    with interruptible():
        try:
            signal.raise_signal(signal.SIGINT)
        except Interrupted:
            done.append("cleaned up")
    assert done == ["cleaned up"]


def said(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def watched(path: Path, stderr: int) -> subprocess.Popen[bytes]:
    """A deployment below a shell, which stands for git-receive-pack."""
    shell = subprocess.Popen(
        ["sh", "-c", '"$0" -I -c "$1" "$2"; true', sys.executable, WATCHED, str(path)],
        stderr=stderr, start_new_session=True,
    )  # fmt: skip
    until(lambda: said(path) == "begun", "the deployment")
    return shell


def test_a_pusher_whose_git_is_gone(tmp_path: Path) -> None:
    shell = watched(tmp_path / "said", subprocess.DEVNULL)
    shell.kill()
    shell.wait()
    until(lambda: "pusher disconnected" in said(tmp_path / "said"), "the interruption")


def test_a_pusher_who_reads_no_more(tmp_path: Path) -> None:
    shell = watched(tmp_path / "said", subprocess.PIPE)
    assert shell.stderr is not None
    shell.stderr.close()
    until(lambda: "pusher disconnected" in said(tmp_path / "said"), "the interruption")
    assert shell.wait(10) == 0
