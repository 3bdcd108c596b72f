"""The objects of an app in a cluster, as data: only those of APIs that are generally available.

All are applied on the server's side, so each names only the fields that are Gatling's.
"""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING

from gatling.platform.kubernetes.pods import (
    CURRENT,
    HTTP,
    NODE,
    PULL_SECRET,
    Health,
    Object,
    Pods,
    arguments,
    checked_app,
    labels,
    metadata,
    part_name,
    template,
    variables,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WEB = "web"
"""The component of the instances that serve requests."""
KEPT_SECONDS = 24 * 3600
"""A Job that has ended stays so long, for its logs."""


def config(pods: Pods, env: Mapping[str, str]) -> Object:
    """The Secret with the environment of a release, which never changes."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(pods, pods.config, "config"),
        "type": "Opaque",
        "immutable": True,
        "data": {name: _encoded(value) for name, value in variables(env).items()},
    }


def registry_login(namespace: str, host: str, user: str, password: str) -> Object:
    """The Secret with which nodes pull images."""
    auth = _encoded(f"{user}:{password}")
    login = {"auths": {host: {"username": user, "password": password, "auth": auth}}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": PULL_SECRET, "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "gatling"},
        },
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": _encoded(json.dumps(login))},
    }  # fmt: skip


def instances(pods: Pods, health: Health, replicas: int, *, alone: bool = False) -> Object:
    """The Deployment of the instances: each new one is ready before an old one is stopped.

    With `alone`, all old ones end before the first new one starts.

    It is no StatefulSet: the pods of one are not started elsewhere when their node is lost.
    """
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(pods, checked_app(pods.app), WEB),
        "spec": {
            "replicas": replicas,
            "strategy": {"type": "Recreate"} if alone else {
                "type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "revisionHistoryLimit": 2,
            "paused": False,
            "selector": {"matchLabels": labels(pods.app, WEB)},
            "template": template(pods, WEB, health=health),
        },
    }  # fmt: skip


_WORKER = "worker-"


def worker_component(process: str) -> str:
    """The component of the pods of a worker."""
    # the value of a label ends with a letter or digit, and no name of a worker has a dot
    return f"{_WORKER}{process}" if process[-1].isalnum() else f"{_WORKER}{process}.0"


def process_of(component: str) -> str:
    """The name that people know the pods of a component by; empty for those of Jobs."""
    if component == WEB:
        return WEB
    return component.removeprefix(_WORKER).removesuffix(".0") if component[:7] == _WORKER else ""


def worker(pods: Pods, process: str, replicas: int) -> Object:
    """The Deployment of a worker."""
    component = worker_component(process)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(pods, part_name(pods.app, component), component),
        "spec": {
            "replicas": replicas,
            # as on a server: two releases of a worker never run side by side
            "strategy": {"type": "Recreate"},
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": labels(pods.app, component)},
            "template": template(_literal(pods), component),
        },
    }


def service_name(app: str) -> str:
    """The name of the Service; the app's own name might be that of another app's second Service."""
    return f"web-{checked_app(app)}"


def service(pods: Pods, component: str = WEB) -> Object:
    """The address at which the ready instances serve requests, or pods of another component."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(pods, service_name(pods.app), WEB),
        "spec": {
            "type": "ClusterIP",
            "selector": labels(pods.app, component),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def nodes_name(app: str) -> str:
    """The name of the headless Service, at which `dns_cluster` finds the other nodes."""
    return f"nodes-{checked_app(app)}"


def nodes_domain(app: str, namespace: str) -> str:
    """The domain of the headless Service in the DNS of the cluster."""
    return f"{nodes_name(app)}.{namespace}.svc.cluster.local"


def nodes(pods: Pods) -> Object:
    """The headless Service: nodes find each other before they are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(pods, nodes_name(pods.app), WEB),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": labels(pods.app, WEB),
            "ports": [{"name": "node", "port": NODE, "targetPort": "node", "protocol": "TCP"}],
        },
    }


def budget(pods: Pods) -> Object:
    """The disruption budget: a drain of nodes takes one instance at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(pods, checked_app(pods.app), WEB),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels(pods.app, WEB)}},
    }


def network(pods: Pods) -> Object:
    """Requests come from anywhere, Erlang distribution from instances of the app alone.

    It gives the right to run any code in a node.
    """
    own = {"podSelector": {"matchLabels": labels(pods.app, WEB)}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(pods, checked_app(pods.app), WEB),
        "spec": {
            **own,
            "policyTypes": ["Ingress"],
            "ingress": [
                {"ports": [{"port": HTTP, "protocol": "TCP"}]},
                {"from": [own], "ports": [{"port": NODE, "protocol": "TCP"}]},
            ],
        },
    }


def certificate_name(app: str) -> str:
    """The name of the Secret in which cert-manager puts the certificate of an app's domains."""
    return f"tls-{checked_app(app)}"


def ingress(namespace: str, app: str, domains: Sequence[str], issuer: str = "") -> Object:
    """The domains of an app, with a certificate that cert-manager obtains if an issuer is named."""
    backend = {"service": {"name": service_name(app), "port": {"name": "http"}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    spec: Object = {"rules": [{"host": one, "http": {"paths": [path]}} for one in domains]}
    notes: Object = {}
    if issuer:
        spec["tls"] = [{"hosts": list(domains), "secretName": certificate_name(app)}]
        kind, _, name = issuer.rpartition("/")
        notes = {"annotations": {f"cert-manager.io/{kind or 'cluster-issuer'}": name}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": checked_app(app), "namespace": namespace, "labels": labels(app, WEB), **notes,
        },
        "spec": spec,
    }  # fmt: skip


def job(pods: Pods, name: str, timeout: float) -> Object:
    """A Job that runs the command of `pods` once: migrations, `gatling run`, a scheduled job."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(pods, part_name(pods.app, name), "job"),
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": max(1, math.ceil(timeout)),
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": template(_literal(pods), "job", restarts=False),
        },
    }


CHECK = "check"
"""The component of a pod that only shows that a release boots. No Service leads to it."""
# it finds no other node, and none of the app's lets it in: it would take part in their work
_ALONE = 'unset DNS_CLUSTER_QUERY; exec "$@"'


def boot_check(pods: Pods, health: Health, name: str, variable: str, seconds: float) -> Object:
    """A Job with one instance that never serves; `variable` is set in its environment."""
    import msgspec

    start = ("/bin/sh", "-c", _ALONE, "sh", f"{CURRENT}/{pods.command[0]}", *pods.command[1:])
    alone = msgspec.structs.replace(pods, command=start, drain_seconds=0, stop_seconds=1)
    spec = template(alone, CHECK, health=health, restarts=False)
    (container,) = spec["spec"]["containers"]
    own = {variable: "1", "RELEASE_COOKIE": f"{name}-{pods.config}"}
    container["env"] += [{"name": key, "value": value} for key, value in own.items()]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(pods, part_name(pods.app, name), CHECK),
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": max(1, math.ceil(seconds)),
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": spec,
        },
    }


def _literal(pods: Pods) -> Pods:
    """The same with the words of its command as the project has them."""
    import msgspec

    return msgspec.structs.replace(pods, command=tuple(arguments(pods.command)))


def _encoded(value: str) -> str:
    return base64.b64encode(value.encode()).decode()
