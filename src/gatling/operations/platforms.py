"""Kubernetes clusters as platforms: added with a kubeconfig, checked, removed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.errors import InvalidInput
from gatling.images import reference
from gatling.names import is_app
from gatling.platform.kubernetes import kubeconfig
from gatling.state import audit, platforms
from gatling.state.moves import HERE_NAME
from gatling.state.platforms import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.images.registry import Registry
    from gatling.platform.kubernetes.check import Finding
    from gatling.platform.open import Gatling
    from gatling.state.platforms import Connection, Platform

PROBE = "gatling-check"
"""The repository of the check; no image is ever there."""
MAX_PASSWORD = 64 << 10


class Shown(Struct, frozen=True):
    """A platform without its secrets."""

    name: str
    server: str
    namespace: str
    registry: str
    added_at: str


def every(gatling: Gatling) -> list[Shown]:
    """All platforms besides the home itself."""
    return [_shown(one) for one in platforms.every(gatling.db)]


def checked_name(name: str) -> str:
    """The name of a platform; raises InvalidInput."""
    if not is_app(name) or name == HERE_NAME:
        raise InvalidInput(
            f"{name!r} cannot be a platform's name.",
            hint="Use 1 to 63 lower-case letters, digits and hyphens, no hyphen at either end."
            f" The name {HERE_NAME} stands for this machine.",
        )
    return name


def registry(place: str, user: str, password: str, authority: str) -> Store:
    """The place of images; raises InvalidInput."""
    found = reference.repository(place)
    if bool(user) != bool(password):
        raise InvalidInput("The registry's user and password belong together.")
    if ":" in user or not (user + password).isprintable() or len(password) > MAX_PASSWORD:
        raise InvalidInput("The registry's user or password has characters that are not allowed.")
    if authority and "-----BEGIN CERTIFICATE" not in authority:
        raise InvalidInput("The file of the registry's CA has no certificate (PEM).")
    return Store(place=str(found), user=user, password=password, authority=authority)


def add(gatling: Gatling, name: str, cluster: Connection, store: Store | None) -> list[Finding]:
    """Record a cluster after a check, whose findings are returned.

    Raises ClusterFailed for a cluster that cannot be reached or used, and InvalidInput for a name
    that is taken. Nothing is recorded then.
    """
    from gatling.platform.kubernetes.client import Client

    checked_name(name)
    with Client(cluster) as client:
        client.version()
    found = list(_findings(cluster, store))
    platforms.add(gatling.db, name, cluster, store)
    audit.record(gatling.db, gatling.actor, None, "platform add", f"{name} {cluster.server}")
    return found


def check(gatling: Gatling, name: str) -> list[Finding]:
    """Check a platform; raises NotFound."""
    one = platforms.get(gatling.db, name)
    return list(_findings(one.cluster, one.registry))


def remove(gatling: Gatling, name: str) -> None:
    """Forget a platform with its credentials; nothing changes in the cluster. Raises NotFound."""
    platforms.remove(gatling.db, name)
    audit.record(gatling.db, gatling.actor, None, "platform remove", name)


def connection(text: str, context: str, namespace: str) -> Connection:
    """The connection of a kubeconfig's context; raises InvalidInput."""
    return kubeconfig.parse(text, context, namespace)


def _findings(cluster: Connection, store: Store | None) -> Iterator[Finding]:
    from gatling.platform.kubernetes import check as checks
    from gatling.platform.kubernetes.client import Client

    with Client(cluster) as client:
        yield from checks.cluster(client)
    with _opened(store) as opened:
        yield checks.registry(opened)


@contextlib.contextmanager
def _opened(store: Store | None) -> Iterator[Registry | None]:
    """The repository for a check of the rights to push."""
    from gatling.platform.kubernetes import place

    if store is None:
        yield None
        return
    with place.repository(store, PROBE) as opened:
        yield opened


def _shown(one: Platform) -> Shown:
    return Shown(
        one.name, one.cluster.server, one.cluster.namespace,
        one.registry.place if one.registry else "", one.added_at,
    )  # fmt: skip
