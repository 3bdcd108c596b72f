"""Which error is raised when the clean-up fails as well."""

from __future__ import annotations

import errno

import pytest

from gatling.cleanup import finally_
from gatling.errors import SupervisorFailed


def test_all_steps_are_made_and_the_first_error_is_raised() -> None:
    made: list[str] = []

    def fail(text: str) -> None:
        made.append(text)
        raise SupervisorFailed(f"{text}.")

    block = OSError(errno.EIO, "the cause")
    with (
        pytest.raises(OSError, match="the cause") as caught,
        finally_(lambda: fail("one"), lambda: made.append("two")),
    ):
        raise block
    assert made == ["one", "two"]
    assert caught.value.__notes__ == ["The cleanup also failed: one."]
    with (
        pytest.raises(SupervisorFailed, match=r"one\.") as of_step,
        finally_(lambda: fail("one"), lambda: fail("two")),
    ):
        pass
    assert of_step.value.log == ("The cleanup also failed: two.",)
