"""Why a connection failed: the system's words, which lie below errors of libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def below(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and every error that it wraps: causes, contexts, reasons and arguments."""
    seen: set[int] = set()
    queue: list[BaseException] = [error]
    while queue:
        one = queue.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        queue += [entry for entry in inner if isinstance(entry, BaseException)]


def of_connection(error: BaseException, *, timed_out: bool) -> str:
    """The reason of a failed connection. `timed_out` says that the library's own time was up."""
    if timed_out:
        return "no answer in time"
    words = (one.strerror for one in below(error) if isinstance(one, OSError) and one.strerror)
    return next(words, "the connection failed")
