"""The steps of a build, as its output marks them."""

from __future__ import annotations

import re
import time
from collections import deque
from typing import Protocol

from gatling import process

_NOISE = re.compile(r"\* skipping \S+\.bat for windows ")
"""Messages of `mix release` about scripts for Windows, which a server does not need."""


class Watcher(Protocol):
    """Receives the events of a build, in order."""

    def line(self, text: str) -> None:
        """A line of output of the step that is under way."""

    def begin(self, step: str) -> None:
        """A step begins."""

    def end(self, step: str, seconds: float) -> None:
        """A step has ended well."""


class Steps:
    """Takes the marker's lines out of the output and turns them into steps and facts."""

    def __init__(self, marker: str, watcher: Watcher) -> None:
        self.marker = marker
        self.facts: dict[str, str] = {}
        """Facts that the build reports about itself, by name."""
        self.current = ""
        """The step that is under way, or has failed."""
        self._watcher = watcher
        self._started = time.monotonic()
        self._tail: deque[str] = deque(maxlen=process.TAIL_LINES)

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines of output."""
        return tuple(self._tail)

    def begin(self, step: str) -> None:
        """A step begins."""
        self.current, self._started = step, time.monotonic()
        self._watcher.begin(step)

    def end(self, step: str) -> None:
        """It has ended well."""
        self.current = ""
        self._watcher.end(step, time.monotonic() - self._started)

    def line(self, text: str) -> None:
        """A line of what the build prints."""
        if _NOISE.match(text):
            return
        if not text.startswith(self.marker):
            self._tail.append(text)
            self._watcher.line(text)
            return
        match text.split(" ", 3)[1:]:
            case ["begin", step]:
                self.begin(step)
            case ["end", step]:
                self.end(step)
            case ["fact", key, value]:
                self.facts[key] = value
