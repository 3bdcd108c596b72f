"""A conversation with a program: lines to its standard input, lines of its output, until its end.

The parts that differ from home to home come as functions: LocalTasks and UnitTasks make
conversations.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from collections import deque
from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSE_SECONDS = 10.0
"""Time for a program to exit after its conversation has ended, in seconds."""


class Pipes:
    """A program's standard input and output, with this process at the other ends."""

    def __init__(self) -> None:
        self.input, self.writing = os.pipe()
        self.reading, self.output = os.pipe()

    def given(self) -> None:
        """The program has its ends now: let it alone have them, so that each sees the other go."""
        os.close(self.input)
        os.close(self.output)

    def close(self) -> None:
        """Close the ends that are left after `given`: nothing was started."""
        os.close(self.writing)
        os.close(self.reading)


class Conversation:
    """One program, started. Its owner must close it."""

    def __init__(
        self,
        *,
        pipes: Pipes,
        ended: int,
        how: Callable[[tuple[str, ...]], CommandFailed],
        stop: Callable[[], None],
        after: Callable[[], None],
    ) -> None:
        """The program has been given its ends of `pipes`; `ended` is readable when it has ended.

        `how` then says with what it has ended, given its last lines. `stop` ends it, `after` ends
        what it has left; each is called once at most.
        """
        self._reading, self._writing, self._ended = pipes.reading, pipes.writing, ended
        self._how, self._stop, self._after = how, stop, after
        self._lines: deque[str] = deque()
        self._tail: deque[str] = deque(maxlen=process.TAIL_LINES)
        self._rest = b""
        self._open = True

    def say(self, text: str) -> None:
        """A line to it. If it has ended, `line` says how."""
        data = text.encode() + b"\n" if self._open else b""
        with contextlib.suppress(BrokenPipeError):
            while data:
                data = data[os.write(self._writing, data) :]

    def hang_up(self) -> None:
        """Say no more: the program finds the end of its standard input."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1

    def attend(
        self, deadline: float, limit: float, on_line: Callable[[str], None], *, name: str
    ) -> None:
        """Hand on its lines until it has ended well; CommandFailed otherwise, as `line`.

        An error in `on_line`, or an interruption, ends the program first. `name` is that of the
        program, for the error of one that took too long.
        """
        try:
            while True:
                on_line(self.line(deadline, limit, name))
        except CommandFailed as error:
            if self._open or error.status != 0:
                raise
        finally:
            if self._open:
                self._end(stop=True)

    def line(self, deadline: float, limit: float, name: str = "It") -> str:
        """The next line it prints; CommandFailed when it ends before.

        Also when there is none by `deadline`, of time.monotonic(), which `limit` seconds led to.
        """
        while not self._lines:
            if not self._open:
                raise CommandFailed("The program has already ended.")
            ready = self._wait(deadline)
            if not ready:
                self._end(stop=True)
                what = f"{name} did not end within {limit:g} seconds and was stopped."
                raise CommandFailed(what, log=tuple(self._tail))
            if not (self._reading in ready and self._read()) and not self._lines:
                tail = (*self._tail, process.text(self._rest)) if self._rest else tuple(self._tail)
                try:
                    raise self._how(tail)
                finally:
                    self._end(stop=False)
        return self._lines.popleft()

    def close(self) -> None:
        """End it by saying no more; by force when that does not do."""
        if not self._open:
            return
        self.hang_up()
        deadline = time.monotonic() + CLOSE_SECONDS
        while True:
            ready = self._wait(deadline)
            # what it still says is not heard by anybody, but must not hold it up
            if not ready or self._ended in ready or not self._read():
                break
        self._end(stop=not ready)

    def _wait(self, deadline: float) -> set[int]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._reading, selectors.EVENT_READ)
            selector.register(self._ended, selectors.EVENT_READ)
            left = max(0.0, deadline - time.monotonic())
            return {key.fd for key, _ in selector.select(left)}

    def _read(self) -> bool:
        """Take what is there; False at the end."""
        chunk = os.read(self._reading, 65536)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > process.MAX_LINE:
            lines, self._rest = [*lines, self._rest], b""
        for raw in lines:
            self._lines.append(process.text(raw))
            self._tail.append(self._lines[-1])
        return bool(chunk)

    def _end(self, *, stop: bool) -> None:
        self._open = False
        try:
            if stop:
                self._stop()
            self._after()
        finally:
            os.close(self._reading)
            if self._writing >= 0:
                os.close(self._writing)
