"""The one connection that a kubeconfig stands for, with all that belongs to it.

A kubeconfig may name programs to run and files to read. Gatling runs none and reads none: such a
program would have Gatling's rights with each command, and a file may be gone or changed later.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gatling.errors import InvalidInput
from gatling.state.platforms import Connection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_SIZE = 1 << 20
MAX_DEPTH = 20
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ACCOUNT = "docs/kubernetes.md shows how to create a service account and its kubeconfig."
_FLATTEN = "`kubectl config view --raw --flatten --minify` prints one without other files."
_REFUSED_USER = {
    "exec": ("logs in by running a program, which Gatling does not do", _ACCOUNT),
    "auth-provider": ("logs in through a provider, which Gatling does not do", _ACCOUNT),
    "tokenFile": ("takes its token from a file, which may change", _ACCOUNT),
    "client-certificate": ("names another file", _FLATTEN),
    "client-key": ("names another file", _FLATTEN),
    "username": ("has a password, which Kubernetes no longer accepts", _ACCOUNT),
    "as": ("acts in the name of another user, which Gatling does not do", _ACCOUNT),
    "as-groups": ("acts in the name of other groups, which Gatling does not do", _ACCOUNT),
}
_REFUSED_CLUSTER = {
    "certificate-authority": ("names another file", _FLATTEN),
    "insecure-skip-tls-verify": (
        "does not check the cluster's certificate, so anybody on the way could read all secrets",
        "Put the certificate of its CA into certificate-authority-data.",
    ),
    "proxy-url": ("names a proxy, which is not supported", "Remove `proxy-url`."),
    "tls-server-name": ("names another server, which is not supported",
                        "Use a name that the certificate of the server has."),
}  # fmt: skip


def parse(text: str, context: str = "", namespace: str = "") -> Connection:
    """The connection of a context, or of the current one; raises InvalidInput."""
    config = _read(text)
    chosen = context or str(config.get("current-context") or "")
    if not chosen:
        raise InvalidInput(
            "The kubeconfig has no current context.",
            hint=f"Add `--context NAME`: {', '.join(_names(config, 'contexts')) or 'it has none'}.",
        )
    entry = _named(config, "contexts", "context", chosen)
    cluster = _named(config, "clusters", "cluster", str(entry.get("cluster", "")))
    user = _named(config, "users", "user", str(entry.get("user", "")))
    for section, refused in ((cluster, _REFUSED_CLUSTER), (user, _REFUSED_USER)):
        for key, (why, hint) in refused.items():
            if section.get(key):
                raise InvalidInput(f"The kubeconfig {why} ({key}).", hint=hint)
    token = str(user.get("token") or "")
    certificate = _pem(user, "client-certificate-data")
    key = _pem(user, "client-key-data")
    if token and not _TOKEN.fullmatch(token):
        raise InvalidInput("The token of the kubeconfig has characters that no token has.")
    if not token and not (certificate and key):
        raise InvalidInput(
            f"The user of the context {chosen!r} has neither a token nor a certificate with a key.",
            hint=_ACCOUNT,
        )
    return Connection(
        server=_server(cluster),
        authority=_pem(cluster, "certificate-authority-data"),
        token=token,
        certificate="" if token else certificate,
        key="" if token else key,
        namespace=checked_namespace(namespace or str(entry.get("namespace") or "default")),
    )


def checked_namespace(text: str) -> str:
    """The name of a namespace; raises InvalidInput."""
    if not _NAMESPACE.fullmatch(text):
        raise InvalidInput(
            f"{text!r} cannot be a namespace.",
            hint="Use 1 to 63 lower-case letters, digits and hyphens, no hyphen at either end.",
        )
    return text


def _read(text: str) -> Mapping[str, Any]:
    import yaml

    if len(text) > MAX_SIZE:
        raise InvalidInput(f"A kubeconfig has at most {MAX_SIZE >> 20} MB.")
    try:
        _check_events(yaml.parse(text, yaml.SafeLoader))
        config = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        raise InvalidInput(f"The kubeconfig is not valid YAML{line}.") from error
    if not isinstance(config, dict) or "clusters" not in config:
        raise InvalidInput(
            "The file is not a kubeconfig: it has no clusters.",
            hint="`kubectl config view --raw --flatten --minify` prints one.",
        )
    return config


def _check_events(events: Iterable[Any]) -> None:
    """Refuse what would take much time or memory, before anything is made of it.

    An alias may stand for another one, and a short text so for more than the memory. Lists in each
    other take the square of their number.
    """
    import yaml

    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise InvalidInput("The kubeconfig has YAML aliases, which are not supported.")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InvalidInput("The file is not a kubeconfig: it has lists in lists in lists.")


def _entries(config: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    found = config.get(kind)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _names(config: Mapping[str, Any], kind: str) -> list[str]:
    return [str(one.get("name")) for one in _entries(config, kind)]


def _named(config: Mapping[str, Any], kind: str, key: str, name: str) -> Mapping[str, Any]:
    for one in _entries(config, kind):
        if one.get("name") == name and isinstance(one.get(key), dict):
            found: Mapping[str, Any] = one[key]
            return found
    raise InvalidInput(
        f"The kubeconfig has no {key} {name!r}.",
        hint=f"It has {', '.join(_names(config, kind)) or 'none'}.",
    )


def _server(cluster: Mapping[str, Any]) -> str:
    server = str(cluster.get("server") or "")
    try:
        parts = urlsplit(server)
        good = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
        good = good and bool(parts.hostname) and not parts.username and parts.port != 0
    except ValueError:
        good = False
    if not good or not server.isascii() or not server.isprintable() or " " in server:
        raise InvalidInput(
            f"{server!r} is not the address of a cluster.", hint="It begins with https://."
        )
    return server


def _pem(section: Mapping[str, Any], key: str) -> str:
    value = section.get(key)
    if not value:
        return ""
    try:
        text = base64.b64decode(str(value), validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"{key} in the kubeconfig is not base64.") from error
    if "-----BEGIN " not in text:
        raise InvalidInput(f"{key} in the kubeconfig has no PEM.")
    return text
