"""A home with keys, for all tests of a file, and its dashboard for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.served import Served, new_home
from tests.dashboard import chromium
from tests.dashboard.opened import Opened, add_keys, by_key, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.dashboard.chromium import Chromium


@pytest.fixture(scope="module")
def home() -> Iterator[Served]:
    with new_home() as made:
        with made.opened() as gatling:
            add_keys(gatling)
        (made.root / "home" / "run").mkdir(exist_ok=True)
        yield made


@pytest.fixture(scope="module")
def here(home: Served) -> Iterator[Opened]:
    with opened(home.env) as found:
        found.enter()
        yield found


@pytest.fixture(scope="module")
def rita(home: Served) -> Iterator[Opened]:
    with by_key(home.env, home.root, "rita") as found:
        yield found


@pytest.fixture(scope="module")
def bob(home: Served) -> Iterator[Opened]:
    with by_key(home.env, home.root, "bob") as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    """A browser for a file: playwright keeps an event loop running, and other files use asyncio."""
    with chromium.started() as found:
        yield found
