"""What the pod of a boot check may do; tests/cluster has real ones."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from gatling.deploy.cluster import boot_check, objects
from gatling.errors import UnhealthyRelease

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG = ["2026-01-01T00:00:00Z ** (RuntimeError) no store"]


def pod(node: str = "n1", **app: Any) -> dict[str, Any]:
    status = {"name": "app", "ready": False, "state": {}} | app
    return {
        "metadata": {"name": "shop-check"}, "spec": {"nodeName": node},
        "status": {"phase": "Running", "containerStatuses": [status] if app else []},
    }  # fmt: skip


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
READY = pod(ready=True, state=RUNNING)
STARTING = pod(state=RUNNING)
ENDED = pod(state={"terminated": {"exitCode": 1}})


class Check:
    """A check whose pod is seen in these states, the last of them again and again."""

    def __init__(self, states: Sequence[dict[str, Any] | None], timeout: float = 60) -> None:
        self._states = list(states)
        self.notes: list[str] = []
        context = SimpleNamespace(
            app=SimpleNamespace(name="shop"),
            deployment=SimpleNamespace(id=7),
            settings=SimpleNamespace(health=SimpleNamespace(timeout=timeout)),
            journal=SimpleNamespace(step=contextlib.nullcontext),
            progress=SimpleNamespace(note=self.notes.append),
        )
        api = SimpleNamespace(every=self._every, log=lambda *_, **__: LOG)
        release = SimpleNamespace(label="v3")
        self.check = boot_check.BootCheck(
            cast("Any", context), cast("Any", api), cast("Any", release)
        )

    def _every(self, kind: str, labels: dict[str, str]) -> list[dict[str, Any]]:
        assert (kind, list(labels)) == ("Pod", ["job-name"])
        seen = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        return [] if seen is None else [seen]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(boot_check, "STAYS_SECONDS", 0.01)


def test_one_that_is_ready_and_stays_so_has_booted() -> None:
    one = Check([None, pod(node=""), pod(), STARTING, READY, READY])
    assert one.check.wait()
    assert one.notes == []


def test_one_that_ends_does_not_boot() -> None:
    for states in ([STARTING, ENDED], [STARTING, READY, ENDED]):
        with pytest.raises(
            UnhealthyRelease, match="v3 does not boot: it ended with status 1"
        ) as no:
            Check(states).check.wait()
        assert no.value.log == ("** (RuntimeError) no store",)


def test_one_that_is_never_ready_is_not_waited_for_for_ever() -> None:
    with pytest.raises(UnhealthyRelease, match="v3 was not ready within 0 s"):
        Check([STARTING], timeout=0).check.wait()


def test_an_image_that_cannot_be_pulled_is_the_reason() -> None:
    waits = pod(state={"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}})
    with pytest.raises(UnhealthyRelease, match="cannot pull the image"):
        Check([waits]).check.wait()


@pytest.mark.parametrize("seen", [None, pod(node="")])
def test_a_cluster_without_room_leaves_it_out(
    monkeypatch: pytest.MonkeyPatch, seen: dict[str, Any] | None
) -> None:
    monkeypatch.setattr(boot_check, "ROOM_SECONDS", 0.01)
    one = Check([seen])
    assert not one.check.wait()
    assert one.notes == ["the boot of v3 was not checked: the cluster has no room for another pod."]
