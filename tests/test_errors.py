"""What an error of the system is taken for."""

from __future__ import annotations

import errno
import os
import shutil

import pytest

from gatling.errors import SupervisorFailed, finally_, is_full


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "x", "/f"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (OSError(errno.EIO, os.strerror(errno.ENOSPC)), False),
        (shutil.Error([("/a", "/b", f"[Errno 28] {os.strerror(errno.ENOSPC)}: '/b'")]), True),
        (shutil.Error([("/a", "/b", "[Errno 13] Permission denied: '/b'")]), False),
    ],
)
def test_a_full_disk(error: OSError, full: bool) -> None:
    assert is_full(error) == full


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
