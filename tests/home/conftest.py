"""What the tests of whole homes share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def builds_quickly(shared_builds: None) -> None:
    """Compile the example once: `push` and others are about builds."""


@pytest.fixture(scope="module", autouse=True)
def boots_quickly(on_demand: None) -> None:
    """Load modules on demand. `hot`, most of `push` and server/test_server.py boot as users do."""
