"""Whether a cluster fits: each finding with what to do.

Nothing is changed there. A server-side dry run shows obstacles for real objects: the namespace,
quotas, policies of admission.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from lightkube.models.authorization_v1 import (
    ResourceAttributes,
    SelfSubjectAccessReviewSpec,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.authorization_v1 import SelfSubjectAccessReview
from lightkube.resources.core_v1 import Node, Secret
from lightkube.resources.networking_v1 import IngressClass
from lightkube.resources.storage_v1 import StorageClass
from msgspec import Struct

from gatling.errors import ClusterFailed, GatlingError, RegistryFailed
from gatling.images import image
from gatling.platform.kubernetes import rights
from gatling.text import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.images.registry import Registry
    from gatling.platform.kubernetes.client import Client
    from gatling.platform.kubernetes.rights import Right

OLDEST = (1, 21)
"""The first version with disruption budgets as they are today."""
_VERSION = re.compile(r"v([0-9]{1,4})\.([0-9]{1,4})")
_DEFAULT_STORAGE = "storageclass.kubernetes.io/is-default-class"
_DEFAULT_INGRESS = "ingressclass.kubernetes.io/is-default-class"
_ROLE = "Apply the Role in docs/kubernetes.md."

State = Literal["ok", "warning", "failed", "unknown"]


class Finding(Struct, frozen=True):
    """The result of a check; the hint says what to do."""

    name: str
    state: State
    what: str
    hint: str = ""


def cluster(client: Client) -> Iterator[Finding]:
    """Check a cluster; nothing more is checked once it cannot be reached or used."""
    try:
        version = client.version()
        lacking = _lacking(client, rights.NAMESPACE, client.namespace)
    except GatlingError as error:
        yield Finding("cluster", "failed", error.what, error.hint)
        return
    yield Finding("cluster", "ok", f"{client.server} answers.")
    yield _version(version)
    yield _rights(client, lacking)
    yield _namespace(client)
    yield _nodes(client)
    yield _storage(client)
    yield _ingress(client)


def registry(opened: Registry | None) -> Finding:
    """Check that images can be pushed."""
    if opened is None:
        return Finding(
            "registry", "failed", "No registry is named, so no image can be pushed.",
            "Add the platform with `--registry registry.example.com/team`.",
        )  # fmt: skip
    try:
        opened.check()
    except RegistryFailed as error:
        return Finding("registry", "failed", error.what, error.hint)
    return Finding("registry", "ok", f"Images can be pushed to {opened.repository}.")


def _version(version: str) -> Finding:
    found = _VERSION.match(version)
    if found is None:
        return Finding("version", "unknown", f"The version {version} cannot be read.")
    if (int(found[1]), int(found[2])) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return Finding(
            "version", "warning",
            f"Kubernetes {version} has no disruption budgets of today's version.",
            f"Upgrade the cluster to {wanted} or newer: the drain of a node then stops one instance"
            " at a time.",
        )  # fmt: skip
    return Finding("version", "ok", f"Kubernetes {version}.")


def _lacking(client: Client, wanted: tuple[Right, ...], namespace: str) -> list[tuple[Right, str]]:
    """The rights that the user of the connection does not have, by verb."""
    found = []
    for right in wanted:
        resource, _, part = right.resource.partition("/")
        for verb in right.verbs:
            attributes = ResourceAttributes(
                group=right.group, resource=resource, subresource=part or None, verb=verb,
                namespace=namespace or None,
            )  # fmt: skip
            review = SelfSubjectAccessReview(
                spec=SelfSubjectAccessReviewSpec(resourceAttributes=attributes)
            )
            with client.talking("a question about rights"):
                status = client.api.create(review).status
            if status is None or not status.allowed:
                found.append((right, verb))
    return found


def _rights(client: Client, lacking: list[tuple[Right, str]]) -> Finding:
    if not lacking:
        return Finding("rights", "ok", f"All rights in the namespace {client.namespace} are there.")
    verbs: dict[Right, list[str]] = {}
    for right, verb in lacking:
        verbs.setdefault(right, []).append(verb)
    said = [f"{', '.join(names)} on {right} ({right.purpose})" for right, names in verbs.items()]
    return Finding(
        "rights", "failed",
        f"Rights are missing in the namespace {client.namespace}: {listed(said)}.", _ROLE,
    )  # fmt: skip


def _namespace(client: Client) -> Finding:
    """Try to create a Secret, with a dry run, as the first object of an app would be."""
    name = client.namespace
    secret = Secret(
        metadata=ObjectMeta(generateName="gatling-check-", namespace=name),
        stringData={"check": "check"},
    )
    try:
        with client.talking(f"a dry run in the namespace {name}"):
            client.dry.create(secret)
    except ClusterFailed as error:
        if error.reason == "missing":
            return Finding(
                "namespace", "failed", f"The namespace {name} does not exist.",
                f"`kubectl create namespace {name}` creates it.",
            )  # fmt: skip
        return Finding("namespace", "failed", error.what, error.hint)
    return Finding("namespace", "ok", f"Objects can be created in the namespace {name}.")


def _nodes(client: Client) -> Finding:
    try:
        with client.talking("the list of nodes"):
            found = [
                node.status.nodeInfo.architecture
                for node in client.api.list(Node) if node.status and node.status.nodeInfo
            ]  # fmt: skip
    except ClusterFailed as error:
        return _not_known("nodes", "the architecture of the nodes", error)
    mine = image.architecture()
    if mine not in found:
        return Finding(
            "nodes", "failed",
            f"None of {len(found)} nodes has the architecture {mine}, for which this machine"
            " builds.",
            "Build on a machine with the architecture of the nodes.",
        )  # fmt: skip
    return Finding("nodes", "ok", f"{found.count(mine)} of {len(found)} nodes can run {mine}.")


def _storage(client: Client) -> Finding:
    try:
        with client.talking("the list of storage classes"):
            found = [one.metadata for one in client.api.list(StorageClass) if one.metadata]
    except ClusterFailed as error:
        return _not_known("storage", "the storage classes", error)
    named = [one.name for one in found if (one.annotations or {}).get(_DEFAULT_STORAGE) == "true"]
    if not named:
        return Finding(
            "storage", "warning", "There is no default storage class, so apps have no volumes.",
            f"Mark one with the annotation {_DEFAULT_STORAGE}=true. Apps that keep their data in"
            " a database need none.",
        )  # fmt: skip
    return Finding("storage", "ok", f"Volumes are made by {named[0]}.")


def _ingress(client: Client) -> Finding:
    try:
        with client.talking("the list of ingress classes"):
            found = [one.metadata for one in client.api.list(IngressClass) if one.metadata]
    except ClusterFailed as error:
        return _not_known("ingress", "the ingress classes", error)
    named = [one.name for one in found if (one.annotations or {}).get(_DEFAULT_INGRESS) == "true"]
    names = [str(one.name) for one in found]
    if not found:
        return Finding(
            "ingress", "warning", "There is no ingress controller, so nobody reaches domains.",
            "Install an ingress controller, such as ingress-nginx or Traefik.",
        )  # fmt: skip
    if not named and len(found) > 1:
        return Finding(
            "ingress", "warning", f"None of the ingress classes {listed(names)} is the default.",
            f"Mark one with the annotation {_DEFAULT_INGRESS}=true.",
        )  # fmt: skip
    return Finding("ingress", "ok", f"Domains are served by {named[0] if named else names[0]}.")


def _not_known(name: str, what: str, error: ClusterFailed) -> Finding:
    if error.reason != "denied":
        return Finding(name, "failed", error.what, error.hint)
    return Finding(
        name, "unknown", f"Gatling may not read {what}.",
        "The ClusterRole in docs/kubernetes.md lets it. Apps do not need it.",
    )  # fmt: skip
