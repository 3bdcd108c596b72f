"""Checks of a cluster that answers, of one that refuses, and of what is no cluster.

tests/cluster has the same with a real one; here are the answers that it cannot be brought to.
"""

from __future__ import annotations

import json
import re
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gatling.errors import ClusterFailed, InvalidInput
from gatling.platform.kubernetes import check, rights
from gatling.platform.kubernetes.client import Client
from gatling.state.platforms import Connection
from tests.conftest import ROOT as PROJECT
from tests.images.registries import Asked, Reply, serving
from tests.proxy.authority import certificate
from tests.proxy.bench import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.platform.kubernetes.check import Finding

TOKEN = "abc"  # noqa: S105 (of no cluster)
JSON = {"Content-Type": "application/json"}


def status(code: int, message: str) -> Reply:
    body = {"kind": "Status", "apiVersion": "v1", "code": code, "message": message, "metadata": {}}
    return Reply(code, json.dumps(body).encode(), JSON)


def listed(kind: str, items: list[dict[str, Any]]) -> Reply:
    body = {"kind": f"{kind}List", "apiVersion": "v1", "metadata": {}, "items": items}
    return Reply(200, json.dumps(body).encode(), JSON)


class Cluster:
    """The answers of a cluster that fits; `spoil` has others, by a part of the path."""

    def __init__(self, spoil: dict[str, Reply] | None = None, *, denied: str = "") -> None:
        self.spoil = spoil or {}
        self.denied = denied

    def __call__(self, asked: Asked) -> Reply:
        spoiled = [reply for part, reply in self.spoil.items() if part in asked.path]
        return spoiled[0] if spoiled else self._answer(asked)

    def _answer(self, asked: Asked) -> Reply:
        if asked.path == "/version":
            return Reply(200, b'{"gitVersion": "v1.33.1"}', JSON)
        if "selfsubjectaccessreviews" in asked.path:
            body = json.loads(asked.body)
            attributes = body["spec"]["resourceAttributes"]
            body["status"] = {"allowed": attributes["resource"] != self.denied}
            return Reply(201, json.dumps(body).encode(), JSON)
        if asked.path.startswith("/api/v1/namespaces/shop/secrets"):
            assert "dryRun=All" in asked.path
            return Reply(201, asked.body, JSON)
        if "nodes" in asked.path:
            return listed("Node", [
                {"metadata": {"name": name}, "status": {"nodeInfo": {
                    "architecture": architecture, "bootID": "", "containerRuntimeVersion": "",
                    "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "",
                    "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": "",
                }}} for name, architecture in (("a", "amd64"), ("b", "arm64"))
            ])  # fmt: skip
        if "storageclasses" in asked.path:
            return listed("StorageClass", [named("fast", "storageclass")])
        assert "ingressclasses" in asked.path, asked.path
        return listed("IngressClass", [named("nginx", "ingressclass")])


def named(name: str, kind: str = "") -> dict[str, Any]:
    key = {
        "storageclass": "storageclass.kubernetes.io",
        "ingressclass": "ingressclass.kubernetes.io",
    }
    marks = {f"{key[kind]}/is-default-class": "true"} if kind else {}
    return {"metadata": {"name": name, "annotations": marks}, "provisioner": "x"}


def findings(answer: Callable[[Asked], Reply], **more: str) -> dict[str, Finding]:
    with serving(answer) as server:
        connection = Connection(server=f"http://{server.host}", namespace="shop", token=TOKEN)
        with Client(connection) as client:
            found = {one.name: one for one in check.cluster(client)}
        assert all(one.headers["Authorization"] == f"Bearer {TOKEN}" for one in server.asked)
    assert not [one for one in found.values() if TOKEN in one.what + one.hint]
    return found


def test_a_cluster_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    found = findings(Cluster())
    assert [one for one in found.values() if one.state != "ok"] == []
    assert list(found) == [
        "cluster", "version", "rights", "namespace", "nodes", "storage", "ingress"
    ]  # fmt: skip
    assert found["nodes"].what == "1 of 2 nodes can run amd64."
    assert "fast" in found["storage"].what
    assert "nginx" in found["ingress"].what


def test_missing_rights_are_named_with_their_purpose() -> None:
    found = findings(Cluster(denied="deployments"))["rights"]
    assert found.state == "failed"
    verbs = "get, list, watch, create, patch, delete"
    assert f"{verbs} on deployments.apps (instances and workers)" in found.what
    assert "docs/kubernetes.md" in found.hint


