"""The rights that Gatling needs in its namespace, and those with which it can check more.

docs/kubernetes.md has them as a Role and a ClusterRole; a test compares them with this table.
"""

from __future__ import annotations

from msgspec import Struct

_WRITE = ("get", "list", "watch", "create", "patch", "delete")
_READ = ("get", "list", "watch")


class Right(Struct, frozen=True):
    """Verbs on a kind of objects."""

    group: str
    """The API group; empty for the core."""
    resource: str
    """`pods`, or `pods/log` for a part of it."""
    verbs: tuple[str, ...]
    purpose: str
    """The part of Gatling that needs it."""

    def __str__(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource


NAMESPACE = (
    Right("", "secrets", _WRITE, "config and the registry's login"),
    Right("", "services", _WRITE, "addresses of the instances"),
    Right("", "pods", ("get", "list", "watch", "patch", "delete"), "instances"),
    Right("", "pods/log", ("get",), "logs"),
    Right("", "pods/exec", ("get", "create"), "`gatling run` and `console`"),
    Right("", "pods/portforward", ("get", "create"), "hot upgrades"),
    Right("", "events", _READ, "the reason why a pod does not start"),
    Right("apps", "deployments", _WRITE, "instances and workers"),
    Right("apps", "replicasets", ("get", "list", "watch", "patch"), "hot upgrades"),
    Right("batch", "jobs", _WRITE, "migrations, one-off commands and scheduled jobs"),
    Right("networking.k8s.io", "ingresses", _WRITE, "domains"),
    Right("networking.k8s.io", "networkpolicies", _WRITE, "the protection of distribution ports"),
    Right("policy", "poddisruptionbudgets", _WRITE, "instances while nodes are drained"),
)
CLUSTER = (
    Right("", "nodes", ("list",), "the check of the nodes' architecture"),
    Right("storage.k8s.io", "storageclasses", ("list",), "the check of storage"),
    Right("networking.k8s.io", "ingressclasses", ("list",), "the check of ingress controllers"),
)
"""Rights that only checks need; without them the answer is that it is not known."""
