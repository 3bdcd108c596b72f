"""The output of a deployment for its pusher, and its log.

Plain lines, since they travel through git's side band; colour only on a terminal. A pusher who is
gone must not stop a deployment, so a broken pipe silences the output and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from typing import IO, TYPE_CHECKING

from gatling import visible

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gatling.errors import GatlingError


FORCED = "GATLING_COLOR"
"""The variable that says for a push whether its pusher sees colours: ssh/colours.py."""
PIECE = select.PIPE_BUF // 4 - 1
"""Characters that are written at once: with four bytes each they fit when poll(2) says so."""
PATIENCE_SECONDS = 20
"""How long a pusher's full pipe is waited for. git may leave one behind that nobody reads."""

MAX_OUTPUT = 16 << 20
"""Characters of the programs' output that a deployment's log has room for."""


class Progress:
    """Writes to the pusher and, once opened, to the deployment's log. Threads may share it."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._colour = takes_colour(self._stream)
        self._gone = False
        self._log: IO[str] | None = None
        self._room = MAX_OUTPUT
        self._indent = ""
        self._writing = threading.Lock()
        self.last = time.monotonic()
        """When something was last printed."""

    def open_log(self, path: Path) -> None:
        """From now on write to this file as well (mode 0600: a build may print what it likes)."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._log = os.fdopen(fd, "w", encoding="utf-8", errors="replace", buffering=1)

    def close(self) -> None:
        """Close the log."""
        with self._writing:
            if self._log is not None:
                with contextlib.suppress(OSError):
                    self._log.close()
                self._log = None

    def phase(self, title: str) -> None:
        """A part of the deployment begins, named in a person's words."""
        self._indent = ""
        self._say(f"-----> {title}", "bold")

    def begin(self, step: str, *, announced: bool = False) -> None:
        """A step begins: a line of the log; of an announced step, the pusher sees the name, too.

        The output of an announced step is indented below the name.
        """
        self._indent = "  " if announced else ""
        self.record(f"   --> {step}")
        if announced:
            self._print(f"       {step}", "dim")

    def end(self, step: str, seconds: float) -> None:
        """A step has ended well. The log has the time of a step that took a while."""
        self._indent = ""
        if seconds >= 1:
            self.record(f"       {step} took {seconds:.1f} s")

    def line(self, text: str) -> None:
        """A line of output of the step that is under way; the log has so much of it and no more."""
        text = f"       {self._indent}{visible.one_line(text)}"
        if self._room >= 0:
            self._room -= len(text) + 1
            self.record(text if self._room >= 0 else "       … more output than is stored")
        self._print(text)

    def note(self, text: str) -> None:
        """Something worth knowing."""
        self._say(f"       {text}", "dim")

    def notes(self, texts: Iterable[str]) -> None:
        """Several such."""
        for text in texts:
            self.note(text)

    def say(self, text: str) -> None:
        """A line on its own."""
        self._say(text)

    def done(self, text: str) -> None:
        """The line that matters at the end."""
        self._say(text, "bold", "green")

    def fail(self, error: GatlingError) -> None:
        """Print the error: what happened, why, and what to do."""
        if not error.log_shown:
            for text in error.log:
                self._say(f"     | {text}", "dim")
        for text in error.what.splitlines():
            self._say(f" !     {text}", "bold", "red")
        for text in error.hint.splitlines():
            self._say(f" !     {text}", "red")

    def record(self, text: str) -> None:
        """A line for the log alone."""
        text = visible.one_line(text)
        with self._writing:
            if self._log is not None:
                with contextlib.suppress(OSError):  # a full disk must not hide what failed
                    self._log.write(text + "\n")

    def _say(self, text: str, *styles: str) -> None:
        text = visible.one_line(text)
        self.record(text)
        self._print(text, *styles)

    def _print(self, text: str, *styles: str) -> None:
        self.last = time.monotonic()
        with self._writing:
            self._write(text, *styles)

    def _write(self, text: str, *styles: str) -> None:
        if self._gone:
            return
        if self._colour:
            text = styled(text, *styles)
        try:
            for at in range(0, len(text) + 1, PIECE):
                if not self._takes_more():
                    self._gone = True
                    return
                piece = text[at : at + PIECE]
                self._stream.write(piece + ("\n" if at + PIECE > len(text) else ""))
                self._stream.flush()
        except OSError:
            self._gone = True

    def _takes_more(self) -> bool:
        """Whether the stream takes a piece at once: all that POLLOUT promises of a pipe."""
        poller = select.poll()
        poller.register(self._stream.fileno(), select.POLLOUT)
        return bool(poller.poll(PATIENCE_SECONDS * 1000))


def takes_colour(stream: IO[str]) -> bool:
    """Whether a stream is a terminal with colours, or a push that ends at one."""
    return os.environ.get(FORCED) == "1" or (stream.isatty() and allows_colour())


def allows_colour() -> bool:
    """Whether a terminal has colours, and nobody has requested none: https://no-color.org."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def styled(text: str, *styles: str) -> str:
    """A text as a terminal shows it in these styles (SGR, ECMA-48)."""
    codes = ";".join(_STYLES[style] for style in styles)
    return f"\x1b[{codes}m{text}\x1b[0m" if codes else text


_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32"}
