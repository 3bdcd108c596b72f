"""Excerpts of an instance's output before a failure, chosen to contain the cause. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LINES = 30
"""How many lines are shown where the cause was found; half as many of the last ones otherwise."""

# First lines of Elixir and the BEAM when a boot fails: a config provider, an exception, a crash.
_CAUSE = re.compile(
    r"ERROR!|\*\* \(|\[error\]|init terminating|could not start|Runtime terminating"
)
_BYTES = re.compile(r"<<(\d{1,3}(?:,\d{1,3}){3,})>>")


def choose(lines: Sequence[str], *, only_causes: bool = False) -> tuple[str, ...]:
    """The lines from the first that names a cause, or else the last ones; texts made readable.

    With `only_causes`, none where there is no cause.
    """
    first = next((n for n, line in enumerate(lines) if _CAUSE.search(line)), None)
    if first is None and only_causes:
        return ()
    chosen = lines[-LINES // 2 :] if first is None else lines[first : first + LINES]
    return tuple(_BYTES.sub(_readable, line) for line in chosen)


def cause(lines: Sequence[str]) -> str:
    """The line that names why a boot failed: an exception if there is one; empty if none does."""
    named = [line.strip() for line in lines if _CAUSE.search(line)]
    # that a process ended with an exception is a line of its own, before the exception
    exceptions = [line for line in named if line.startswith("** (")]
    exceptions.sort(key=lambda line: line.startswith("** (EXIT) an exception was raised"))
    return next(iter(exceptions or named), "")


def _readable(match: re.Match[str]) -> str:
    """Erlang prints a text that it does not know as one as its bytes."""
    numbers = [int(n) for n in match[1].split(",")]
    if max(numbers) > 255:
        return match[0]
    text = bytes(numbers).decode("utf-8", "replace")
    return f'"{text}"' if text.isprintable() and "\ufffd" not in text else match[0]
