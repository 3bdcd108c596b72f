"""The logs of apps on clusters: of the pods that there are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from gatling import decoding
from gatling.deploy.cluster import objects as applied
from gatling.errors import ClusterFailed
from gatling.platform import logs
from gatling.platform.kubernetes import place, rollout
from gatling.platform.kubernetes.api import timed
from gatling.platform.kubernetes.client import ANSWER_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.platform.kubernetes.api import Api
    from gatling.platform.logs import Entry, Line, Wanted
    from gatling.platform.open import Gatling
    from gatling.state.apps import App

FOLLOW_SECONDS = 1.0
DRAIN_SECONDS = 2.0


class Logs:
    """The output of the pods that there are; Kubernetes keeps none of others."""

    def __init__(self, gatling: Gatling, app: App, patience: float = ANSWER_SECONDS) -> None:
        """The API server may take `patience` seconds for an answer that `read` waits for."""
        self._platform, self._patience = place.of(gatling.db, app), patience

    def read(
        self, app: str, *, lines: int, since: str | None = None, wanted: Wanted = logs.EVERYTHING
    ) -> list[Line]:
        """The last lines of all instances, in the order of their times."""
        with place.namespace(self._platform, self._patience) as api:
            found = list(_lines(api, app, since or "", lines, wanted))
        found.sort(key=lambda one: one[0])
        return [line for _, line in found[-lines:]] if lines else []

    def follow(
        self, app: str, *, lines: int = 0, since: str | None = None,
        wanted: Wanted = logs.EVERYTHING,
    ) -> Iterator[Line]:  # fmt: skip
        """Yield these lines, then new ones as they are printed; never ends."""
        with place.namespace(self._platform) as api:
            found = sorted(
                _lines(api, app, since or "", lines or 1, wanted), key=lambda one: one[0]
            )
            shown = found[-lines:] if lines else []
            seen: dict[str, str] = {}
            for at, line in found:
                seen[line.process] = max(at, seen.get(line.process, ""))
            yield from (line for _, line in shown)
            begun = found[-1][0] if found else (since or "").removesuffix("Z")
            while True:
                time.sleep(FOLLOW_SECONDS)
                oldest = min(seen.values(), default=begun)
                fresh = sorted(_lines(api, app, oldest, None, wanted), key=lambda one: one[0])
                for at, line in fresh:
                    if at > seen.get(line.process, begun):
                        seen[line.process] = at
                        yield line

    def entries(self, app: str, after: str, since: str) -> Iterator[Entry]:
        """See platform.interface.Logs. The position has the time of the last line of each pod.

        A cluster that does not answer is asked again. The log of a pod's app before its last start
        is read as long as Kubernetes keeps it. Lines of a pod that was removed since the last look
        are lost.
        """
        seen: dict[str, str] = decoding.from_json(after, dict[str, str]) if after else {}
        restarts: dict[str, int] = {}
        with place.namespace(self._platform) as api:
            while True:
                try:
                    yield from _fresh(api, app, seen, restarts, since)
                except ClusterFailed as error:
                    if error.reason not in ("unreachable", "refused"):
                        raise
                time.sleep(DRAIN_SECONDS)


def _fresh(
    api: Api, app: str, seen: dict[str, str], restarts: dict[str, int], since: str
) -> Iterator[Entry]:
    """The lines that no pod had printed when `seen` was as it is, which is changed with each."""
    pods = list(map(rollout.shown, applied.pods_and_workers(api, app)))
    for gone in seen.keys() - {pod.name for pod in pods}:
        del seen[gone]
    for pod in pods:
        from_ = f"{seen.get(pod.name, since)[:19]}Z"
        lines = api.log(pod.name, since=from_)
        if pod.restarts > restarts.get(pod.name, 0):
            lines = [*api.log(pod.name, since=from_, previous=True), *lines]
        restarts[pod.name] = pod.restarts
        for text in lines:
            at, said = timed(text)
            if at > seen.get(pod.name, since.removesuffix("Z")):
                seen[pod.name] = at
                line = logs.Line(_stamp(at), pod.release, said, pod.name)
                yield logs.Entry(msgspec.json.encode(seen).decode(), line)


def _lines(
    api: Api, app: str, since: str, count: int | None, wanted: Wanted
) -> Iterator[tuple[str, Line]]:
    """The lines from `since` on, each with its time; also those of before the last start of a pod.

    An API server knows whole seconds only.
    """
    moment = f"{since[:19]}Z" if since else ""
    for pod in map(rollout.shown, applied.pods_and_workers(api, app)):
        if wanted.release not in (None, pod.release):
            continue
        if wanted.process not in (None, pod.process, pod.name):
            continue
        printed = api.log(pod.name, lines=count, since=moment)
        if pod.restarts:
            printed = [*api.log(pod.name, lines=count, since=moment, previous=True), *printed]
        for text in printed:
            at, said = timed(text)
            if at >= since.removesuffix("Z"):
                yield at, logs.Line(_stamp(at), pod.release, said, pod.name)


def _stamp(at: str) -> str:
    """A time as all logs have it, to the millisecond."""
    whole, _, fraction = at.partition(".")
    return f"{whole}.{fraction:0<3.3}Z"
