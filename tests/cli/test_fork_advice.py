"""The advice after a fork that was copied."""

from __future__ import annotations

import pytest

from gatling.cli.db_fork import LARGE_BYTES, advice


@pytest.mark.parametrize(
    ("how", "count", "advised"),
    [("copy", LARGE_BYTES, True), ("copy", LARGE_BYTES - 1, False), ("clone", LARGE_BYTES, False),
     ("schema", LARGE_BYTES, False)],
)  # fmt: skip
def test_copy_on_write_is_mentioned_after_a_large_copy(
    how: str, count: int, *, advised: bool
) -> None:
    assert ("docs/how-to/database.md" in advice(how, count)) == advised
