"""When a release has to boot in a spare pod: before a hot upgrade, after it, or not at all."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from gatling.deploy.cluster import boot_check, go_live, hot
from gatling.deploy.plan.plan import Plan
from gatling.platform.kubernetes import place
from gatling.project import settings
from gatling.state import deployments

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

RELEASE = cast("Any", SimpleNamespace(number=2, label="v2"))


def steps(
    monkeypatch: pytest.MonkeyPatch, *, starts: bool, booted: bool, check: str = "after"
) -> tuple[list[str], bool]:
    """The steps of an upgrade whose pod has booted or found no room; whether it took place."""
    made: list[str] = []

    def waited() -> bool:
        made.append("boot check")
        return booted

    @contextlib.contextmanager
    def beside(*_: object) -> Iterator[Any]:
        yield None if check == "off" else SimpleNamespace(wait=waited)

    def upgrade(*given: Any) -> None:
        made.append("upgrade")
        given[-1]()

    found = hot.Found(Plan("hot", ("shop: 1 changed module",)), starts_something=starts)
    monkeypatch.setattr(hot, "found", lambda *_: found)
    monkeypatch.setattr(hot, "upgrade", upgrade)
    monkeypatch.setattr(boot_check, "beside", beside)
    monkeypatch.setattr(place, "of", lambda *_: None)
    monkeypatch.setattr(deployments, "set_target", lambda *_, **__: None)
    context = SimpleNamespace(
        app=SimpleNamespace(name="shop"),
        deployment=SimpleNamespace(id=7),
        callbacks=SimpleNamespace(facts={}),
        progress=SimpleNamespace(note=made.append),
        interruption=SimpleNamespace(rearm=lambda: None),
    )
    wanted = hot.Planning(
        cast("Any", context.app),
        settings.parse({"hot.boot_check": check}),
        RELEASE,
        RELEASE,
        "auto",
    )
    gatling = cast("Any", SimpleNamespace(db=None))
    done = go_live._upgraded(gatling, cast("Any", context), cast("Any", None), wanted)
    return made[1:], done


def test_code_is_upgraded_beside_the_boot_of_the_spare_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    for booted in (True, False):
        found = steps(monkeypatch, starts=False, booted=booted)
        assert found == (["upgrade", "boot check"], True)


def test_new_children_run_in_the_spare_pod_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that crashes again and again would take the nodes along that serve."""
    assert steps(monkeypatch, starts=True, booted=True) == (["boot check", "upgrade"], True)
    made, done = steps(monkeypatch, starts=True, booted=False)
    assert not done
    assert made == [
        "boot check",
        "Rolling deployment: new children could not be started in a spare pod first",
    ]


def test_who_wants_no_boot_check_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps(monkeypatch, starts=True, booted=True, check="off") == (["upgrade"], True)
