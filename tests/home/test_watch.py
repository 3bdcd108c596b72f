"""A release that serves worse is undone in the background (tests/watched.py)."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests import watched

if TYPE_CHECKING:
    from tests.conftest import World


def test_a_release_that_serves_worse_is_undone(world: World) -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(watched.__file__)],
        env=world.env, cwd=world.root, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "v2 was undone. Within " in done.stdout
