"""What the tests of whole homes share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def boots_quickly(on_demand: None) -> None:
    """Load modules on demand. Tests of `hot`, `push` and `server` boot releases as users do."""
