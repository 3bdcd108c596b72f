"""Pods of a release, as data: nothing is sent from here.

The tree of the release lies in an emptyDir, with a link `current` to it, since a container cannot
change its image while it runs, and a hot upgrade changes what runs. An init container fills it from
the image. Pods keep to the profile `restricted` of the Pod Security Standards.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from gatling.errors import InvalidInput
from gatling.images.debian import USER
from gatling.images.tree import PLACE
from gatling.platform.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Object = dict[str, Any]
"""An object of Kubernetes, or a part of one, as JSON has it."""

TREES = "/gatling"
"""The directory of release trees in a pod."""
CURRENT = f"{TREES}/current"
DISTRIBUTION = "/etc/gatling/distribution"
"""The directory of the certificate of Erlang's distribution, and of its options, in a pod."""
DISTRIBUTION_FILES = ("ca.crt", "tls.crt", "tls.key", "options.config")
LOST_SECONDS = 30
"""After so long without its node a pod is started elsewhere; Kubernetes itself waits 300 s."""
HTTP, NODE = 4000, 4370
"""The ports of the app and of its Erlang distribution; each pod has an address of its own."""
RELEASE = "gatling/release"
"""The label of a pod with its release, `v7`."""
DEPLOYMENT = "gatling/deployment"
"""The annotation of a pod with the number of its deployment."""
PULL_SECRET = "gatling-registry"  # noqa: S105 (the name of an object)
MAX_NAME = 52
"""Characters of a Deployment or Job, to whose name Kubernetes adds up to 11 for its pods."""
MAX_APP = 40
_PERCENT = re.compile(r"([0-9]{1,6})%")
_MEMORY = re.compile(r"([0-9]{1,15})([KMGT]?)")
# A pod whose sandbox is made again, after a boot of its node, runs this once more. It may have been
# upgraded since, so a link that is there stays.
_FILL = (
    'set -e; tree=$1; test -d "$tree" || { rm -rf "$tree.new"; mkdir -p "${tree%/*}";'
    f' cp -R -P /{PLACE} "$tree.new"; mv "$tree.new" "$tree"; }};'
    f' test -L {CURRENT} || ln -s "$tree" {CURRENT}'
)


class Pods(Struct, frozen=True, kw_only=True):
    """Everything that pods of a release have in common."""

    app: str
    namespace: str
    release: int
    image: str
    """With its digest: a tag may be moved."""
    command: tuple[str, ...]
    """The arguments of the release's programs: `bin/shop` and `start`."""
    node: str
    """The name of its nodes, before the `@`."""
    limits: Limits = field(default_factory=Limits)
    stop_seconds: float = 30.0
    """Between SIGTERM and SIGKILL."""
    drain_seconds: float = 10.0
    """A pod goes on for so long after it is taken out of the Service."""
    pulls: bool = True
    """Whether the registry needs a login."""
    config: str = ""
    """The name of the Secret with their environment."""
    process: str = ""
    """The variable GATLING_PROCESS of workers and jobs, which names them."""
    deployment: int = 0
    """The deployment that they belong to, so that each deployment replaces all pods."""
    distribution: str = ""
    """The name of the Secret for distribution over TLS; empty: it is not encrypted."""


class Health(Struct, frozen=True):
    """The request by which a pod shows that it is ready."""

    path: str
    host: str
    seconds: int = 5


def checked_app(app: str) -> str:
    """The name of an app, which names its objects; raises InvalidInput for one that is too long.

    None is shortened: another app could have the shorter name.
    """
    if len(app) > MAX_APP:
        raise InvalidInput(
            f"The name {app} is too long for a cluster, where names of objects are made from it.",
            hint=f"Use a name of at most {MAX_APP} characters.",
        )
    return app


def part_name(app: str, part: str) -> str:
    """The name of an object of a part of an app.

    It ends with a digest: without one, part `b` of an app `shop-a` would be part `a-b` of `shop`.
    """
    digest = hashlib.sha256(f"{app}/{part}".encode()).hexdigest()[:8]
    readable = f"{checked_app(app)}-{part.replace('_', '-')}"[: MAX_NAME - 9].rstrip("-")
    return f"{readable}-{digest}"


def distribution_name(app: str) -> str:
    """The name of the Secret with the certificate of an app's nodes."""
    return f"distribution-{checked_app(app)}"


def encrypted(pod: Object) -> bool:
    """Whether the node of a pod has its distribution over TLS."""
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    return any(one.get("name") == _DISTRIBUTION for one in volumes)


def labels(app: str, component: str) -> dict[str, str]:
    """The labels by which objects of a part of an app are selected."""
    return {
        "app.kubernetes.io/name": app,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": "gatling",
    }


def metadata(pods: Pods, name: str, component: str) -> Object:
    """The metadata of an object."""
    return {"name": name, "namespace": pods.namespace, "labels": labels(pods.app, component)}


def secret_name(app: str, release: int, env: Mapping[str, str]) -> str:
    """The name of the Secret with the environment of a release, which never changes.

    It ends with a digest: the first domain of the app is in the environment, and may change.
    """
    said = json.dumps(sorted(env.items()))
    return f"{checked_app(app)}-v{release}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"


