"""The template follows an upgrade in memory; a cluster whose controller is played here."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

from gatling.deploy.cluster import adopt

if TYPE_CHECKING:
    import pytest

    from gatling.platform.kubernetes.api import Api


def deployment(number: str, *, paused: bool = False) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "shop"}, "annotations": {
        "gatling/deployment": number}}, "spec": {"image": f"v{number}"}}  # fmt: skip
    return {
        "kind": "Deployment",
        "metadata": {"name": "shop", "uid": "u", "generation": 1},
        "spec": {"replicas": 2, "paused": paused, "template": template},
    }


class Cluster:
    """One Deployment, its ReplicaSets, and a controller that notices after some questions."""

    def __init__(self, *sets: str) -> None:
        self.deployment = deployment(sets[-1])
        self.sets = {f"shop-{number}": self._set(number) for number in sets}
        self.calls: list[str] = []
        self._questions = 0

    @staticmethod
    def _set(number: str) -> dict[str, Any]:
        template = copy.deepcopy(deployment(number)["spec"]["template"])
        template["metadata"]["labels"]["pod-template-hash"] = f"hash{number}"
        return {
            "metadata": {"name": f"shop-{number}", "ownerReferences": [{"uid": "u"}]},
            "spec": {"replicas": 2, "template": template},
        }

    def apply(self, one: dict[str, Any]) -> dict[str, Any]:
        paused = one["spec"]["paused"]
        self.calls.append(f"apply {'paused' if paused else 'going'}")
        self.deployment["spec"] = copy.deepcopy(one["spec"])
        self.deployment["metadata"]["generation"] += 1
        return copy.deepcopy(self.deployment)

    def find(self, _kind: str, _name: str) -> dict[str, Any]:
        self._questions += 1
        found = copy.deepcopy(self.deployment)
        follows = self._questions % 3 == 0 and any(
            one["spec"]["template"]["spec"] == found["spec"]["template"]["spec"]
            for one in self.sets.values()
        )
        found["status"] = {
            "observedGeneration": found["metadata"]["generation"], "replicas": 2,
            "updatedReplicas": 2 if follows else 0,
        }  # fmt: skip
        self.calls.append("noticed" if follows else "asked")
        return found

    def every(self, _kind: str, _labels: object) -> list[dict[str, Any]]:
        return copy.deepcopy(list(self.sets.values()))

    def replace(self, kind: str, name: str, path: str, value: dict[str, Any]) -> None:
        self.calls.append(f"replace {kind} {path}")
        self.sets[name]["spec"]["template"] = value


def applied(cluster: Cluster, wanted: dict[str, Any]) -> list[str]:
    adopt.apply(cast("Api", cluster), "shop", wanted)
    return [call for call in cluster.calls if call != "asked"]


def test_the_pods_become_those_of_the_new_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt, "POLL_SECONDS", 0.001)
    cluster = Cluster("1")
    assert applied(cluster, deployment("2")) == [
        "apply paused", "replace ReplicaSet /spec/template", "noticed", "apply going",
    ]  # fmt: skip
    template = cluster.sets["shop-1"]["spec"]["template"]
    assert template["spec"] == {"image": "v2"}
    # the selector of the ReplicaSet, and of the pods, stays
    assert template["metadata"]["labels"] == {"app": "shop", "pod-template-hash": "hash1"}


def test_nothing_is_paused_where_the_template_is_known() -> None:
    assert applied(Cluster("1"), deployment("1")) == ["apply going"]


def test_one_that_was_left_paused_goes_on_only_when_its_pods_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gatling was killed between the two changes: to go on at once would replace the pods."""
    monkeypatch.setattr(adopt, "POLL_SECONDS", 0.001)
    cluster = Cluster("1")
    cluster.deployment = deployment("2", paused=True)
    assert applied(cluster, deployment("2"))[-2:] == ["noticed", "apply going"]


def test_pods_of_two_templates_are_left_to_the_controller() -> None:
    assert applied(Cluster("1", "2"), deployment("3")) == ["apply going"]
