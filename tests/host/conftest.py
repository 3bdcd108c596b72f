"""Two directories that stand for servers, and a backup of the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.host import backup
from tests.host.archives import Server, filled

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def old(tmp_path: Path) -> Server:
    return filled(tmp_path / "old")


@pytest.fixture
def new(tmp_path: Path) -> Server:
    return Server(tmp_path / "new")


@pytest.fixture
def made(old: Server, tmp_path: Path) -> Path:
    backup.backup(tmp_path / "b.tar.gz", old.root)
    return tmp_path / "b.tar.gz"
