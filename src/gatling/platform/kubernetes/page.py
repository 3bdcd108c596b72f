"""The pod that answers with the maintenance page in the place of an app, as data.

It works with every ingress controller: the Service of the app leads to it while maintenance is on.
The program is Erlang's own of the image, without the app.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from gatling.images.tree import PLACE
from gatling.platform.kubernetes.pods import (
    HTTP,
    confined,
    labels,
    metadata,
    part_name,
    pod_spec,
)

if TYPE_CHECKING:
    from gatling.platform.kubernetes.pods import Object, Pods

PAGE = "page"
"""The component of the pod."""
_FILE = "/page/page.html"
# A request is read to its end, and the connection closed after the answer was: otherwise clients
# may see a reset in the place of the page.
_SERVE = f"""
{{ok, Page}} = file:read_file("{_FILE}"),
Head = ["HTTP/1.1 503 Service Unavailable\\r\\ncontent-type: text/html; charset=utf-8\\r\\n",
        "cache-control: no-store\\r\\nretry-after: 60\\r\\nconnection: close\\r\\n",
        "content-length: ", integer_to_list(byte_size(Page)), "\\r\\n\\r\\n"],
Options = [binary, {{packet, http_bin}}, {{active, false}}, {{reuseaddr, true}}, {{backlog, 1024}}],
Both = [inet6, {{ipv6_v6only, false}} | Options],
{{ok, Listen}} = case gen_tcp:listen({HTTP}, Both) of
                    {{ok, Found}} -> {{ok, Found}};
                    _ -> gen_tcp:listen({HTTP}, Options)
                end,
Answer = fun Read(Socket, Method) ->
    case gen_tcp:recv(Socket, 0, 10000) of
        {{ok, {{http_request, Given, _, _}}}} -> Read(Socket, Given);
        {{ok, http_eoh}} ->
            gen_tcp:send(Socket, case Method of 'HEAD' -> Head; _ -> [Head, Page] end),
            gen_tcp:shutdown(Socket, write),
            inet:setopts(Socket, [{{packet, raw}}]),
            gen_tcp:recv(Socket, 0, 2000);
        {{ok, {{http_header, _, _, _, _}}}} -> Read(Socket, Method);
        _ -> done
    end
end,
Accept = fun Next() ->
    case gen_tcp:accept(Listen) of
        {{ok, Socket}} ->
            Worker = spawn(fun() ->
                receive go -> Answer(Socket, 'GET') end, gen_tcp:close(Socket)
            end),
            gen_tcp:controlling_process(Socket, Worker),
            Worker ! go;
        _ -> timer:sleep(100)
    end,
    Next()
end,
Accept().
"""
_START = (
    f"cd /{PLACE} && set -- releases/*/start_clean.boot && exec erts-*/bin/erl -noinput"
    f' -boot "/{PLACE}/${{1%.boot}}" -boot_var RELEASE_LIB /{PLACE}/lib +S 1 -eval "$SERVE"'
)


def secret(pods: Pods, page: str) -> Object:
    """The Secret with the text of the page, which never changes."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(pods, secret_name(pods, page), PAGE),
        "type": "Opaque",
        "immutable": True,
        "data": {"page.html": base64.b64encode(page.encode()).decode()},
    }


def secret_name(pods: Pods, page: str) -> str:
    """The name of that Secret; another text has another one, so that the pod is replaced."""
    return part_name(pods.app, f"{PAGE}-{hashlib.sha256(page.encode()).hexdigest()[:12]}")


def name(app: str) -> str:
    """The name of the Deployment."""
    return part_name(app, PAGE)


def deployment(pods: Pods, page: str) -> Object:
    """The Deployment of the pod."""
    container: Object = {
        "name": "app",
        "image": pods.image,
        "command": ["/bin/sh", "-c", _START],
        "env": [
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 (of the pod alone)
            {"name": "ERL_CRASH_DUMP_SECONDS", "value": "0"},
            # Kubernetes replaces `$(NAME)`, of which this has none
            {"name": "SERVE", "value": _SERVE},
        ],
        "ports": [{"name": "http", "containerPort": HTTP, "protocol": "TCP"}],
        "readinessProbe": {
            "tcpSocket": {"port": "http"}, "periodSeconds": 1, "failureThreshold": 3,
        },
        "volumeMounts": [
            {"name": PAGE, "mountPath": "/page", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
        "securityContext": confined(),
        "resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "128Mi"}},
    }  # fmt: skip
    spec = pod_spec(pods) | {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 5,
        "containers": [container],
        "volumes": [
            {"name": PAGE, "secret": {"secretName": secret_name(pods, page)}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    own = labels(pods.app, PAGE)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(pods, name(pods.app), PAGE),
        "spec": {
            "replicas": 1,
            "strategy": {
                "type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": own},
            "template": {"metadata": {"labels": own}, "spec": spec},
        },
    }  # fmt: skip
