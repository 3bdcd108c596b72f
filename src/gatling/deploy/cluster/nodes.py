"""The nodes of an app's pods: connections through the API server, and the trees that they have."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from gatling.beam import channel, control, handshake, sight, toolbox
from gatling.beam.answers import typed
from gatling.beam.control import Control
from gatling.beam.etf import Atom
from gatling.errors import ClusterFailed, NodeUnreachable
from gatling.images.tree import SECRET
from gatling.platform.kubernetes import rollout
from gatling.platform.kubernetes.pods import CURRENT, NODE, TREES, encrypted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gatling.beam.sight import Sight
    from gatling.paths import AppPaths
    from gatling.platform.kubernetes.api import Api
    from gatling.platform.kubernetes.pods import Object
    from gatling.state.releases import Release

RELEASES = f"{TREES}/releases"
CHUNK = 256 << 10
CONNECT_SECONDS = 10.0
OBSERVE_SECONDS = 3.0
"""The same for a node that is only measured."""
DELIVER_SECONDS = 60.0
"""For each step of a delivery: a pod may have a slow disk."""
MOST = 64
"""Pods that are talked to at the same time."""

Key = TypeVar("Key")
Value = TypeVar("Value")
Result = TypeVar("Result")


class Pod(Struct, frozen=True):
    """A pod whose node can be reached."""

    name: str
    address: str
    release: str
    """The label of its release, as Kubernetes has it."""
    ready: bool
    app: str = ""
    encrypted: bool = False
    """Whether its distribution is over TLS."""


def found(pods: Sequence[Object]) -> list[Pod]:
    """The pods that do not end."""
    shown = [(pod, rollout.shown(pod)) for pod in pods]
    return [
        Pod(
            name=one.name,
            address=(pod.get("status") or {}).get("podIP", ""),
            release=one.release,
            ready=one.ready,
            app=(pod["metadata"].get("labels") or {}).get("app.kubernetes.io/name", ""),
            encrypted=encrypted(pod),
        )
        for pod, one in shown
        if one.state != "stopping"
    ]


def of_all(
    ask: Callable[[Key, Value], Result], values: Mapping[Key, Value]
) -> dict[Key, Result | Exception]:
    """The results of a function for all of them at the same time, or the exceptions it raised."""
    if not values:
        return {}
    with ThreadPoolExecutor(min(MOST, len(values))) as pool:
        jobs = {key: pool.submit(ask, key, value) for key, value in values.items()}
        return {key: _outcome(job.result) for key, job in jobs.items()}


def _outcome(result: Callable[[], Result]) -> Result | Exception:
    try:
        return result()
    except Exception as error:  # noqa: BLE001 (of one pod; the caller sees it)
        return error


@contextlib.contextmanager
def connected(
    api: Api, paths: AppPaths, release: Release, pod: Pod, patience: float = CONNECT_SECONDS
) -> Iterator[Control]:
    """The control channel to the node of a pod; raises NodeUnreachable.

    `release` is one with the pod's name of nodes and cookie: all of an app that run at once.
    """
    with _channel(api, release, pod, patience, CONNECT_SECONDS) as node:
        control.load_all(node, toolbox.beams(paths, release), paths.cache_anchor)
        yield Control(node, paths, tree)


@contextlib.contextmanager
def observed(api: Api, paths: AppPaths, release: Release, pod: Pod) -> Iterator[Sight]:
    """A connection to the node of a pod that measures it, as `connected`."""
    with _channel(api, release, pod, sight.PATIENCE_SECONDS, OBSERVE_SECONDS) as node:
        yield sight.measuring(node, paths, release)


@contextlib.contextmanager
def _channel(
    api: Api, release: Release, pod: Pod, patience: float, within: float
) -> Iterator[channel.Node]:
    if not pod.address:
        raise NodeUnreachable(f"The pod {pod.name} has no address yet.")
    name = f"{release.name}@{pod.address}"
    dial: Callable[[], Any] = functools.partial(_dialled, api, pod.name)
    length = handshake.LENGTH
    if pod.encrypted:
        dial, length = _over_tls(api, pod, dial, within), handshake.LENGTH_OVER_TLS
    cookie = release.config.get("RELEASE_COOKIE", "")
    with channel.connect(dial, name, cookie, patience, within=within, length=length) as node:
        yield node


def _dialled(api: Api, pod: str) -> Any:
    try:
        return api.connect(pod, NODE)
    except ClusterFailed as error:
        hint = f" {error.hint}" if error.reason == "denied" else ""
        raise NodeUnreachable(f"{error.what}{hint}") from error


def _over_tls(api: Api, pod: Pod, dial: Callable[[], Any], within: float) -> Callable[[], Any]:
    from gatling.platform.kubernetes import distribution, secured  # which load cryptography

    try:
        context = distribution.context(api, pod.app)
    except ClusterFailed as error:
        raise NodeUnreachable(error.what) from error
    name = distribution.common_name(pod.app, api.namespace)
    return lambda: secured.over(dial(), context, name, within)


def tree(number: int) -> Path:
    """The tree of a release in a pod."""
    return Path(f"{RELEASES}/v{number}")


Entry = tuple[Any, ...]
"""As gatling_delivery has it: a directory, a link, or a file with its digest."""


def entries(root: Path) -> list[Entry]:
    """Everything in a tree, directories before what is in them; without the tree's own cookie."""
    gathered: list[Entry] = []
    for directory, directories, files in os.walk(root):
        directories.sort()
        for name in (*sorted(directories), *sorted(files)):
            path = Path(directory, name)
            below = str(path.relative_to(root))
            if path.is_symlink():
                gathered.append((below.encode(), Atom("link"), str(path.readlink()).encode()))
            elif path.is_dir():
                gathered.append((below.encode(), Atom("directory")))
            elif below != SECRET:
                runs = bool(path.stat().st_mode & 0o100)
                digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).digest()
                gathered.append((below.encode(), Atom("file"), runs, digest))
    return gathered


