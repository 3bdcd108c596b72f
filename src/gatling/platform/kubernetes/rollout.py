"""How far a cluster is with the replacement of pods, and what keeps it from going on. Pure."""

from __future__ import annotations

import contextlib
import signal
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.platform.kubernetes import objects
from gatling.platform.kubernetes.pods import DEPLOYMENT, RELEASE
from gatling.platform.restarts import End
from gatling.visible import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatling.platform.kubernetes.pods import Object

CRASHES = 2
"""Restarts after which a new pod is taken for one that does not start."""
_MAX_SAID = 400
_SIGNALS = 128
"""The exit status of a container that a signal has killed is the signal's number and this."""
_PULLING = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
_BROKEN = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


class Problem(Struct, frozen=True):
    """An obstacle of a pod, or of the cluster."""

    what: str
    hint: str = ""
    pod: str = ""
    final: bool = False
    """Whether waiting longer is of no use."""


class Progress(Struct, frozen=True):
    """How far it is."""

    ready: int
    """New pods that serve."""
    begun: int
    """New pods whose app was started."""
    done: bool
    problem: Problem | None


class Pod(Struct, frozen=True):
    """A pod, as people see it."""

    name: str
    node: str
    release: str
    deployment: str
    state: str
    """`running`, `starting`, `stopping`, or the reason of Kubernetes, such as CrashLoopBackOff."""
    ready: bool
    restarts: int
    started_at: str
    process: str = ""
    """`web`, or the worker that it runs; empty for a pod that runs once."""
    last_end: End | None = None
    """How its app ended before it was started again."""


def progress(deployment: Object, pods: Sequence[Object], number: int, replicas: int) -> Progress:
    """How far a Deployment is with the pods of the deployment of that number."""
    status = deployment.get("status") or {}
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    new = [pod for pod in pods if shown(pod).deployment == str(number)]
    found = [shown(pod) for pod in new if not _ends(pod)]
    done = bool(seen and (counts == [replicas] * 3 if replicas else not counts[0]))
    wrong = [problem for pod in new if not _ends(pod) for problem in _problems(pod)]
    wrong += _refused(status)
    wrong.sort(key=lambda one: not one.final)
    return Progress(
        ready=sum(pod.ready for pod in found),
        begun=sum(started(pod) for pod in new if not _ends(pod)),
        done=done,
        problem=wrong[0] if wrong and not done else None,
    )


def shown(pod: Object) -> Pod:
    """A pod for people."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    marks, notes = metadata.get("labels") or {}, metadata.get("annotations") or {}
    app = _app(pod)
    ready = bool(app.get("ready"))
    waits = [reason for reason, _ in _waits(pod) if reason not in ("", "PodInitializing",
                                                                  "ContainerCreating")]  # fmt: skip
    if _ends(pod):
        state = "stopping"
    elif waits:
        state = waits[0]
    else:
        state = "running" if ready else "starting"
    started = ((app.get("state") or {}).get("running") or {}).get("startedAt", "")
    return Pod(
        name=metadata["name"],
        node=(pod.get("spec") or {}).get("nodeName", ""),
        release=marks.get(RELEASE, ""),
        deployment=notes.get(DEPLOYMENT, ""),
        state=state,
        ready=ready and status.get("phase") == "Running",
        restarts=app.get("restartCount", 0),
        started_at=started,
        process=objects.process_of(marks.get("app.kubernetes.io/component", "")),
        last_end=last_end(pod),
    )


def exit_status(pod: Object) -> int | None:
    """The exit status of the app of a pod that runs once; None while it runs."""
    ended = (_app(pod).get("state") or {}).get("terminated")
    return int(ended["exitCode"]) if ended else None


def last_end(pod: Object) -> End | None:
    """How the app of a pod ended before it was started again."""
    last = (_app(pod).get("lastState") or {}).get("terminated") or {}
    if not last.get("finishedAt"):
        return None
    ended, began = (
        datetime.fromisoformat(last.get(key) or last["finishedAt"]).timestamp()
        for key in ("finishedAt", "startedAt")
    )
    return End(ended, max(0.0, ended - began), _cause(last))


def problems(pod: Object) -> list[Problem]:
    """The obstacles of a pod, the worst first."""
    return sorted(_problems(pod), key=lambda one: not one.final)


def started(pod: Object) -> bool:
    """Whether the app of a pod runs."""
    return "running" in (_app(pod).get("state") or {})


def _problems(pod: Object) -> Iterator[Problem]:
    name, app = pod["metadata"]["name"], _app(pod)
    node = (pod.get("spec") or {}).get("nodeName", "")
    for reason, message in _waits(pod):
        said = f": {_short(message)}" if message else ""
        if reason in _PULLING:
            yield Problem(
                f"The node {node} cannot pull the image of the pod {name}{said} ({reason}).",
                "Check that nodes reach the registry, trust its certificate, and may pull.",
                name, final=reason != "ErrImagePull",
            )  # fmt: skip
        elif reason in _BROKEN:
            yield Problem(
                f"The pod {name} cannot start on the node {node}{said} ({reason}).",
                pod=name, final=True,
            )  # fmt: skip
    last = (app.get("lastState") or {}).get("terminated") or {}
    if app.get("restartCount", 0) >= CRASHES:
        what = f"The app in the pod {name} {_why(last)}, {app['restartCount']} times."
        yield Problem(what, pod=name, final=True)
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield Problem(
                f"No node takes the pod {name}: {_short(condition.get('message', ''))}.",
                "Add a node, or lower the limits of the app.", name,
            )  # fmt: skip
    if started(pod) and not app.get("ready"):
        yield Problem(f"The pod {name} on the node {node} runs, but is not ready.", pod=name)


def _why(ended: Object) -> str:
    if ended.get("reason") == "OOMKilled":
        return "was killed, as it exceeded its memory limit"
    return f"ended with status {ended.get('exitCode')}"


def _cause(ended: Object) -> str:
    """The same in the words that instances of this machine have for it (platform/enter.py)."""
    status = ended.get("exitCode")
    if ended.get("reason") == "OOMKilled":
        return "killed for its memory"
    if isinstance(status, int) and status > _SIGNALS:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(status - _SIGNALS).name}"
    return f"exited with status {status}"


def _refused(status: Object) -> Iterator[Problem]:
    """Why the cluster creates no pod: quotas, policies of admission."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            yield Problem(
                f"The cluster creates no pod: {_short(condition.get('message', ''))}.",
                "Raise the quota of the namespace, which needs room for one more pod than run, or"
                " lower the limits of the app.",
                final=True,
            )


def _waits(pod: Object) -> Iterator[tuple[str, str]]:
    status = pod.get("status") or {}
    for container in (*(status.get("initContainerStatuses") or ()),
                      *(status.get("containerStatuses") or ())):  # fmt: skip
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting:
            yield waiting.get("reason", ""), waiting.get("message", "")


def _app(pod: Object) -> Object:
    """The status of the container of the app; empty before there is one."""
    found = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((one for one in found if one.get("name") == "app"), {})


def _ends(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _short(text: str) -> str:
    return one_line(" ".join(text.split()))[:_MAX_SAID].rstrip(". ")
