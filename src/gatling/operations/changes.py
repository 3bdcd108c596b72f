"""A change of an app's records that takes effect immediately, or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gatling.cleanup import cleaning
from gatling.errors import DiskFull, GatlingError, is_full
from gatling.state import audit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatling.platform.open import Gatling


def change(
    gatling: Gatling,
    app: str,
    action: str,
    detail: str = "",
    *,
    steps: Sequence[Callable[[], object]],
    take_back: Callable[[], object],
) -> None:
    """Apply a change of an app's records as `apply` does, and add it to the audit.

    `action` and `detail` are what the audit shows. Readers see it, so no value goes in there.
    """
    apply(steps, take_back)
    audit.record(gatling.db, gatling.actor, app, action, detail)


def apply(steps: Sequence[Callable[[], object]], take_back: Callable[[], object]) -> None:
    """Bring what runs into line with a changed record, by steps that each follow the record.

    When one fails, the record is taken back and all steps are run again, so that record and world
    agree afterwards. A step that fails again is left to the next command, which runs it as well:
    the first error is the one that is raised.
    """
    try:
        for step in steps:
            step()
    except BaseException as error:
        for step in (take_back, *steps):
            with cleaning(error):
                step()
        if isinstance(error, OSError):
            raise _not_written(error) from error
        raise


def _not_written(error: OSError) -> GatlingError:
    """Return the error for a file that could not be written."""
    place = f" {os.fsdecode(error.filename)}" if error.filename else ""
    what = f"The file{place} could not be written: {error.strerror or error}."
    return DiskFull(what) if is_full(error) else GatlingError(what)