def deliver(node: Control, root: Path, contents: list[Entry], number: int, keep: set[str]) -> int:
    """Bring a release into a pod, and compare what is there then; the bytes that were sent.

    `keep` are the labels of releases that stay in the pod. Raises NodeUnreachable.
    """
    call = functools.partial(node.node.call, "gatling_delivery", timeout=DELIVER_SECONDS)
    booted = typed(call("booted"), str, "booted")
    kept = sorted({*keep, booted})
    label, where = f"v{number}".encode(), str(tree(number)).encode()
    staged = call("stage", RELEASES.encode(), label, [one.encode() for one in kept], contents,
                  limit=channel.LARGE)  # fmt: skip
    if staged == "there":
        return 0
    missing = set(typed(staged, tuple[str, list[str]], "stage")[1])
    sent = 0
    for entry in contents:
        path = entry[0].decode()
        if path not in missing:
            continue
        content = (root / path).read_bytes()
        for start in range(0, max(1, len(content)), CHUNK):
            call("put", where, entry[0], entry[2], content[start : start + CHUNK])
        sent += len(content)
    # the others are the very files that were compared as they became links
    new = [entry for entry in contents if entry[0].decode() in missing]
    done = call("finish", where, new, limit=channel.LARGE)
    if done != "ok":
        raise NodeUnreachable(f"The files of v{number} did not arrive in the pod as they are here.")
    return sent


def point(node: Control, number: int) -> None:
    """Let the pod's next start be that of a release; raises NodeUnreachable."""
    node.node.call("gatling_delivery", "point", CURRENT.encode(), str(tree(number)).encode())


def running(node: Control) -> str:
    """The label of the release that a node runs; raises NodeUnreachable."""
    chain = node.chain()
    if chain:
        return chain[-1][0]
    return str(typed(node.node.call("gatling_delivery", "booted"), str, "booted"))
