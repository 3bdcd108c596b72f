"""The terminal or the streams of this process, joined to a command in a pod until it ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from typing import TYPE_CHECKING

from gatling.platform.kubernetes.execute import PING_SECONDS, STDERR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from gatling.platform.kubernetes.execute import Execution

_CHUNK = 4096


def relay(execution: Execution) -> int:
    """Hand the output on until the command ends; its exit status. It has no input."""
    while execution.status is None:
        _show(execution, PING_SECONDS)
    return execution.status


def attach(execution: Execution) -> int:
    """Join the terminal to a command with one of its own until it ends; its exit status.

    Keys are sent as they are, so Ctrl-C is the command's.
    """
    keyboard = sys.stdin.fileno()
    with _raw(keyboard), _resized() as sizes:
        execution.resize(*_size(keyboard))
        while execution.status is None:
            wait = 0.0 if execution.waiting else PING_SECONDS
            ready = select.select([execution, keyboard, sizes], [], [], wait)[0]
            execution.keep_alive()
            if sizes in ready:
                os.read(sizes, _CHUNK)
                execution.resize(*_size(keyboard))
            if keyboard in ready:
                execution.send(os.read(keyboard, _CHUNK))
            if execution in ready or execution.waiting:
                _show(execution, 0)
    return execution.status


def _show(execution: Execution, seconds: float) -> None:
    for channel, data in execution.receive(seconds):
        rest = data
        while rest:
            rest = rest[os.write(2 if channel == STDERR else 1, rest) :]


@contextlib.contextmanager
def _raw(keyboard: int) -> Iterator[None]:
    import termios
    import tty

    before = termios.tcgetattr(keyboard)
    tty.setraw(keyboard)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resized() -> Iterator[int]:
    """A descriptor that is readable once the window has another size."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def note(_: int, __: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writing, b"x")

    before = signal.signal(signal.SIGWINCH, note)
    try:
        yield reading
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(reading)
        os.close(writing)


def _size(keyboard: int) -> tuple[int, int]:
    try:
        found = os.get_terminal_size(keyboard)
    except OSError:
        return 24, 80
    return found.lines or 24, found.columns or 80
