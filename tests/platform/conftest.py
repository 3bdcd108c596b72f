"""A mirror of small builds, and the toolchains of an embedded home."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.platform.embedded.toolchains import OwnToolchains
from tests.mirror import Mirror
from tests.places import embedded_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def builds() -> Iterator[Mirror]:
    with Mirror() as started:
        for version, otps in (("1.17.3", "26"), ("1.18.3", "27"), ("1.18.4", "27"),
                              ("1.18.4", "28"), ("1.19.0-rc.0", "28")):  # fmt: skip
            started.elixir(version, otps)
        for version in ("26.2.5", "27.2", "27.3.4", "28.0.1", "28.1-rc1"):
            started.otp(version)
        yield started


@pytest.fixture
def chains(tmp_path: Path) -> OwnToolchains:
    return OwnToolchains(embedded_home(tmp_path / "home"))
