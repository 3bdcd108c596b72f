"""How often tests repeat what is random: a few times by default, often with `bin/test --long`."""

from __future__ import annotations

import os

LONG = bool(os.environ.get("GATLING_TEST_LONG"))
"""Whether `bin/test --long` runs the tests."""


def scaled(short: int, full: int) -> int:
    """A count that only repeats: `short` by default, `full` with `bin/test --long`.

    `short` must be high enough for each kind of case to occur.
    """
    return full if LONG else short
