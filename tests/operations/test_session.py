"""Opening a home for a command: which apps it recovers, and what it says of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from gatling.cli import home
from gatling.deploy import deployment_log, recovery
from gatling.errors import DiskFull, InvalidInput
from gatling.operations import lifecycle, session
from gatling.platform import lock
from gatling.platform.open import open_gatling
from gatling.state import apps, deployments
from gatling.ui.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.platform.open import Gatling


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A home in which a deployment of each of three apps was killed; the apps reconciled since."""
    monkeypatch.setenv("GATLING_HOME", str(tmp_path / "home"))
    done: list[str] = []

    def reconcile(gatling: Gatling, name: str) -> list[str]:
        if name == "broken":
            raise DiskFull("No space is left.")
        if name == "evil":
            raise TypeError("'int' object is not iterable")
        done.append(name)
        for each in deployments.running(gatling.db, name):
            deployments.end(gatling.db, each.id, "failed")
        return []

    monkeypatch.setattr(recovery, "reconcile", reconcile)
    with open_gatling() as gatling:
        for name in ("broken", "evil", "whole"):
            apps.create(gatling.db, name, lambda _: True)
            gatling.home.app(name).lock.parent.mkdir(parents=True)
            gatling.home.app(name).lock.touch()
            deployments.begin(gatling.db, name, cause="push", actor="t", mark="m", commit=None)
    return done


def test_a_command_recovers_the_app_that_it_is_about(
    done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with session.opened() as gatling:
        assert len(apps.every(gatling.db)) == 3
    assert done == []
    with session.opened("whole"):
        pass
    assert done == ["whole"]
    assert capsys.readouterr().err.startswith("whole: recovered from")


def test_an_app_that_cannot_be_recovered_can_still_be_worked_on(
    done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with session.opened("broken") as gatling:
        assert apps.get(gatling.db, "broken")
    assert "broken: recovery was not possible yet: No space is left." in capsys.readouterr().err
    with session.opened("evil") as gatling:
        assert apps.get(gatling.db, "evil")
    assert "evil: recovery was not possible yet: A defect in Gatling" in capsys.readouterr().err
    assert done == []


def test_a_command_that_reads_recovers_nothing_and_says_what_waits(
    done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with session.reading("whole") as gatling:
        assert apps.get(gatling.db, "whole")
    assert done == []
    assert "whole: deployment 3 was interrupted" in capsys.readouterr().err
    with (
        session.opened() as gatling,
        lock.hold(gatling.home.app("whole").lock, lambda: None),
        session.reading("whole"),
    ):
        pass  # it is under way
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("way", [session.opened, session.reading])
def test_the_hint_of_an_error_names_the_app(done: list[str], way: Any) -> None:
    with pytest.raises(InvalidInput) as caught, way("whole"):
        raise InvalidInput("No.", hint="`gatling logs APP` or `gatling -a APP jobs`, see APPENDIX")
    assert caught.value.hint == "`gatling logs whole` or `gatling -a whole jobs`, see APPENDIX"
    with pytest.raises(InvalidInput) as caught, session.opened():
        raise InvalidInput("No.", hint="`gatling logs APP`")
    assert caught.value.hint == "`gatling logs APP`", "no app is known"


def test_a_deployment_is_followed_beside_an_app_that_cannot_be_recovered(
    done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    fails = recovery.reconcile

    def reconcile(gatling: Gatling, name: str) -> list[str]:
        said = fails(gatling, name)
        deployments.end(gatling.db, 3, "interrupted")
        return said

    monkeypatch.setattr(recovery, "reconcile", reconcile)
    with session.opened() as gatling:
        ended = deployment_log.follow(gatling, "whole", 3, written.append)
        assert ended.outcome == "interrupted"
        assert done == ["whole"], "and nobody has looked at the others"
        with pytest.raises(DiskFull):
            deployment_log.follow(gatling, "broken", 1, written.append)


def test_recover_says_when_another_command_works_on_the_app(done: list[str]) -> None:
    with session.opened() as gatling, lock.hold(gatling.home.app("whole").lock, lambda: None):
        ran = CliRunner().invoke(home.recover_command, ["whole"])
    assert ran.exit_code == 0
    assert ran.output == (
        "whole: left alone, because another command is deploying or recovering it\n"
    )
    assert done == []
    ran = CliRunner().invoke(home.recover_command, ["whole"])
    assert done == ["whole"]


def test_no_app_keeps_the_others_from_being_recovered(done: list[str], tmp_path: Path) -> None:
    with session.opened() as gatling, (tmp_path / "said").open("w") as file:
        recovered = recovery.recover_unfinished(gatling)
        assert [each.app for each in recovered if each.error] == ["broken", "evil"]
        assert done == ["whole"]
        lifecycle.recover(gatling, Progress(file))
    assert done == ["whole", "whole"]
    said = (tmp_path / "said").read_text()
    assert "No space is left." in said
    assert "A defect in Gatling" in said
    assert "TypeError: 'int' object" in (tmp_path / "home/debug.log").read_text()


def test_an_instance_that_has_replaced_an_upgraded_one_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATLING_HOME", str(tmp_path / "home"))
    asked: list[bool] = []

    def start_live(_: Gatling, __: apps.App, *, perhaps_upgraded: bool) -> bool:
        asked.append(perhaps_upgraded)
        return False

    monkeypatch.setattr(recovery, "start_live", start_live)
    with open_gatling() as gatling:
        apps.create(gatling.db, "shop", lambda _: True)
        gatling.home.app("shop").root.mkdir(parents=True)
        for slot in (1, 2):
            made = deployments.begin(
                gatling.db, "shop", cause="push", actor="t", mark="m", commit=None
            )
            deployments.set_target(
                gatling.db, made.id, release=2, slot=1, strategy="hot", reasons=()
            )
            apps.make_live(gatling.db, "shop", release=1, slot=slot, config={})
            recovery.reconcile(gatling, "shop")
    assert asked == [True, False]
