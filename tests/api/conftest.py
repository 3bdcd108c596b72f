"""A home whose API is served, for all tests of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.served import MALFORMED, Served, new_home, server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with new_home() as made:
        made.tokens = {
            "admin": made.token("ann", "admin"),
            "deployer": made.token("bob", "deployer", "shop"),
            "reader": made.token("rita", "reader", "shop"),
        }
        with server(made, printed_too=MALFORMED):
            yield made


@pytest.fixture
def home() -> Iterator[Served]:
    with new_home() as made:
        yield made
