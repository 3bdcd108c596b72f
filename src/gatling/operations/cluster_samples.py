"""Samples of apps on clusters, which are measured beside those of this machine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from gatling.operations import cluster_stats
from gatling.state.samples import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from gatling.beam.sight import Sight
    from gatling.operations.cluster_stats import Seen
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.samples import Measured


class _Instance(NamedTuple):
    node: Measured
    memory: int | None
    """Bytes that the BEAM has in memory."""
    cpu: float
    """Seconds of processor time since its start."""


class ClusterSampler:
    """Measures apps on clusters again and again, and waits for none of them.

    Each cluster is asked in a thread of its own, and its answers are those of the next step. One
    that hangs is not asked again until it has answered, and its apps have no samples.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(cluster_stats.CLUSTERS_AT_ONCE)
        self._asked: dict[str, Future[dict[str, Seen[_Instance]]]] = {}
        self._cpu: dict[tuple[str, str], float] = {}
        self.schedulers: dict[str, int] = {}
        """Of a node of each app, when it was last measured."""

    def sample(
        self,
        gatling: Gatling,
        shown: Sequence[App],
        seconds: float,
        measure: Callable[[Sight], Measured],
    ) -> dict[str, Sample]:
        """The samples of the clusters that have answered; then they are asked for the next."""
        found: dict[str, Sample] = {}
        for platform in dict.fromkeys(app.platform or "" for app in shown):
            asked = self._asked.get(platform)
            if asked is not None and not asked.done():
                continue
            of = [app for app in shown if app.platform == platform]
            if asked is not None:
                seen = asked.result()
                for app in of:
                    if app.name in seen and not seen[app.name].problem:
                        found[app.name] = self._sample(app.name, seen[app.name], seconds)

            def one(node: Sight, _: App) -> _Instance:
                resident, spent = node.resident(), node.numbers(0).runtime_ms / 1000
                return _Instance(measure(node), resident, spent)

            asks = cluster_stats.prepared(gatling, of, one)
            self._asked[platform] = self._pool.submit(asks)
        return found

    def _sample(self, app: str, seen: Seen[_Instance], seconds: float) -> Sample:
        sample = Sample(seconds=seconds)
        sample.up = seconds if any(pod.ready for pod in seen.pods) else 0
        known = self._cpu
        self._cpu = {key: spent for key, spent in known.items() if key[0] != app}
        for pod, one in seen.measured.items():
            node = one.node
            sample.add(Sample(
                memory=one.memory or 0, node_memory=node.memory, processes=node.processes,
                run_queue=node.run_queue, messages=node.messages,
                cpu=_worked(known.get((app, pod)), one.cpu),
            ))  # fmt: skip
            self._cpu[app, pod] = one.cpu
            self.schedulers[app] = node.schedulers
        return sample


def _worked(before: float | None, now: float) -> float:
    """The processor time since the last sample; of a node that was started again, since then."""
    if before is None:
        return 0.0
    return round(now - before if now >= before else now, 2)
