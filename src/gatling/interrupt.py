"""When a deployment may still be called off.

Until the cut-over begins, Ctrl-C, a closed terminal or a pusher who is gone raise Interrupted in
the deployment, which then leaves everything as it was. From then on nothing of that stops it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from typing import TYPE_CHECKING

from gatling.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WATCH_SECONDS = 0.25


class Interruption:
    """Whether, and by what, the deployment may still be interrupted."""

    def __init__(self) -> None:
        self._armed = True

    @property
    def armed(self) -> bool:
        """Whether the deployment may still be interrupted."""
        return self._armed

    def shield(self) -> None:
        """From now on nothing interrupts the deployment any more."""
        self._armed = False

    def rearm(self) -> None:
        """Nothing was changed after all: it may be interrupted again."""
        self._armed = True

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Signal handler: raises Interrupted once, unless shielded."""
        if self._armed:
            self._armed = False
            raise Interrupted(_REASONS[signal.Signals(number)])


_REASONS = {
    signal.SIGINT: "Interrupted (Ctrl-C) before the cut-over.",
    signal.SIGTERM: "Stopped by SIGTERM before the cut-over.",
    signal.SIGHUP: "The pusher disconnected before the cut-over (connection or terminal closed).",
}


@contextlib.contextmanager
def interruptible(*, watch_pusher: bool = False) -> Iterator[Interruption]:
    """Handle the signals that call a deployment off; with `watch_pusher` also see who pushes go."""
    interruption = Interruption()
    before = {number: signal.signal(number, interruption.handle) for number in SIGNALS}
    stop = threading.Event()
    if watch_pusher:
        parent = os.getppid()
        threads = _threads(parent)

        def gone() -> bool:
            # git-receive-pack has a thread that hands on what its hook says, and sends a sign of
            # life where there is nothing to hand on (receive.keepAlive). That thread ends when
            # the pusher is gone; git itself goes on waiting for the hook.
            return os.getppid() != parent or _threads(parent) < threads or _reader_gone(2)

        threading.Thread(target=_watch, args=(gone, stop), daemon=True).start()
    try:
        yield interruption
    finally:
        stop.set()
        interruption.shield()
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(gone: Callable[[], bool], stop: threading.Event) -> None:
    while not stop.wait(WATCH_SECONDS):
        if gone():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGHUP)
            return


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 (only counted)
    except OSError:
        return 0


def _reader_gone(fd: int) -> bool:
    """Whether nobody reads this pipe any more: POLLERR on its writing end, poll(2)."""
    poller = select.poll()
    try:
        poller.register(fd, 0)
        return any(events & (select.POLLERR | select.POLLNVAL) for _, events in poller.poll(0))
    except (OSError, ValueError):
        return True


class EndedBySignal(SystemExit):
    """A signal that ends this process, after what is to be cleaned up."""


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block by an exception, so that it cleans up."""

    def end(number: int, _: FrameType | None) -> None:
        raise EndedBySignal(128 + number)

    before = {one: signal.signal(one, end) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
