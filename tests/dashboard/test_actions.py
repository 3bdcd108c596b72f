"""Changes that pages make: how many are under way at the same time."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gatling.api.answers import Refused
from gatling.api.worker import Done
from gatling.dashboard.actions import Workers


def test_one_change_too_many_is_refused_and_does_not_wait_for_the_others() -> None:
    """One that waited would seem to have begun, and would begin when nobody expects it."""
    end = threading.Event()

    def work() -> Done:
        end.wait(60)
        return Done(200, b"")

    async def ask() -> None:
        workers = Workers(2, "changes")
        begun = [workers.begin(work), workers.begin(work)]
        with pytest.raises(Refused, match="2 changes"):
            workers.begin(work)
        end.set()
        await asyncio.gather(*begun)
        assert (await workers.begin(work)).status == 200

    asyncio.run(ask())
