"""A state file of a test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.state.database import Database, open_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def db(file: Path) -> Iterator[Database]:
    opened = open_database(file)
    yield opened
    opened.close()
