"""A sign of life during silent steps: what is running, and for how long."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from gatling.text import step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatling.ui.progress import Progress

SILENCE_SECONDS = 10.0
"""After so long without output a line says what is running."""


@contextlib.contextmanager
def beating(progress: Progress, doing: Callable[[], tuple[str, float]]) -> Iterator[None]:
    """Report what is running whenever nothing has been printed for a while.

    `doing` gives its name, and the moment (`time.monotonic`) at which it began.
    """
    stop = threading.Event()
    threading.Thread(target=_beat, args=(progress, doing, stop), daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def _beat(
    progress: Progress, doing: Callable[[], tuple[str, float]], stop: threading.Event
) -> None:
    left = SILENCE_SECONDS
    while not stop.wait(left):
        left = progress.last + SILENCE_SECONDS - time.monotonic()
        if left <= 0:
            name, since = doing()
            progress.note(f"{step(name)}: {time.monotonic() - since:.0f} s so far")
            left = SILENCE_SECONDS
