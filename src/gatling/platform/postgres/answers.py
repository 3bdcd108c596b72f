"""The answer of the program that makes backups (worker.py), among its lines of progress."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gatling.errors import CommandFailed, DiskFull, GatlingError, InvalidInput, MissingProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_KINDS: dict[str, type[GatlingError]] = {
    kind.__name__: kind for kind in (CommandFailed, DiskFull, InvalidInput, MissingProgram)
}


def last(text: str) -> dict[str, Any]:
    """The answer in the whole output of the program; raises as `Answer.result`."""
    answer = Answer(lambda _: None)
    for line in text.splitlines():
        answer.take(line)
    return answer.result()


class Answer:
    """Takes the lines of the program."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._found: dict[str, Any] | None = None

    def take(self, line: str) -> None:
        """Take a line: progress, or the answer."""
        if line.startswith("\0"):
            self._found = json.loads(line[1:])
        else:
            self._say(line)

    def result(self, tail: Sequence[str] = ()) -> dict[str, Any]:
        """The answer; raises the error that the program reported, or CommandFailed without one."""
        if self._found is None:
            raise CommandFailed("The backup was interrupted.", log=tail, log_shown=True)
        if "what" in self._found:
            kind = _KINDS.get(self._found["kind"], CommandFailed)
            raise kind(self._found["what"], hint=self._found["hint"], log=self._found["log"])
        return self._found