def template(
    pods: Pods, component: str, *, health: Health | None = None, restarts: bool = True
) -> Object:
    """The template of pods; with `health` they serve HTTP, otherwise they only run."""
    serves = health is not None
    container: Object = {
        "name": "app",
        "image": pods.image,
        "command": [_program(pods.command[0]), *pods.command[1:]],
        "workingDir": CURRENT,
        "envFrom": [{"secretRef": {"name": pods.config}}],
        "env": _environment(pods, serves=serves),
        "volumeMounts": _mounts(),
        "securityContext": confined(),
        "resources": resources(pods.limits),
    }
    if health is not None:
        container["ports"] = [
            {"name": "http", "containerPort": HTTP, "protocol": "TCP"},
            {"name": "node", "containerPort": NODE, "protocol": "TCP"},
        ]
        container["readinessProbe"] = _probe(health)
        # requests that are on their way still reach it: endpoints follow a deletion with a delay
        pause = str(math.ceil(pods.drain_seconds))
        container["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", pause]}}}
    drain = pods.drain_seconds if serves else 0
    spec: Object = pod_spec(pods) | {
        "restartPolicy": "Always" if restarts else "Never",
        "terminationGracePeriodSeconds": math.ceil(pods.stop_seconds + drain),
        "initContainers": [_filling(pods)],
        "containers": [container],
        "volumes": [{"name": "trees", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    }
    if serves and pods.distribution:
        container["volumeMounts"].append(
            {"name": _DISTRIBUTION, "mountPath": DISTRIBUTION, "readOnly": True}
        )
        spec["volumes"].append(_certificate(pods))
    if serves:
        spec["topologySpreadConstraints"] = [{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels(pods.app, component)},
        }]  # fmt: skip
    marks = labels(pods.app, component) | {RELEASE: f"v{pods.release}"}
    notes = {DEPLOYMENT: str(pods.deployment)}
    return {"metadata": {"labels": marks, "annotations": notes}, "spec": spec}


def pod_spec(pods: Pods) -> Object:
    """The part of the specification that all pods have."""
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # variables of other Services are none of the app's config
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [
            {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute",
             "tolerationSeconds": LOST_SECONDS}
            for key in ("not-ready", "unreachable")
        ],
    }  # fmt: skip
    if pods.pulls:
        spec["imagePullSecrets"] = [{"name": PULL_SECRET}]
    return spec


def resources(limits: Limits) -> Object:
    """The limits of a container; raises InvalidInput for what a cluster cannot keep."""
    found: dict[str, str] = {}
    if limits.memory:
        memory = _MEMORY.fullmatch(limits.memory)
        if memory is None:
            raise InvalidInput(
                f"limits.memory={limits.memory} has no meaning in a cluster, whose nodes differ.",
                hint="Name an amount, such as 512M.",
            )
        found["memory"] = f"{memory[1]}{memory[2]}i" if memory[2] else memory[1]
    if limits.cpu:
        share = _PERCENT.fullmatch(limits.cpu)
        if share is None:
            raise InvalidInput(f"limits.cpu={limits.cpu} is not a share such as 150%.")
        found["cpu"] = f"{int(share[1]) * 10}m"
    if not found:
        return {}
    # the scheduler reserves requests; memory is what a node runs out of
    requests = {"requests": {"memory": found["memory"]}} if "memory" in found else {}
    return {"limits": found, **requests}


def variables(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a release without what each pod has for itself."""
    return {name: value for name, value in env.items() if name not in _OWN}


_DISTRIBUTION = "distribution"


def _certificate(pods: Pods) -> Object:
    """The files of the Secret without the key of the authority.

    Kubernetes adds the right to read for the group, which is the app's own.
    """
    items = [{"key": name, "path": name} for name in DISTRIBUTION_FILES]
    secret = {"secretName": pods.distribution, "defaultMode": 0o400, "items": items}
    return {"name": _DISTRIBUTION, "secret": secret}


_OWN = ("PORT", "RELEASE_NODE", "RELEASE_DISTRIBUTION", "RELEASE_TMP", "HOME", "POD_IP")


def _environment(pods: Pods, *, serves: bool) -> list[Object]:
    address = {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}
    return [
        {"name": "POD_IP", "valueFrom": address},
        # the name that dns_cluster makes from the address that it finds
        {"name": "RELEASE_NODE", "value": f"{pods.node}@$(POD_IP)"},
        {"name": "RELEASE_DISTRIBUTION", "value": "name" if serves else "none"},
        {"name": "RELEASE_TMP", "value": "/tmp"},  # noqa: S108 (of the pod alone)
        {"name": "HOME", "value": "/tmp"},  # noqa: S108
        {"name": "PORT", "value": str(HTTP)},
        *([{"name": "GATLING_PROCESS", "value": pods.process}] if pods.process else []),
    ]


def _filling(pods: Pods) -> Object:
    tree = f"{TREES}/releases/v{pods.release}"
    return {
        "name": "release",
        "image": pods.image,
        "command": ["/bin/sh", "-c", _FILL, "sh", tree],
        "volumeMounts": _mounts(),
        "securityContext": confined(),
    }


def _mounts() -> list[Object]:
    return [
        {"name": "trees", "mountPath": TREES},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
    ]


def confined() -> Object:
    """The security context of every container."""
    return {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


def _probe(health: Health) -> Object:
    return {
        "httpGet": {
            "path": health.path, "port": "http", "scheme": "HTTP",
            # as the proxy would: an app may redirect what does not come over HTTPS
            "httpHeaders": [
                {"name": "Host", "value": health.host},
                {"name": "X-Forwarded-Proto", "value": "https"},
            ],
        },
        "periodSeconds": 2, "timeoutSeconds": health.seconds, "failureThreshold": 3,
    }  # fmt: skip


def _program(path: str) -> str:
    return path if path.startswith("/") else f"{CURRENT}/{path}"


def arguments(words: Sequence[str]) -> list[str]:
    """Words of a command line as they are: Kubernetes replaces `$(NAME)` in them."""
    return [word.replace("$(", "$$(") for word in words]
