"""How far pods are, and what keeps them from going on, from what a cluster says of them."""

from __future__ import annotations

from typing import Any

import pytest

from gatling.platform.kubernetes import rollout

RUNNING = {"running": {"startedAt": "2026-01-31T12:00:00Z"}}


def pod(
    number: int = 7,
    *,
    ready: bool = False,
    state: dict[str, Any] | None = None,
    restarts: int = 0,
    last: dict[str, Any] | None = None,
    init: dict[str, Any] | None = None,
    ends: bool = False,
    conditions: tuple[dict[str, str], ...] = (),
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": f"shop-{number}", "labels": {"gatling/release": "v3"},
        "annotations": {"gatling/deployment": str(number)},
    }  # fmt: skip
    if ends:
        metadata["deletionTimestamp"] = "2026-01-31T12:00:00Z"
    status: dict[str, Any] = {"phase": "Running", "conditions": list(conditions)}
    if init is not None:
        status["initContainerStatuses"] = [{"name": "release", "state": init}]
    if state is not None:
        status["containerStatuses"] = [{
            "name": "app", "ready": ready, "restartCount": restarts, "state": state,
            "lastState": {"terminated": last} if last else {},
        }]  # fmt: skip
    return {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": status}


def deployment(
    replicas: int = 2, updated: int = 2, available: int = 2, *, seen: int = 4,
    conditions: tuple[dict[str, str], ...] = (),
) -> dict[str, Any]:  # fmt: skip
    return {
        "metadata": {"generation": 4},
        "status": {
            "observedGeneration": seen, "replicas": replicas, "updatedReplicas": updated,
            "availableReplicas": available, "conditions": list(conditions),
        },
    }  # fmt: skip


def test_the_last_end_of_an_app_is_known() -> None:
    last = {"startedAt": "2026-01-31T12:00:00Z", "finishedAt": "2026-01-31T12:01:30Z",
            "exitCode": 1}  # fmt: skip
    found = rollout.last_end(pod(state=RUNNING, restarts=1, last=last))
    assert found is not None
    assert (found.stamp, found.after) == ("2026-01-31T12:01:30.000Z", 90.0)
    assert found.cause == "exited with status 1"
    assert rollout.last_end(pod(state=RUNNING)) is None


@pytest.mark.parametrize(
    ("ended", "cause"),
    [
        ({"exitCode": 3}, "exited with status 3"),
        ({"exitCode": 128}, "exited with status 128"),
        ({"exitCode": 137}, "killed by SIGKILL"),
        ({"exitCode": 255}, "exited with status 255"),
        ({"exitCode": 137, "reason": "OOMKilled"}, "killed for its memory"),
    ],
)
def test_an_end_has_the_words_that_it_has_elsewhere(ended: dict[str, Any], cause: str) -> None:
    last = {"finishedAt": "2026-01-31T12:01:30Z", **ended}
    found = rollout.shown(pod(state=RUNNING, restarts=1, last=last)).last_end
    assert found is not None
    assert found.cause == cause


@pytest.mark.parametrize(
    ("found", "replicas", "done"),
    [
        (deployment(), 2, True),
        (deployment(seen=3), 2, False),  # of the generation before
        (deployment(replicas=3), 2, False),  # an old one is still there
        (deployment(updated=1), 2, False),
        (deployment(available=1), 2, False),
        (deployment(0, 0, 0), 0, True),
        (deployment(1, 1, 1), 0, False),
        ({"metadata": {"generation": 1}}, 1, False),  # nothing is known yet
    ],
)
def test_it_is_done_when_all_are_new_and_serve(
    found: dict[str, Any], replicas: int, *, done: bool
) -> None:
    assert rollout.progress(found, [], 7, replicas).done is done


def test_only_new_pods_are_counted() -> None:
    pods = [
        pod(6, ready=True, state=RUNNING), pod(7, ready=True, state=RUNNING), pod(7, state=RUNNING),
        pod(7, ready=True, state=RUNNING, ends=True), pod(7),
    ]  # fmt: skip
    seen = rollout.progress(deployment(available=1), pods, 7, 2)
    assert (seen.ready, seen.begun) == (1, 2)


@pytest.mark.parametrize(
    ("found", "said", "final"),
    [
        (pod(init={"waiting": {"reason": "ErrImagePull", "message": "x509"}}),
         "The node n1 cannot pull the image of the pod shop-7: x509 (ErrImagePull).", False),
        (pod(init={"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}),
         "cannot pull the image", True),
        (pod(state={"waiting": {"reason": "CreateContainerConfigError", "message": "no secret."}}),
         "cannot start on the node n1: no secret (CreateContainerConfigError)", True),
        (pod(state={"waiting": {"reason": "CrashLoopBackOff"}}, restarts=2, last={"exitCode": 1}),
         "The app in the pod shop-7 ended with status 1, 2 times.", True),
        (pod(state=RUNNING, restarts=2, last={"exitCode": 137, "reason": "OOMKilled"}),
         "was killed, as it exceeded its memory limit", True),
        (pod(conditions=({"type": "PodScheduled", "status": "False",
                          "message": "0/2 nodes are available: 2 Insufficient memory."},)),
         "No node takes the pod shop-7: 0/2 nodes are available: 2 Insufficient memory.", False),
        (pod(state=RUNNING), "The pod shop-7 on the node n1 runs, but is not ready.", False),
    ],
)  # fmt: skip
def test_each_problem_is_named(found: dict[str, Any], said: str, *, final: bool) -> None:
    problem = rollout.progress(deployment(available=1), [found], 7, 2).problem
    assert problem is not None
    assert said in problem.what
    assert problem.final is final
    assert problem.pod == "shop-7"


def test_one_restart_is_no_problem_yet() -> None:
    """A start may fail once, such as that of a node whose database wakes up."""
    found = pod(state={"waiting": {"reason": "CrashLoopBackOff"}}, restarts=1)
    assert rollout.progress(deployment(available=1), [found], 7, 2).problem is None


def test_a_quota_is_named() -> None:
    refused = deployment(1, 1, 1, conditions=(
        {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"},
    ))  # fmt: skip
    problem = rollout.progress(refused, [pod(state=RUNNING)], 7, 2).problem
    assert problem is not None
    assert problem.what == "The cluster creates no pod: exceeded quota: small."
    assert problem.final


def test_old_pods_and_those_that_end_are_no_problem() -> None:
    crashed = {"waiting": {"reason": "CrashLoopBackOff"}}
    pods = [pod(6, state=crashed, restarts=9), pod(7, state=crashed, restarts=9, ends=True)]
    assert rollout.progress(deployment(available=1), pods, 7, 2).problem is None


def test_a_pod_for_people() -> None:
    shown = rollout.shown(pod(ready=True, state=RUNNING, restarts=3))
    assert (shown.name, shown.node, shown.release, shown.state) == ("shop-7", "n1", "v3", "running")
    assert (shown.restarts, shown.started_at) == (3, "2026-01-31T12:00:00Z")
    assert rollout.shown(pod(state=RUNNING)).state == "starting"
    assert rollout.shown(pod(init={"waiting": {"reason": "PodInitializing"}})).state == "starting"
    assert rollout.shown(pod(ready=True, state=RUNNING, ends=True)).state == "stopping"
    waits = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert rollout.shown(pod(state=waits)).state == "CrashLoopBackOff"


def test_the_status_of_a_pod_that_runs_once() -> None:
    assert rollout.exit_status(pod()) is None
    assert rollout.exit_status(pod(state=RUNNING)) is None
    assert rollout.exit_status(pod(state={"terminated": {"exitCode": 7}})) == 7
