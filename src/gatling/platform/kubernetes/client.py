"""The connection to a cluster, with what goes wrong in Gatling's words.

lightkube is the client. Its errors, and those of httpx below it, do not leave this module.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import ssl
from typing import TYPE_CHECKING, Any

import httpx2
import lightkube
import msgspec
from lightkube.config import client_adapter
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import Cluster, Context, User
from lightkube.core.exceptions import ConfigError

from gatling import causes
from gatling.errors import ClusterFailed, InvalidInput
from gatling.visible import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from httpcore2 import NetworkStream

    from gatling.state.platforms import Connection

MANAGER = "gatling"
"""The owner of the fields of objects that Gatling applies."""
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
MAX_DETAIL = 400
_ACCESS = "docs/kubernetes.md has the Role with the rights that Gatling needs."
_QUOTA = "exceeded quota"
_BROKEN = (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)
"""The errors of a connection that was there."""


class Client:
    """A cluster, as the user of its connection. All calls raise ClusterFailed.

    `patience` is how many seconds the cluster may take to answer.
    """

    def __init__(self, connection: Connection, patience: float = ANSWER_SECONDS) -> None:
        self.server = connection.server
        self.namespace = connection.namespace
        config = _config(connection)
        timeout = httpx2.Timeout(patience, connect=min(patience, CONNECT_SECONDS))
        self._opened = contextlib.ExitStack()

        def typed(*, dry: bool = False) -> lightkube.Client:
            made = lightkube.Client(
                config=config, namespace=connection.namespace, timeout=timeout,
                field_manager=MANAGER, dry_run=dry,
            )  # fmt: skip
            self._opened.callback(made.close)
            return made

        self._typed = typed
        try:
            self._plain = client_adapter.Client(
                config, client_adapter.ConnectionParams(timeout=timeout)
            )
        except (ssl.SSLError, ConfigError, ValueError, OSError) as error:
            raise InvalidInput(
                "The certificates or the key of the kubeconfig cannot be used:"
                f" {one_line(str(error))[:MAX_DETAIL]}."
            ) from error

    def __enter__(self) -> Client:  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()
        self._plain.close()

    # each of these loads the cluster's CA again, and only the check of a cluster needs them

    @functools.cached_property
    def api(self) -> lightkube.Client:
        """The client for objects with types."""
        return self._typed()

    @functools.cached_property
    def dry(self) -> lightkube.Client:
        """The same for requests that change nothing."""
        return self._typed(dry=True)

    def version(self) -> str:
        """The version of the API server: `v1.33.1`."""
        with self.talking("a request for its version"):
            answer = self._plain.get("/version")
            answer.raise_for_status()
            found = answer.json()["gitVersion"]
            if not isinstance(found, str):
                raise TypeError(found)
            return one_line(found)[:40]

    def ask(
        self,
        method: str,
        path: str,
        about: str,
        *,
        body: object = None,
        media: str = "application/json",
        query: Mapping[str, str | int] | None = None,
    ) -> bytes:
        """The answer to a request; `body` is sent as JSON. `about` names it in errors.

        A request whose connection breaks is sent once more, so it has to be one that may be carried
        out twice. Connections are kept, and servers, and what balances the load before them, close
        those that are idle without a word.
        """
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": media} if body is not None else {}
        send = functools.partial(
            self._plain.request,
            method, path, content=content, headers=headers, params=dict(query or {}),
        )  # fmt: skip
        with self.talking(about):
            try:
                answer = send()
            except _BROKEN:
                answer = send()
            answer.raise_for_status()
            return answer.content

    @contextlib.contextmanager
    def upgraded(
        self,
        path: str,
        about: str,
        query: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
    ) -> Iterator[tuple[NetworkStream, str]]:
        """The connection of a request that the server answers by another protocol; its name.

        `headers` ask for it. Errors of the block are not translated.
        """
        with contextlib.ExitStack() as stack:
            with self.talking(about):
                answer = stack.enter_context(
                    self._plain.stream("GET", path, params=list(query), headers=dict(headers))
                )
                if answer.status_code != 101:
                    answer.read()
                    answer.raise_for_status()
                    raise ValueError(answer.status_code)
                stream = answer.extensions["network_stream"]
                chosen = answer.headers.get("Sec-WebSocket-Protocol", "")
            yield stream, chosen

    def lost(self, error: Exception) -> ClusterFailed:
        """The error for a connection of `upgraded` that broke."""
        why = causes.of_connection(error, timed_out=isinstance(error, TimeoutError))
        return ClusterFailed(
            f"The connection to the cluster {self.server} broke: {why}.",
            hint="Check that the cluster runs, and that this machine may connect to it.",
            reason="unreachable",
        )

    @contextlib.contextmanager
    def talking(self, about: str) -> Iterator[None]:
        """Turn the errors of the block into a ClusterFailed that names `about`."""
        try:
            yield
        except httpx2.HTTPStatusError as error:
            raise self._refused(error, about) from error
        except httpx2.TransportError as error:
            raise self._unreached(error) from error
        except (
            httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError, RecursionError,
            msgspec.MsgspecError,
        ) as error:  # fmt: skip
            raise ClusterFailed(
                f"The server {self.server} gave an answer that is not that of Kubernetes.",
                hint="Check the address in the kubeconfig.", reason="malformed",
            ) from error  # fmt: skip

    def _unreached(self, error: httpx2.TransportError) -> ClusterFailed:
        if any(isinstance(one, ssl.SSLCertVerificationError) for one in causes.below(error)):
            return ClusterFailed(
                f"The cluster {self.server} shows a certificate that its kubeconfig does not"
                " trust.",
                hint="Get a new kubeconfig, with certificate-authority-data.", reason="untrusted",
            )  # fmt: skip
        timed_out = isinstance(error, httpx2.TimeoutException)
        why = causes.of_connection(error, timed_out=timed_out)
        return ClusterFailed(
            f"The cluster {self.server} cannot be reached: {why}.",
            hint="Check that the cluster runs, and that this machine may connect to it.",
            reason="unreachable",
        )

    def _refused(self, error: httpx2.HTTPStatusError, about: str) -> ClusterFailed:
        status = error.response.status_code if error.response is not None else 0
        said = one_line(" ".join(_message(error).split()))[:MAX_DETAIL].rstrip(".")
        reason, hint = {
            401: ("login", "The token or certificate may have expired. Get a new kubeconfig."),
            403: ("denied", _ACCESS),
            404: ("missing", ""),
        }.get(status, ("refused", ""))
        if _QUOTA in said:
            reason = "quota"
            hint = "Raise the ResourceQuota of the namespace, or lower the limits of the app."
        detail = f": {said}" if said else ""
        return ClusterFailed(
            f"The cluster {self.server} refused {about} with status {status}{detail}.",
            hint=hint, reason=reason,
        )  # fmt: skip


def _config(connection: Connection) -> SingleConfig:
    def data(pem: str) -> str | None:
        return base64.b64encode(pem.encode()).decode() if pem else None

    return SingleConfig(
        "gatling",
        Context(cluster="cluster", user="user", namespace=connection.namespace),
        Cluster(server=connection.server, certificate_auth_data=data(connection.authority)),
        User(
            token=connection.token or None,
            client_cert_data=data(connection.certificate),
            client_key_data=data(connection.key),
        ),
    )


def _message(error: httpx2.HTTPStatusError) -> str:
    """The words of the API server; a proxy in front of it has none."""
    status: Any = getattr(error, "status", None)
    message = getattr(status, "message", None)
    if message is None and error.response is not None:
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            message = json.loads(error.response.content).get("message")
    return message if isinstance(message, str) else ""
