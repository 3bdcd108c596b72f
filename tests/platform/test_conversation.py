"""Programs that are talked to, on the embedded home: real ones, as everywhere."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from gatling import proc
from gatling.errors import CommandFailed, MissingProgram
from gatling.platform.base import Task
from gatling.platform.embedded.home import EmbeddedPaths
from gatling.platform.embedded.tasks import LocalTasks

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.platform.conversation import Conversation

ECHO = 'while read line; do echo "you say $line"; done'


class Talks:
    """Conversations with scripts of the shell."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tasks = LocalTasks()
        self.mark = f"test:{root}"

    def task(self, script: str) -> Task:
        env = {"PATH": os.environ["PATH"]}
        paths = EmbeddedPaths(self.root, "shop")
        return Task(paths, "build", ["sh", "-c", script], env, self.root, mark=self.mark)

    def start(self, script: str) -> Conversation:
        return self.tasks.talk(self.task(script))

    def left(self) -> int:
        """How many of its processes there are still; they are ended."""
        return proc.end_marked(self.mark)


@pytest.fixture
def talks(tmp_path: Path) -> Talks:
    return Talks(tmp_path)


def line(talk: Conversation, seconds: float = 20) -> str:
    return talk.line(time.monotonic() + seconds, seconds)


def test_lines_go_to_and_fro(talks: Talks) -> None:
    talk = talks.start(ECHO)
    for word in ("one", "two " + "x" * 100_000):
        talk.say(word)
        said = line(talk)
        while len(said) < len(f"you say {word}"):  # a long line comes in pieces
            said += line(talk)
        assert said == f"you say {word}"
    talk.close()
    talk.close()
    assert talks.left() == 0


def test_its_end_is_told_with_its_last_lines(talks: Talks) -> None:
    talk = talks.start("echo first; printf last; exit 3")
    assert line(talk) == "first"
    with pytest.raises(CommandFailed, match="sh exited with status 3") as caught:
        line(talk)
    assert caught.value.log == ("first", "last")
    talk.say("anybody?")
    with pytest.raises(CommandFailed):
        line(talk)
    talk.close()


def test_one_that_says_nothing_in_time_is_stopped(talks: Talks) -> None:
    talk = talks.start("sleep 600")
    with pytest.raises(CommandFailed, match=r"not end within 0\.1 seconds"):
        line(talk, 0.1)
    assert talks.left() == 0


def test_one_that_does_not_heed_the_end_is_stopped(
    talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatling.platform.conversation.CLOSE_SECONDS", 0.2)
    talk = talks.start("echo up; sleep 600")
    assert line(talk) == "up"
    talk.close()
    assert talks.left() == 0


def test_its_end_counts_though_another_has_its_output(talks: Talks) -> None:
    talk = talks.start("setsid sleep 600 & exit 4")
    with pytest.raises(CommandFailed, match="status 4"):
        line(talk)
    assert talks.left() == 0


def test_what_it_says_at_the_end_does_not_hold_it_up(talks: Talks) -> None:
    talk = talks.start("read x; yes | head -c 1000000; exit 0")
    talk.close()
    assert talks.left() == 0


def test_other_programs_of_the_deployment_leave_it_alone(talks: Talks) -> None:
    talk = talks.start(ECHO)
    talks.tasks.run(talks.task("true"), timeout=20)
    talk.say("still there")
    assert line(talk) == "you say still there"
    talk.close()
    assert talks.left() == 0


def test_a_program_that_is_not_there(talks: Talks) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (only counted)
    with pytest.raises(MissingProgram):
        talks.tasks.talk(
            Task(EmbeddedPaths(talks.root, "shop"), "build", ["no-such"], {}, talks.root)
        )
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
