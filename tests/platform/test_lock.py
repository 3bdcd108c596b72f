"""One deployment per app at a time, across processes, whatever kills them."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from gatling.platform import lock
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLDER = """
import sys
from pathlib import Path
from gatling.platform import lock
with lock.hold(Path(sys.argv[1]), lambda: print("waiting", flush=True)):
    print("held", flush=True)
    sys.stdin.read()
"""


class Holder:
    """A process that holds the lock until it is told to let go, or killed."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", HOLDER, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def let_go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(10) == 0

    def close(self) -> None:
        self.process.kill()
        with self.process:
            pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def holder(path: Path) -> Iterator[Holder]:
    made = Holder(path)
    assert made.says() == "held"
    yield made
    made.close()


def held(path: Path) -> bool:
    """Whether somebody else holds it."""
    with lock.try_hold(path) as taken:
        return not taken


def test_it_is_waited_for_and_that_is_said_once(path: Path, holder: Holder) -> None:
    said: list[str] = []
    got, done = threading.Event(), threading.Event()

    def wait() -> None:
        with lock.hold(path, lambda: said.append("waiting")):
            got.set()
            done.wait(10)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: said, "the word that it waits")
    assert not got.wait(lock.POLL_SECONDS * 5)  # several looks later it still waits
    holder.let_go()
    assert got.wait(10)
    assert said == ["waiting"]
    assert held(path)
    done.set()
    thread.join()
    assert not held(path)


def test_nothing_is_said_when_it_is_free(path: Path) -> None:
    said: list[str] = []
    with lock.hold(path, lambda: said.append("waiting")):
        assert held(path)
    assert said == []
    assert not held(path)


def test_it_dies_with_a_holder_that_is_killed(path: Path, holder: Holder) -> None:
    second = Holder(path)
    try:
        assert second.says() == "waiting"
        holder.process.kill()
        assert second.says() == "held"
        assert held(path)
        second.process.kill()
        second.process.wait()
        with lock.hold(path, lambda: None):
            pass
    finally:
        second.close()


def test_an_error_lets_go_of_it(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock.hold(path, lambda: None):
        raise ZeroDivisionError
    assert not held(path)


def test_who_only_tries_does_not_wait(path: Path, holder: Holder) -> None:
    with lock.try_hold(path) as taken:
        assert taken is False
    assert holder.process.poll() is None
    holder.let_go()
    with lock.try_hold(path) as taken:
        assert taken is True
        assert held(path)


def test_an_app_that_is_gone_has_no_lock(tmp_path: Path) -> None:
    with lock.try_hold(tmp_path / "gone" / "lock") as taken:
        assert taken is False


def test_it_is_not_inherited_by_what_the_holder_starts(path: Path) -> None:
    with lock.hold(path, lambda: None):
        child = subprocess.Popen(["sleep", "60"], close_fds=True)
    try:
        assert not held(path)
    finally:
        child.kill()
        child.wait()
