"""The journal of one deployment: each step is recorded before it begins and after it ended."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from gatling.state import deployments
from gatling.text import CALLBACKS
from gatling.text import step as in_words
from gatling.ui.output import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatling.state.database import Database
    from gatling.ui.progress import Progress


SHOWN_SECONDS = 0.1
"""A phase's steps that took less are not listed."""
NOTICED_SECONDS = 1.0
"""Time between two steps that is listed like a step."""
TITLED = ("rehearse_migrations", "migrate", "setup")
"""Steps that run commands of the project, beside its callbacks: their output needs a title."""


class Journal:
    """Steps of one deployment, reported to the pusher and recorded. Also a builder's `Watcher`."""

    def __init__(self, db: Database, deployment: int, progress: Progress) -> None:
        self._db = db
        self._deployment = deployment
        self._progress = progress
        self._position = 0
        self._open: dict[str, int] = {}
        """The positions of steps that have begun and not ended; one may contain another."""
        self._begun: dict[str, float] = {}
        """When each of them began."""
        self._idle_since = time.monotonic()
        self._spent: list[tuple[str, float]] = []
        """The parts on which this phase has spent its time, with the seconds."""
        self.between = "beginning"
        """The name of the activity between two steps, for a person who waits."""
        self.at: Callable[[str], None] = lambda _: None
        """Called with `before_STEP` and `after_STEP`: see build.callbacks."""

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step that ends well unless its block raises."""
        self.at(f"before_{name}")
        self.begin(name)
        started = time.monotonic()
        yield
        self.end(name, time.monotonic() - started)
        self.at(f"after_{name}")

    def phase(self, title: str) -> None:
        """The next part of the deployment begins; a person reads a push as a few of these."""
        self.end_phase()
        self._progress.phase(title)

    def end_phase(self) -> None:
        """Report what the phase has spent its time on."""
        spent = [f"{name} {duration(took)}" for name, took in self._spent if took >= SHOWN_SECONDS]
        self._spent.clear()
        if spent:
            self._progress.note(" · ".join(spent))

    def doing(self) -> tuple[str, float]:
        """The innermost step that is under way, or what goes on between two; and since when."""
        begun = list(self._begun.items())
        return begun[-1] if begun else (self.between, self._idle_since)

    def begin(self, step: str) -> None:
        """Record that a step begins. One that is still open when a deployment ends has failed."""
        idle = time.monotonic() - self._idle_since
        if not self._open and idle >= NOTICED_SECONDS:
            self._spent.append((self.between, idle))
        self._position += 1
        self._open[step] = self._position
        self._begun[step] = time.monotonic()
        deployments.begin_step(self._db, self._deployment, self._position, step)
        self._progress.begin(step, announced=step in TITLED or step.startswith(CALLBACKS))

    def end(self, step: str, seconds: float) -> None:
        """Record that the step has ended well."""
        position = self._open.pop(step, self._position)
        deployments.end_step(self._db, self._deployment, position, "succeeded", seconds)
        self._begun.pop(step, None)
        if not self._open:  # a step's time contains that of the steps inside it
            self._spent.append((in_words(step), seconds))
        self.between, self._idle_since = f"after {in_words(step)}", time.monotonic()
        self._progress.end(step, seconds)

    def leave(self, step: str) -> None:
        """Leave a step to another process, which records how it ends."""
        self._open.pop(step, None)
        self._begun.pop(step, None)
        self.between, self._idle_since = f"after {in_words(step)}", time.monotonic()

    def line(self, text: str) -> None:
        """A line of output of the step that is under way."""
        self._progress.line(text)
