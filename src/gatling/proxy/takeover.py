"""How a new configuration of nginx becomes the applied one, on either kind of home.

A candidate is written beside the applied file and tested. One that nginx refuses never takes the
applied file's place. Between the rename and the end of the reload a mark says that nginx has not
read the file yet. A command that finds the mark reloads nginx, so no kill and no failed reload is
final.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling import files
from gatling.cleanup import cleaning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MARK = "unread"
"""The name of the mark, beside the configuration."""


class Refused(Exception):
    """nginx refused the candidate; the applied configuration is what it was."""

    def __init__(self, log: Sequence[str]) -> None:
        super().__init__("nginx refused the configuration")
        self.log = list(log)


def take(
    file: Path,
    render: Callable[[frozenset[str]], str],
    *,
    test: Callable[[Path], Sequence[str]],
    conflicts: Callable[[Sequence[str]], frozenset[str]],
    reload: Callable[[], object],
    mode: int = 0o600,
) -> bool:
    """Apply what `render` returns; whether anything changed, or was still to be read by nginx.

    `render` leaves out the optional parts that it is given. `test` returns nginx's messages about
    a candidate, none if nginx accepts it. The parts that `conflicts` finds in those messages are
    left out of the next candidate. Raises Refused, and whatever `reload` raises: the mark stays.
    """
    before = file.read_text() if file.exists() else None
    text = _accepted(file, before, render, test, conflicts, mode)
    if text != before:
        _mark(file)
        _candidate(file).rename(file)
        files.sync(file.parent)
    if not unread(file):
        return False
    reload()
    read(file)
    return True


def unread(file: Path) -> bool:
    """Whether nginx may not have read the applied configuration yet."""
    return file.with_name(MARK).exists()


def read(file: Path) -> None:
    """Remove the mark: nginx has read the applied configuration."""
    file.with_name(MARK).unlink(missing_ok=True)


def _accepted(
    file: Path,
    before: str | None,
    render: Callable[[frozenset[str]], str],
    test: Callable[[Path], Sequence[str]],
    conflicts: Callable[[Sequence[str]], frozenset[str]],
    mode: int,
) -> str:
    """The first text that nginx accepts; the candidate has it, unless it is the applied one."""
    candidate, without = _candidate(file), frozenset[str]()
    try:
        while True:
            text = render(without)
            if text == before:
                candidate.unlink(missing_ok=True)
                return text
            files.write(candidate, text, mode=mode)
            log = test(candidate)
            if not log:
                return text
            found = conflicts(log) - without
            if not found:
                raise Refused(log)
            without |= found
    except BaseException as error:
        with cleaning(error):
            candidate.unlink(missing_ok=True)
        raise


def _candidate(file: Path) -> Path:
    return file.with_name(f"{file.name}.candidate")


def _mark(file: Path) -> None:
    file.with_name(MARK).touch()
