"""The line that names why a boot failed."""

from __future__ import annotations

import pytest

from gatling.runtime import crash_excerpt

EXIT = "    ** (EXIT) an exception was raised:"


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (["booting", EXIT, "        ** (RuntimeError) no boot"], "** (RuntimeError) no boot"),
        (["** (KeyError) key :a not found", EXIT], "** (KeyError) key :a not found"),
        (["    ** (EXIT) :not_today"], "** (EXIT) :not_today"),
        ([EXIT], "** (EXIT) an exception was raised:"),
        (["[error] it fails", "Runtime terminating"], "[error] it fails"),
        (["booting"], ""),
    ],
)
def test_the_exception_is_named_rather_than_the_exit(lines: list[str], cause: str) -> None:
    assert crash_excerpt.cause(lines) == cause
