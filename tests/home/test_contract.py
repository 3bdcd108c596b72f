"""The embedded home fulfils what every platform has to (tests/contract.py)."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests import contract

if TYPE_CHECKING:
    from tests.conftest import World


def test_an_embedded_home_is_a_platform(world: World) -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(contract.__file__)],
        env=world.env, cwd=world.root, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{len(contract.CHECKS)} checks, 0 failed\n"), (
        done.stdout + done.stderr
    )
