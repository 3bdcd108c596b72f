"""Answers that may take long, such as a node's: asked for in threads, and waited for briefly.

A node that does not answer holds up no page. It is asked by one thread at a time, however often its
page is loaded.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

Found = TypeVar("Found")
THREADS = 64
"""Questions at the same time. As many nodes that hang delay those of all others."""
FRESH_SECONDS = 4.0
"""How long an answer counts as new."""
SILENT_SECONDS = 0.7
"""After which an app that has not answered is shown as one that does not answer."""


class Answer(NamedTuple, Generic[Found]):
    """The present knowledge of an answer."""

    value: Found | None
    silent: bool
    """Whether it was waited for too long."""

    @property
    def pending(self) -> bool:
        """Whether it may come soon."""
        return self.value is None and not self.silent


class Live(Generic[Found]):
    """The answers of all apps to one question. Only the event loop's thread uses it."""

    def __init__(
        self,
        ask: Callable[[str], Found],
        clock: Callable[[], float] = time.monotonic,
        *,
        fresh: float = FRESH_SECONDS,
        keep: float = 0.0,
        silent: float = SILENT_SECONDS,
    ) -> None:
        """An answer counts as new for `fresh` seconds, and is given until the next for `keep`.

        After `silent` seconds without an answer it was waited for too long.
        """
        self._ask, self._clock, self._fresh, self._keep = ask, clock, fresh, keep
        self._silent = silent
        self._pool = ThreadPoolExecutor(THREADS, "live")
        self._known: dict[str, tuple[float, Found]] = {}
        self._begun: dict[str, float] = {}
        """When a thread began to ask, of those that are asked."""
        self._asked: dict[str, Future[Found]] = {}

    async def of(self, name: str, seconds: float) -> Answer[Found]:
        """The answer of an app, waited for so many seconds; an error of `ask` is raised."""
        known = self._known.get(name)
        if known is not None and self._clock() - known[0] < self._fresh:
            return Answer(known[1], silent=False)
        asked = self._asked.get(name)
        if asked is None:
            asked = self._asked[name] = self._pool.submit(self._work, name)
        await asyncio.wait([asyncio.wrap_future(asked)], timeout=seconds)
        if asked.done():
            self._asked.pop(name, None)
            value = asked.result()
            self._known[name] = (self._clock(), value)
            return Answer(value, silent=False)
        begun = self._begun.get(name)
        kept = known[1] if known is not None and self._clock() - known[0] < self._keep else None
        return Answer(kept, begun is not None and self._clock() - begun > self._silent)

    async def of_all(self, names: Sequence[str], seconds: float) -> dict[str, Answer[Found]]:
        """The answers of several, which are waited for together."""
        found = await asyncio.gather(*(self.of(name, seconds) for name in names))
        return dict(zip(names, found, strict=True))

    def _work(self, name: str) -> Found:
        self._begun[name] = self._clock()
        try:
            return self._ask(name)
        finally:
            self._begun.pop(name, None)
