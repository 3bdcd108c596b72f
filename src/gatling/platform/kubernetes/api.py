"""The objects of a namespace, as JSON has them, the logs of its pods, and connections to them.

Objects are applied on the server's side: fields that are not Gatling's keep what others gave them.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gatling.errors import ClusterFailed
from gatling.platform.kubernetes import execute, tunnel
from gatling.platform.kubernetes.client import MANAGER

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping, Sequence

    from gatling.platform.kubernetes.client import Client
    from gatling.platform.kubernetes.execute import Execution
    from gatling.platform.kubernetes.pods import Object

_KINDS = {
    "Secret": ("v1", "secrets"),
    "Service": ("v1", "services"),
    "Pod": ("v1", "pods"),
    "Event": ("v1", "events"),
    "Deployment": ("apps/v1", "deployments"),
    "ReplicaSet": ("apps/v1", "replicasets"),
    "Job": ("batch/v1", "jobs"),
    "Ingress": ("networking.k8s.io/v1", "ingresses"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
}
"""The API and the name in paths, by kind."""


MAX_OUTPUT = 16 * 1024 * 1024
"""Bytes of output that are kept of a command in a pod."""
_TIMED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9:]+) ")


def timed(line: str) -> tuple[str, str]:
    """The time of a line of a log, in UTC without `Z` so that times sort as text, and the line.

    Kubernetes leaves zeros at the end of the fraction out.
    """
    at, _, text = line.partition(" ")
    return at.removesuffix("Z").partition("+")[0], text


class Api:
    """One namespace. All calls raise ClusterFailed."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.namespace = client.namespace

    def apply(self, one: Object) -> Object:
        """Create the object, or change the fields that it names; the object as it is then."""
        kind, name = one["kind"], one["metadata"]["name"]
        query: dict[str, str | int] = {"fieldManager": MANAGER, "force": "true"}
        return self._object(
            "PATCH", self._path(kind, name), f"to apply the {kind} {name}",
            body=one, media="application/apply-patch+yaml", query=query,
        )  # fmt: skip

    def find(self, kind: str, name: str) -> Object | None:
        """The object of that name, if there is one."""
        try:
            return self._object("GET", self._path(kind, name), f"to read the {kind} {name}")
        except ClusterFailed as error:
            if error.reason == "missing":
                return None
            raise

    def every(self, kind: str, labels: Mapping[str, str], fields: str = "") -> list[Object]:
        """The objects with these labels, and with these fields (`involvedObject.name=…`)."""
        query: dict[str, str | int] = {}
        if labels:
            query["labelSelector"] = ",".join(f"{name}={value}" for name, value in labels.items())
        if fields:
            query["fieldSelector"] = fields
        answer = self._object("GET", self._path(kind), f"to list objects of the kind {kind}",
                              query=query)  # fmt: skip
        items = answer.get("items")
        return [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []

    def remove(self, kind: str, name: str) -> None:
        """Delete an object with all that belongs to it; nothing if it is not there."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        try:
            self._object("DELETE", self._path(kind, name), f"to delete the {kind} {name}",
                         body=body)  # fmt: skip
        except ClusterFailed as error:
            if error.reason != "missing":
                raise

    def log(
        self, pod: str, *, lines: int | None = None, since: str = "", previous: bool = False
    ) -> list[str]:
        """The lines of a pod's app, each begins with its time; of the run before, if `previous`.

        Empty when the app has not started, or is gone.
        """
        query: dict[str, str | int] = {"container": "app", "timestamps": "true"}
        if lines is not None:
            query["tailLines"] = lines
        if since:
            query["sinceTime"] = since
        if previous:
            query["previous"] = "true"
        path = f"{self._path('Pod', pod)}/log"
        try:
            found = self._client.ask("GET", path, f"the log of the pod {pod}", query=query)
        except ClusterFailed as error:
            if error.reason in ("missing", "refused"):
                return []
            raise
        # a node that has no file of it any more says so in a line without a time
        return [line for line in found.decode(errors="replace").split("\n") if _TIMED.match(line)]

    @contextlib.contextmanager
    def execution(
        self, pod: str, words: Sequence[str], *, terminal: bool = False, stdin: bool = False
    ) -> Iterator[Execution]:
        """A command that runs in the app's container of a pod, with the container's environment.

        With a terminal its errors come with its output. The end of the block does not stop the
        command. Cluster and nodes may record the words: they are no place for a secret.
        """
        asked = [("container", "app"), *(("command", word) for word in words)]
        asked += [("stdin", _said(stdin)), ("stdout", "true"), ("tty", _said(terminal))]
        asked.append(("stderr", _said(not terminal)))
        path, about = f"{self._path('Pod', pod)}/exec", f"to run a command in the pod {pod}"
        with self._client.upgraded(path, about, asked, execute.HEADERS) as (stream, protocol):
            yield execute.Execution(stream, protocol, pod, self._client.lost)

    def execute(
        self, pod: str, words: Sequence[str], *, timeout: float, limit: int = MAX_OUTPUT
    ) -> execute.Ended:
        """Run a command to its end, without standard input; its status and output.

        Raises TimedOut after `timeout` seconds, and CommandFailed for more than `limit` bytes.
        """
        with self.execution(pod, words) as one:
            return one.to_its_end(timeout, limit)

    def connect(self, pod: str, port: int) -> socket.socket:
        """A connection to a port of a pod, which the caller closes."""
        about = f"a connection to the pod {pod}"
        return tunnel.opened(self._client, self._path("Pod", pod), port, about)

    def patch(self, kind: str, name: str, change: Object) -> Object:
        """Merge a change into an object (JSON merge patch); the object as it is then."""
        return self._object(
            "PATCH", self._path(kind, name), f"to change the {kind} {name}",
            body=change, media="application/merge-patch+json", query={"fieldManager": MANAGER},
        )  # fmt: skip

    def replace(self, kind: str, name: str, path: str, value: object) -> Object:
        """Replace one part of an object, such as `/spec/template`; the object as it is then."""
        return self._object(
            "PATCH", self._path(kind, name), f"to change the {kind} {name}",
            body=[{"op": "replace", "path": path, "value": value}],
            media="application/json-patch+json", query={"fieldManager": MANAGER},
        )  # fmt: skip

    def _path(self, kind: str, name: str = "") -> str:
        api, resource = _KINDS[kind]
        root = "/api" if api == "v1" else "/apis"
        path = f"{root}/{api}/namespaces/{quote(self.namespace)}/{resource}"
        return f"{path}/{quote(name)}" if name else path

    def _object(self, method: str, path: str, about: str, **more: Any) -> Object:
        with self._client.talking(about):
            found = json.loads(self._client.ask(method, path, about, **more))
            if not isinstance(found, dict):
                raise TypeError(found)
            return found


def _said(value: bool) -> str:
    return "true" if value else "false"
