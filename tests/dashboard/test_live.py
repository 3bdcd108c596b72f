"""Questions that nodes take long to answer."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from gatling.dashboard.live import FRESH_SECONDS, SILENT_SECONDS, Live
from gatling.errors import NodeUnreachable


def test_a_node_that_does_not_answer_is_asked_once_and_holds_up_nothing() -> None:
    now, asked, end = 0.0, [], threading.Event()

    def ask(name: str) -> str:
        asked.append(name)
        if name != "shop":
            end.wait(60)
        return f"{name} answered"

    async def look() -> None:
        nonlocal now
        live = Live(ask, lambda: now)
        began = time.monotonic()
        first = await live.of("slow", 0.02)
        assert first.pending
        await live.of_all([f"slow{number}" for number in range(40)], 0.01)
        assert (await live.of("shop", 5)).value == "shop answered"
        now = SILENT_SECONDS + 0.1
        for _ in range(50):
            again = await live.of("slow", 0.001)
            assert again.silent
            assert again.value is None
        assert time.monotonic() - began < 30  # each of them may take a minute
        end.set()
        assert (await live.of("slow", 5)).value == "slow answered"

    asyncio.run(look())
    assert sorted(asked) == sorted(["slow", "shop", *(f"slow{number}" for number in range(40))])


def test_an_answer_is_new_for_some_seconds() -> None:
    now, count = 0.0, 0

    def ask(_: str) -> int:
        nonlocal count
        count += 1
        return count

    async def look() -> None:
        nonlocal now
        live = Live(ask, lambda: now)
        assert (await live.of("shop", 5)).value == 1
        assert (await live.of("shop", 5)).value == 1
        now = FRESH_SECONDS + 0.1
        assert (await live.of("shop", 5)).value == 2

    asyncio.run(look())


def test_an_answer_is_kept_while_a_slow_one_is_asked_again() -> None:
    now, end, slow = 0.0, threading.Event(), False

    def ask(_: str) -> str:
        if slow:
            end.wait(60)
        return "new" if slow else "old"

    async def look() -> None:
        nonlocal now, slow
        live = Live(ask, lambda: now, fresh=20, keep=600)
        assert (await live.of("shop", 5)).value == "old"
        now, slow = 21.0, True
        kept = await live.of("shop", 0.01)
        assert (kept.value, kept.pending) == ("old", False)
        now = 601.0
        assert (await live.of("shop", 0.01)).value is None
        end.set()
        assert (await live.of("shop", 5)).value == "new"

    asyncio.run(look())


def test_an_error_is_raised_and_the_next_question_asked() -> None:
    found = iter([NodeUnreachable("no"), None])

    def ask(_: str) -> str:
        error = next(found)
        if error is not None:
            raise error
        return "yes"

    async def look() -> None:
        live = Live(ask)
        with pytest.raises(NodeUnreachable):
            await live.of("shop", 5)
        assert (await live.of("shop", 5)).value == "yes"

    asyncio.run(look())
