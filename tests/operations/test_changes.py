"""A changed record and what follows it agree afterwards, whatever fails."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from gatling.errors import DiskFull, GatlingError, ProxyRefused
from gatling.operations import changes


class World:
    """A record, and two things that follow it."""

    def __init__(self) -> None:
        self.record = "before"
        self.first = self.second = "before"
        self.fails: BaseException | None = None
        self.fails_always = False

    def follow_first(self) -> None:
        self.first = self.record

    def follow_second(self) -> None:
        if self.fails and (self.record == "after" or self.fails_always):
            raise self.fails
        self.second = self.record

    def change(self) -> None:
        self.record = "after"
        changes.apply([self.follow_first, self.follow_second], self.take_back)

    def take_back(self) -> None:
        self.record = "before"

    def state(self) -> tuple[str, str, str]:
        return self.record, self.first, self.second


def test_all_follows_the_record() -> None:
    world = World()
    world.change()
    assert world.state() == ("after", "after", "after")


@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize(
    ("fails", "wanted"),
    [
        (ProxyRefused("no"), ProxyRefused),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), DiskFull),
        (OSError(errno.EACCES, "Permission denied"), GatlingError),
    ],
)
def test_or_is_as_before(fails: BaseException, wanted: Any, always: bool) -> None:
    if always and isinstance(fails, KeyboardInterrupt):
        return
    world = World()
    world.fails, world.fails_always = fails, always
    with pytest.raises(wanted) as caught:
        world.change()
    assert world.state() == ("before", "before", "before")
    assert isinstance(caught.value, DiskFull) == (wanted is DiskFull)


def test_a_record_that_cannot_be_taken_back_hides_no_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: World) -> None:
        raise DiskFull("No space is left.")

    world = World()
    world.fails = ProxyRefused("nginx refuses it.")
    monkeypatch.setattr(World, "take_back", full)
    with pytest.raises(ProxyRefused) as caught:
        world.change()
    assert "No space is left." in caught.value.log[0]
