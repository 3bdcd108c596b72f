"""A deployment with noted surroundings."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from gatling.deploy.cutover import drain, hot
from gatling.deploy.evidence import health, probing
from gatling.state import apps
from tests.deploy.stage import Held, Prober, Stage, healthy, make_live

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.state.database import Database


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """What is printed."""
    return tmp_path / "said"


@pytest.fixture
def stage(tmp_path: Path, said: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """An app whose release 7 is live in slot 1."""
    with (
        said.open("w", buffering=1) as output,
        contextlib.closing(Stage(tmp_path, output)) as stage,
    ):

        def decide(db: Database, name: str, **target: object) -> None:
            stage.do(f"decide for v{target['release']} in {target['slot']}")
            make_live(db, name, **target)  # type: ignore[arg-type]

        def wait_healthy(*_: object, **__: object) -> str:
            stage.do("wait until it is healthy")
            return "42"

        monkeypatch.setattr(apps, "make_live", decide)
        monkeypatch.setattr(health, "wait_healthy", wait_healthy)
        monkeypatch.setattr(health, "check", healthy(stage))
        monkeypatch.setattr(probing, "prober", lambda *_: Prober(stage))
        monkeypatch.setattr(hot, "HeldRequest", Held)
        monkeypatch.setattr(drain, "DRAIN_POLL_SECONDS", 0)
        yield stage
        stage.gatling.db.close()
