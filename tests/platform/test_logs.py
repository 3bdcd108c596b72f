"""Reading what instances printed: across rotated files, by time and release, and following it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatling.errors import InvalidInput
from gatling.platform import applog, logs
from gatling.platform.applog import AppLog
from tests.conftest import until
from tests.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

EXAMPLES = settings(max_examples=scaled(30, 100))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "instances.log"


def write(path: Path, *lines: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def texts(lines: list[logs.Line]) -> list[str]:
    return [line.text for line in lines]


def test_a_line_is_time_release_and_text(path: Path) -> None:
    write(path, "2026-01-31T12:00:00.000Z v7 two  words ü", "2026-01-31T12:00:01.000Z v8 ")
    first, second = logs.read(path, lines=10)
    assert (first.time, first.release, first.text) == (
        "2026-01-31T12:00:00.000Z", "v7", "two  words ü",
    )  # fmt: skip
    assert str(first) == "2026-01-31T12:00:00.000Z v7 two  words ü"
    assert (second.release, second.text) == ("v8", "")


def test_lines_of_an_instance_that_never_serves_say_so(path: Path) -> None:
    word = logs.label("v4", logs.CHECK)
    write(path, f"t {word} SIGTERM received", "t v4 serves")
    checked, serving = logs.read(path, lines=10)
    assert str(checked) == "t v4 (boot check) SIGTERM received"
    assert str(serving) == "t v4 serves"
    assert texts(logs.read(path, lines=10, wanted=logs.Wanted("v4", logs.WEB))) == ["serves"]
    of_checks = logs.Wanted(process=logs.CHECK)
    assert texts(logs.read(path, lines=10, wanted=of_checks)) == ["SIGTERM received"]


def test_no_log_yet(path: Path) -> None:
    assert logs.read(path, lines=10) == []


def test_rotated_files_are_read_in_the_order_they_were_written(path: Path) -> None:
    # more than ten of them: in the order of numbers, not of names
    for number in range(12, 0, -1):
        write(path.with_name(f"{path.name}.{number}"), f"t v1 {12 - number}")
    write(path, "t v1 12", "t v1 13")
    write(path.with_name("instances.log.old"), "t v1 a stranger")
    assert texts(logs.read(path, lines=100)) == [str(n) for n in range(14)]
    assert texts(logs.read(path, lines=3)) == ["11", "12", "13"]
    assert logs.read(path, lines=0) == []


def test_what_the_sink_wrote_is_read_across_rotations(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applog, "MAX_BYTES", 500)
    log = AppLog(path)
    for n in range(30):
        log.write("v1", f"line {n}".encode())
    log.close()
    assert len(list(path.parent.iterdir())) > 2
    assert texts(logs.read(path, lines=100)) == [f"line {n}" for n in range(30)]


def test_between_a_rotation_and_the_next_line(path: Path) -> None:
    write(path.with_name(f"{path.name}.1"), "t v1 rotated")
    assert texts(logs.read(path, lines=10)) == ["rotated"]


def test_lines_of_a_time_and_of_a_release(path: Path) -> None:
    write(
        path,
        "2026-01-31T12:00:00.000Z v1 a", "2026-01-31T12:00:01.000Z v11 b",
        "2026-01-31T12:00:02.000Z v1 c", "2026-01-31T12:00:03.000Z v1 d",
    )  # fmt: skip
    since = "2026-01-31T12:00:01.000Z"
    assert texts(logs.read(path, lines=10, since=since)) == ["b", "c", "d"]
    assert texts(logs.read(path, lines=10, wanted=logs.Wanted("v1"))) == ["a", "c", "d"]
    assert texts(logs.read(path, lines=1, since=since, wanted=logs.Wanted("v1"))) == ["d"]
    assert texts(logs.read(path, lines=10, since=since, wanted=logs.Wanted("v11"))) == ["b"]


def test_bytes_that_are_not_utf_8(path: Path) -> None:
    path.write_bytes(b"t v1 a\xffb\nt v1 c\n")
    assert texts(logs.read(path, lines=10)) == ["a\ufffdb", "c"]


class Follower:
    """Follows a log in a thread until a line says END."""

    def __init__(self, lines: Generator[logs.Line]) -> None:
        self.seen: list[str] = []
        self._lines = lines
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for line in self._lines:
            if line.text == "END":
                return
            self.seen.append(line.text)

    def started(self, write_one: Callable[[], None]) -> None:
        """Lines count from now on: it has seen one."""

        def seen() -> bool:
            write_one()
            return bool(self.seen)

        until(seen, "the first line")
        until(lambda: not self._new(), "quiet")
        assert set(self.seen) == {"tick"}  # and nothing of before
        self.seen.clear()

    def _new(self) -> bool:
        before = len(self.seen)
        threading.Event().wait(logs.FOLLOW_SECONDS * 15)
        return len(self.seen) != before

    def end(self) -> list[str]:
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._lines.close()
        return self.seen


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FOLLOW_SECONDS", 0.02)


def test_lines_are_followed_from_now_on_and_across_rotations(path: Path) -> None:
    write(path, "t v1 long ago")
    follower = Follower(logs.follow(path))
    follower.started(lambda: write(path, "t v1 tick"))
    wanted: list[str] = []
    for n in range(4):
        for text in (f"first of {n}", f"last of {n}"):
            write(path, f"t v1 {text}")
            wanted.append(text)
            until(lambda: follower.seen == wanted, text)
        path.rename(path.with_name(f"{path.name}.1"))
    write(path, "t v1 END")
    assert follower.end() == wanted


def test_a_line_is_shown_when_it_is_whole(path: Path) -> None:
    path.touch()
    follower = Follower(logs.follow(path, wanted=logs.Wanted("v2")))
    follower.started(lambda: write(path, "t v2 tick"))
    with path.open("a", encoding="utf-8") as file:
        for piece in ("t v2 in ", "pieces", "\nt v1 of another release\nt v2 ne"):
            file.write(piece)
            file.flush()
        until(lambda: follower.seen == ["in pieces"], "the whole line")
        file.write("xt\nt v2 END\n")
    assert follower.end() == ["in pieces", "next"]


def test_an_app_that_has_not_printed_anything_yet(path: Path) -> None:
    follower = Follower(logs.follow(path))
    follower.started(lambda: write(path, "t v1 tick"))
    write(path, "t v1 a", "t v1 END")
    assert follower.end() == ["a"]


def test_the_first_lines_of_a_log_that_was_not_there_are_shown(path: Path) -> None:
    """The first run of a job, say: it makes its log with the first line that it prints."""
    follower = Follower(logs.follow(path))
    threading.Event().wait(0.1)
    path.parent.mkdir(exist_ok=True)
    write(path, "t v1 first", "t v1 second", "t v1 END")
    assert follower.end() == ["first", "second"]


def test_nothing_is_lost_between_what_was_there_and_what_comes(path: Path) -> None:
    """A follower begins while lines are written and the log is rotated all the time."""
    stop = threading.Event()
    count = 0
    followers: list[Follower] = []

    def far_behind() -> bool:
        """A reader is starved: no log is rotated four times while its files are opened."""
        return any(each.seen and count - int(each.seen[-1]) > 100 for each in followers)

    def go_on() -> None:
        nonlocal count
        while not stop.is_set():
            if far_behind():
                stop.wait(0.001)
                continue
            count += 1
            write(path, f"t v1 {count}")
            if count % 50 == 0:
                for n in range(count // 50 - 1, 0, -1):  # none is deleted, however slow a reader is
                    path.with_name(f"{path.name}.{n}").rename(
                        path.with_name(f"{path.name}.{n + 1}")
                    )
                path.rename(path.with_name(f"{path.name}.1"))
        write(path, "t v1 END")

    writer = threading.Thread(target=go_on)
    writer.start()
    until(lambda: count > 20, "some lines")
    followers += [Follower(logs.follow(path, lines=10)) for _ in range(5)]
    until(lambda: all(len(follower.seen) > 200 for follower in followers), "many lines")
    stop.set()
    writer.join()
    for follower in followers:
        numbers = [int(text) for text in follower.end()]
        assert numbers == list(range(numbers[0], count + 1))


def test_rotations_while_the_files_are_opened_do_not_change_their_order(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rotate(number: int) -> None:
        for n in (3, 2, 1, 0):
            file = path.with_name(f"{path.name}.{n}") if n else path
            if file.exists():
                file.rename(path.with_name(f"{path.name}.{n + 1}"))
        write(path, f"t v1 {number}")

    for number in (1, 2):
        rotate(number)
    opened = logs._Reader.of

    def starved(file: Path) -> logs._Reader | None:
        """Two files are begun after the newest one has been opened."""
        reader = opened(file)
        if file == path:
            monkeypatch.setattr(logs._Reader, "of", opened)
            rotate(3)
            rotate(4)
        return reader

    monkeypatch.setattr(logs._Reader, "of", starved)
    assert [line.text for line in logs.read(path, lines=9)] == ["1", "2", "3"]


def test_the_last_lines_come_before_the_new_ones(path: Path) -> None:
    write(path, *(f"2027-01-01T00:0{n}:00.000Z v1 {n}" for n in range(6)))
    since = "2027-01-01T00:01:00.000Z"
    follower = Follower(logs.follow(path, lines=3, since=since))
    until(lambda: follower.seen == ["3", "4", "5"], "what was there")
    write(path, "t v1 new", "t v1 END")
    assert follower.end() == ["3", "4", "5", "new"]


@EXAMPLES
@given(st.integers(0, 10_000), st.sampled_from("smhd"), st.sampled_from(["", " ", "\t"]))
def test_a_span_counts_back_from_now(count: int, unit: str, blank: str) -> None:
    wanted = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1),
              "d": timedelta(days=1)}[unit] * count  # fmt: skip
    before = datetime.now(UTC)
    stamp = logs.parse_since(f" {count}{blank}{unit} ")
    after = datetime.now(UTC)
    assert len(stamp) == len("2026-01-31T12:00:00.000Z")
    moment = datetime.fromisoformat(stamp)
    assert before - wanted - timedelta(milliseconds=1) <= moment <= after - wanted


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("2026-01-31", "2026-01-31T00:00:00.000Z"),
        ("2026-01-31T12:00", "2026-01-31T12:00:00.000Z"),
        ("2026-01-31 12:00:05.250", "2026-01-31T12:00:05.250Z"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00.000Z"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000Z"),
    ],
)
def test_a_time_is_brought_to_the_form_of_the_log(text: str, stamp: str) -> None:
    assert logs.parse_since(text) == stamp


@EXAMPLES
@given(st.text(max_size=12).filter(lambda text: not any(c.isdigit() for c in text)))
@example("15")
@example("15x")
@example("-15m")
@example("1.5h")
@example("15m ago")
@example("m")
@example("2026-13-01")
@example("15m\n15m")
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a time") as caught:
        logs.parse_since(text)
    assert "15m" in caught.value.hint
