"""Clean-up that keeps the error that made it necessary, whatever else fails."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gatling.errors import GatlingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def text_of(error: BaseException) -> str:
    """The text of an error, Gatling's or any other."""
    return error.what if isinstance(error, GatlingError) else f"{type(error).__name__}: {error}"


def add_failure(error: BaseException, second: BaseException) -> None:
    """Add to the log of an error that its clean-up failed as well; the error stays the first."""
    said = f"The cleanup also failed: {text_of(second)}"
    if isinstance(error, GatlingError):
        error.log = (*error.log, said)
    else:
        error.add_note(said)


@contextlib.contextmanager
def cleaning(error: BaseException) -> Iterator[None]:
    """A step of the clean-up after `error`, which stays the one that is raised if the step fails.

    Use one block for each step, so that no failure keeps the next step from being made.
    """
    try:
        yield
    except Exception as second:  # noqa: BLE001 (whatever it is, it is not the cause)
        add_failure(error, second)


@contextlib.contextmanager
def finally_(*steps: Callable[[], object]) -> Iterator[None]:
    """Make these steps at the end of the block, all of them, however it ends.

    The first error is the one that is raised: that of the block, or of a step.
    """
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        first = error
        for step in steps:
            try:
                step()
            except Exception as second:  # noqa: BLE001
                if first is None:
                    first = second
                else:
                    add_failure(first, second)
        if error is None and first is not None:
            raise first
