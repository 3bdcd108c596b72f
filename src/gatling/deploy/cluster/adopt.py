"""Let the pods that run belong to another template, without one of them being replaced.

After a hot upgrade the pods run a release that their Deployment does not know. A changed template
makes its controller replace all pods, unless there is a ReplicaSet with that very template: then
its pods are the new ones already. So while the Deployment is paused, the template of the ReplicaSet
that has the pods is changed, too. The controller is seen to have noticed before it goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling import times
from gatling.errors import ClusterFailed
from gatling.platform.kubernetes.objects import WEB
from gatling.platform.kubernetes.pods import DEPLOYMENT, labels

if TYPE_CHECKING:
    from gatling.platform.kubernetes.api import Api
    from gatling.platform.kubernetes.pods import Object

NOTICED_SECONDS = 30.0
POLL_SECONDS = 0.1
HASH = "pod-template-hash"


def possible(api: Api, app: str) -> str:
    """Why pods that are upgraded now could not be kept, in words; empty if they can be."""
    try:
        deployment = api.find("Deployment", app)
        if deployment is None or _set(api, app, deployment["metadata"]["uid"]) is None:
            return "the cluster is replacing its pods"
    except ClusterFailed as error:
        if error.reason != "denied":
            raise
        return f"{error.what.rstrip('.')}. {error.hint}".rstrip(". ")
    return ""


def apply(api: Api, app: str, wanted: Object) -> None:
    """Apply the Deployment of the instances, and let the pods that there are be its own.

    If that is not possible it is applied as usual, and the controller replaces the pods: they
    run the right release in any case. Raises ClusterFailed.
    """
    before = api.find("Deployment", app)
    mark = _mark(wanted)
    if before is None or not wanted["spec"]["replicas"]:
        api.apply(wanted)
        return
    known = _set(api, app, before["metadata"]["uid"])
    if known is None or (_mark(before) == mark == _mark(known)):
        api.apply(wanted)
        return
    paused = wanted | {"spec": wanted["spec"] | {"paused": True}}
    applied = api.apply(paused)
    template = applied["spec"]["template"]
    of_set = known["spec"]["template"]["metadata"]["labels"][HASH]
    metadata = template["metadata"]
    own = template | {"metadata": metadata | {"labels": metadata["labels"] | {HASH: of_set}}}
    api.replace("ReplicaSet", known["metadata"]["name"], "/spec/template", own)
    _noticed(api, app, applied["metadata"]["generation"])
    api.apply(wanted)


def _mark(owner: Object) -> str:
    annotations = owner["spec"]["template"]["metadata"].get("annotations") or {}
    return str(annotations.get(DEPLOYMENT, ""))


def _set(api: Api, app: str, owner: str) -> Object | None:
    """The only ReplicaSet of a Deployment that has pods; None while it replaces them."""
    sets = [
        one for one in api.every("ReplicaSet", labels(app, WEB))
        if one["spec"].get("replicas")
        and any(each["uid"] == owner for each in one["metadata"].get("ownerReferences") or ())
    ]  # fmt: skip
    return sets[0] if len(sets) == 1 else None


def _noticed(api: Api, app: str, generation: int) -> None:
    """Wait until the controller takes the pods for those of the new template.

    It says so in the number of `updatedReplicas`, also of a Deployment that is paused.
    """
    for _ in times.looks(NOTICED_SECONDS, POLL_SECONDS):
        found = api.find("Deployment", app)
        if found is None:
            raise ClusterFailed(f"Somebody has deleted the Deployment {app}.", reason="missing")
        status = found.get("status") or {}
        seen = status.get("observedGeneration", 0) >= generation
        if seen and status.get("updatedReplicas", 0) == status.get("replicas", 0) > 0:
            return
