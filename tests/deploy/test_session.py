"""Opening a home for a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.deploy import recovery, session
from gatling.errors import DiskFull
from gatling.state import apps, deployments

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from gatling.engine import Engine


def test_an_app_that_cannot_be_recovered_does_not_keep_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATLING_HOME", str(tmp_path / "home"))
    done = []

    def reconcile(engine: Engine, name: str) -> None:
        if name == "broken":
            raise DiskFull("No space is left.")
        done.append(name)

    monkeypatch.setattr(recovery, "reconcile", reconcile)
    with session.opened() as engine:
        for name in ("broken", "whole"):
            apps.create(engine.db, name, lambda _: True)
            engine.home.app(name).lock.parent.mkdir(parents=True)
            deployments.begin(engine.db, name, cause="push", actor="t", mark="m", commit=None)
    with session.opened() as engine:
        assert [app.name for app in apps.every(engine.db)] == ["broken", "whole"]
    assert done == ["whole"]
    said = capsys.readouterr().err
    assert "broken: recovery was not possible yet: No space is left." in said
    assert "whole: recovered from" in said