@pytest.mark.parametrize(
    ("path", "reply", "name", "state", "said"),
    [
        ("/version", Reply(200, b'{"gitVersion": "v1.20.2"}', JSON), "version", "warning",
         "no disruption budgets"),
        ("/version", Reply(200, b'{"gitVersion": "weird"}', JSON), "version", "unknown", "weird"),
        ("dryRun", status(404, 'namespaces "shop" not found'), "namespace", "failed",
         "does not exist"),
        ("dryRun", status(403, "secrets is forbidden: exceeded quota: q, used: 9"), "namespace",
         "failed", "exceeded quota: q"),
        ("dryRun", status(500, "admission webhook \u001b[2J denied"), "namespace", "failed",
         r"webhook \\x1b\[2J"),
        ("nodes", status(403, "no"), "nodes", "unknown", "may not read"),
        ("nodes", listed("Node", []), "nodes", "failed", "None of 0 nodes"),
        ("nodes", Reply(200, b"[" * 9999, JSON), "nodes", "failed", "not that of Kubernetes"),
        ("storageclasses", listed("StorageClass", [named("slow")]), "storage", "warning",
         "no default storage class"),
        ("storageclasses", status(403, "no"), "storage", "unknown", "may not read"),
        ("ingressclasses", listed("IngressClass", []), "ingress", "warning",
         "no ingress controller"),
        ("ingressclasses", listed("IngressClass", [named("a"), named("b")]), "ingress", "warning",
         "a and b is the default"),
        ("ingressclasses", listed("IngressClass", [named("a")]), "ingress", "ok", "by a"),
    ],
)  # fmt: skip
def test_what_a_cluster_lacks(path: str, reply: Reply, name: str, state: str, said: str) -> None:
    found = findings(Cluster({path: reply}))[name]
    assert found.state == state, found
    assert re.search(said, found.what), found
    assert state in {"ok", "unknown"} or found.hint or "webhook" in found.what, found


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (status(401, "Unauthorized"), "login"),
        (Reply(401, b"<html>", {"Content-Type": "text/html"}), "login"),
        (status(403, "no"), "denied"),
        (Reply(502, b"<html>bad gateway"), "refused"),
        (Reply(200, b"<html>"), "malformed"),
        (Reply(200, b"{}", JSON), "malformed"),
        (Reply(200, b'{"gitVersion": 7}', JSON), "malformed"),
        (Reply(500, b"[" * 9999, JSON), "refused"),
        (Reply(500, b"", JSON), "refused"),
        (Reply(0, None), "unreachable"),
    ],
)  # fmt: skip
def test_what_is_no_usable_cluster(reply: Reply, reason: str) -> None:
    with serving(lambda _: reply) as server:
        connection = Connection(server=f"http://{server.host}", namespace="shop", token=TOKEN)
        with Client(connection) as client:
            with pytest.raises(ClusterFailed) as caught:
                client.version()
            (only,) = check.cluster(client)
    assert caught.value.reason == reason
    assert (only.name, only.state) == ("cluster", "failed")


def test_a_cluster_that_is_not_there() -> None:
    connection = Connection(
        server=f"https://127.0.0.1:{free_port()}", namespace="shop", token=TOKEN
    )
    with Client(connection) as client, pytest.raises(ClusterFailed) as caught:
        client.version()
    assert "cannot be reached: Connection refused" in caught.value.what
    assert caught.value.reason == "unreachable"


def test_certificates_that_cannot_be_used() -> None:
    mine, other = certificate(name="a"), certificate(name="b")
    connection = Connection(
        server="https://127.0.0.1:1", namespace="shop", certificate=mine.pem, key=other.key_pem
    )
    with pytest.raises(InvalidInput, match="cannot be used"):
        Client(connection)


def test_the_page_has_the_rights() -> None:
    page = (PROJECT / "docs/kubernetes.md").read_text()
    documents = [
        one for block in re.findall(r"( *```yaml\n.*?)```", page, re.DOTALL)
        for one in yaml.safe_load_all(textwrap.dedent(block).replace("```yaml\n", ""))
    ]  # fmt: skip
    for kind, wanted in (("Role", rights.NAMESPACE), ("ClusterRole", rights.CLUSTER)):
        (role,) = (one for one in documents if one["kind"] == kind)
        written = {
            (group, resource): set(rule["verbs"])
            for rule in role["rules"]
            for group in rule["apiGroups"] for resource in rule["resources"]
        }  # fmt: skip
        assert written == {(one.group, one.resource): set(one.verbs) for one in wanted}
