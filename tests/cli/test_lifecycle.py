"""A record of what an app is to do, and what runs, agree after a command that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.deploy import recovery
from gatling.errors import DiskFull, Exit, GatlingError, SupervisorFailed
from gatling.operations import deploy_keys, lifecycle
from gatling.platform.open import open_gatling
from gatling.runtime import workers
from gatling.state import apps, audit

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.state.apps import Wanted
    from tests.cli.conftest import Shell

LIVE = "UPDATE apps SET live_release = 1, live_slot = 1 WHERE name = 'shop'"


@pytest.mark.parametrize(("asked", "before"), [("stopped", "running"), ("running", "stopped")])
@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (SupervisorFailed("It does not answer."), SupervisorFailed),
        (PermissionError(13, "Permission denied", "/x"), GatlingError),
        (OSError(28, "No space left on device"), DiskFull),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_an_app_that_cannot_be_stopped_or_started_is_as_before(
    shop: Shell, monkeypatch: pytest.MonkeyPatch, asked: Wanted, before: Wanted,
    failure: BaseException, raised: type[BaseException],
) -> None:  # fmt: skip
    followed: list[str] = []

    def reconcile(gatling: Gatling, name: str) -> list[str]:
        followed.append(apps.get(gatling.db, name).wanted)
        if followed[-1] == asked:
            raise failure
        return []

    monkeypatch.setattr(recovery, "reconcile", reconcile)
    with open_gatling() as gatling:
        with gatling.db.transaction():
            gatling.db.execute(LIVE)
        apps.want(gatling.db, "shop", before)
        app = apps.get(gatling.db, "shop")
        with pytest.raises(raised) as caught:
            (lifecycle.stop if asked == "stopped" else lifecycle.start)(gatling, app)
        assert apps.get(gatling.db, "shop").wanted == before
    assert isinstance(caught.value, DiskFull) == (raised is DiskFull)
    assert followed == [asked, before]
    assert [entry["action"] for entry in shop.json("audit", "shop")] == ["load"]


def test_a_number_that_is_recorded_and_does_not_run_yet(
    shop: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.run("settings", "set", "shop", "processes.worker.command=bin/worker")
    problem = "worker.2 could not be started: PermissionError: [Errno 13] Permission denied"
    monkeypatch.setattr(workers, "follow", lambda *_: [problem])
    said = shop.run("scale", "shop", "worker=2", status=Exit.FAILURE).err
    assert f"{problem}." in said
    assert "recorded. To try again: `gatling restart shop --process worker`" in said
    assert [process["instances"] for process in shop.json("scale", "shop")] == [2]


def test_no_deploy_key_is_made_that_no_audit_shows(
    shop: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def run(_: Gatling, __: str, verb: str) -> str:
        asked.append(verb)
        return "ssh-ed25519 AAAA"

    def full(*_: object) -> None:
        raise DiskFull("No space is left.")

    monkeypatch.setattr(deploy_keys, "_run", run)
    monkeypatch.setattr(audit, "record", full)
    said = shop.run("deploy-key", "create", "shop", status=Exit.HOST).err
    assert "No space is left." in said
    assert "AAAA" not in said
    assert asked == ["create", "remove"]
