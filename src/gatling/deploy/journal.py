"""The journal of one deployment: each step is recorded before it begins and after it ended."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from gatling.state import deployments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatling.state.database import Database
    from gatling.ui.progress import Progress


class Journal:
    """Steps of one deployment, told to the pusher and recorded. Also a builder's `Watcher`."""

    def __init__(self, db: Database, deployment: int, progress: Progress) -> None:
        self._db = db
        self._deployment = deployment
        self._progress = progress
        self._position = 0
        self._open: dict[str, int] = {}
        """The positions of steps that have begun and not ended; one may contain another."""
        self._begun: dict[str, float] = {}
        """When each of them began."""
        self._idle, self._idle_since = 0.0, time.monotonic()
        self.seconds: list[tuple[str, float]] = []
        """Steps that ended well, with the seconds they took."""
        self.between = "beginning"
        """What goes on when no step does, for a person who waits."""
        self.at: Callable[[str], None] = lambda _: None
        """Told `before_STEP` and `after_STEP`: see build.callbacks."""

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step that ends well unless its block raises."""
        self.at(f"before_{name}")
        self.begin(name)
        started = time.monotonic()
        yield
        self.end(name, time.monotonic() - started)
        self.at(f"after_{name}")

    @property
    def idle(self) -> float:
        """The seconds that were spent in no step."""
        return self._idle if self._open else self._idle + time.monotonic() - self._idle_since

    def doing(self) -> tuple[str, float]:
        """The innermost step that is under way, or what goes on between two; and since when."""
        begun = list(self._begun.items())
        return begun[-1] if begun else (self.between, self._idle_since)

    def begin(self, step: str) -> None:
        """Record that a step begins. One that is still open when a deployment ends has failed."""
        if not self._open:
            self._idle += time.monotonic() - self._idle_since
        self._position += 1
        self._open[step] = self._position
        self._begun[step] = time.monotonic()
        deployments.begin_step(self._db, self._deployment, self._position, step)
        self._progress.begin(step)

    def end(self, step: str, seconds: float) -> None:
        """Record that the step has ended well."""
        position = self._open.pop(step, self._position)
        deployments.end_step(self._db, self._deployment, position, "succeeded", seconds)
        self.seconds.append((step, seconds))
        self._begun.pop(step, None)
        self.between, self._idle_since = f"after {step}", time.monotonic()
        self._progress.end(step, seconds)

    def line(self, text: str) -> None:
        """A line of output of the step that is under way."""
        self._progress.line(text)
