"""Reading the journal, without one: what journalctl prints is made here."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import HelperFailed
from gatling.platform.logs import EVERYTHING, Wanted
from gatling.platform.server import journald
from gatling.platform.server.helper import client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNIT = "gatling@shop.1.service"
NOW = 1_800_000_000


class Helper:
    """In the place of a call of root's helper: prints these entries, as journalctl would."""

    def __init__(self, entries: Iterator[dict[str, str]], refused: str = "") -> None:
        self.entries, self.refused = entries, refused
        self.asked: dict[str, Any] = {}
        self.connection = self

    def __call__(self, verb: str, arguments: dict[str, Any], files: tuple[int, ...]) -> Helper:
        self.asked = {"verb": verb, **arguments}
        self._thread = threading.Thread(target=self._print, args=(os.dup(files[1]),), daemon=True)
        self._thread.start()
        return self

    def _print(self, out: int) -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(out, "w") as stream:
            for entry in self.entries:
                stream.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        """Whoever is gone ends journalctl."""

    def answer(self) -> dict[str, Any]:
        self._thread.join()
        if self.refused:
            raise HelperFailed(self.refused)
        return {"status": 0}


def backwards(last: int, first: int | None = None) -> Iterator[dict[str, str]]:
    """Lines said one in each second, the last one first; without a first one they never end."""
    second = last
    while first is None or second >= first:
        yield {"__REALTIME_TIMESTAMP": str((NOW + second) * 10**6), "_SYSTEMD_UNIT": UNIT,
               "MESSAGE": f"said {second}"}  # fmt: skip
        second -= 1


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Of slot 1, in which v2 has followed v1 long ago."""
    file = tmp_path / "history"
    file.write_text("2027-01-15T07:50:00.000Z v1\n2027-01-15T07:59:00.000Z v2\n")
    return file


def read(
    monkeypatch: pytest.MonkeyPatch, helper: Helper, history: Path, lines: int,
    wanted: Wanted = EVERYTHING,
) -> list[str]:  # fmt: skip
    monkeypatch.setattr(client, "Call", helper)
    since = "2027-01-15T07:00:00.000Z"
    found = journald.read("shop", {1: history}, lines=lines, since=since, wanted=wanted)
    return [f"{line.release} {line.text}" for line in found]


def test_the_last_lines_since_then_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch, history: Path
) -> None:
    helper = Helper(backwards(9, 1))
    assert read(monkeypatch, helper, history, 3) == ["v2 said 7", "v2 said 8", "v2 said 9"]
    assert (helper.asked["lines"], helper.asked["since"]) == (3, NOW - 3600)
    assert read(monkeypatch, Helper(backwards(2, 1)), history, 3) == ["v2 said 1", "v2 said 2"]


def test_lines_of_an_instance_that_never_serves_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    history = tmp_path / "history"
    for moment, release, check in ((1, 4, True), (3, 4, False), (5, 4, False)):
        monkeypatch.setattr(journald, "now", lambda at=moment: f"2027-01-15T08:00:0{at}.000Z")
        journald.note(history, release, check=check)
    assert history.read_text().count("\n") == 2
    lines = journald.read
    monkeypatch.setattr(client, "Call", Helper(backwards(4, 2)))
    found = lines("shop", {1: history}, lines=9, since=None, wanted=EVERYTHING)
    assert [(x.release, x.process) for x in found] == [
        ("v4", "boot-check"), ("v4", "web"), ("v4", "web"),
    ]  # fmt: skip
    monkeypatch.setattr(client, "Call", Helper(backwards(4, 2)))
    served = lines("shop", {1: history}, lines=9, since=None, wanted=Wanted(process="web"))
    assert [x.text for x in served] == ["said 3", "said 4"]


def test_no_more_is_read_than_is_shown(monkeypatch: pytest.MonkeyPatch, history: Path) -> None:
    v1 = Wanted("v1")  # the live one has said a lot since
    found = read(monkeypatch, Helper(backwards(5_000)), history, 2, v1)
    assert found == ["v1 said -62", "v1 said -61"]


def test_what_the_helper_refuses_is_told(monkeypatch: pytest.MonkeyPatch, history: Path) -> None:
    with pytest.raises(HelperFailed):
        read(monkeypatch, Helper(iter(()), "no"), history, 3)


@pytest.mark.parametrize(
    ("message", "text"),
    [("one", "one"), (None, ""), ([104, 105, 255], "hi�"), (["a", "b"], "a b"),
     ([[104, 105], "b", None], "hi b ")],
)  # fmt: skip
def test_an_entry_may_have_its_message_in_any_form(message: object, text: str) -> None:
    assert journald._message(message) == text


def test_what_is_followed_begins_after_the_entry_that_was_read_last(
    monkeypatch: pytest.MonkeyPatch, history: Path
) -> None:
    def numbered(*seconds: int) -> list[dict[str, str]]:
        entries = [next(backwards(second)) for second in seconds]
        return [{**e, "__CURSOR": f"i={s}"} for e, s in zip(entries, seconds, strict=True)]

    calls = [Helper(iter(numbered(3, 2, 1))), Helper(iter(numbered(4, 5)), "ended")]
    asked = list(calls)
    monkeypatch.setattr(client, "Call", lambda *given: calls.pop(0)(*given))  # noqa: PLW0108 (at each call)
    coming = journald.follow("shop", lambda: {1: history}, lines=2, since=None, wanted=EVERYTHING)
    seen = [next(coming).text for _ in range(4)]
    with pytest.raises(HelperFailed):  # which says why nothing more can come
        next(coming)
    assert seen == ["said 2", "said 3", "said 4", "said 5"]
    assert asked[1].asked["after"] == "i=3"


def test_without_anything_that_was_read_it_begins_now(
    monkeypatch: pytest.MonkeyPatch, history: Path
) -> None:
    calls = [Helper(iter(())), Helper(iter(()), "ended")]
    asked = list(calls)
    monkeypatch.setattr(client, "Call", lambda *given: calls.pop(0)(*given))  # noqa: PLW0108 (at each call)
    with pytest.raises(HelperFailed):
        list(journald.follow("shop", lambda: {1: history}, lines=2, since=None, wanted=EVERYTHING))
    assert time.time() - asked[1].asked["since"] < 60
