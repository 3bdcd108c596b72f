"""What an error of the system is taken for."""

from __future__ import annotations

import errno
import os
import shutil

import pytest

from gatling.errors import is_full


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
