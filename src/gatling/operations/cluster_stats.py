"""The numbers of apps on clusters: those of the nodes in their pods, through the API server."""

from __future__ import annotations

import contextlib
import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from gatling.beam import compiler
from gatling.deploy.cluster import nodes
from gatling.deploy.cluster import objects as applied
from gatling.errors import ClusterFailed, GatlingError
from gatling.platform.kubernetes import place, rollout
from gatling.state import releases

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gatling.beam.sight import Sight
    from gatling.paths import AppPaths
    from gatling.platform.kubernetes.rollout import Pod
    from gatling.platform.open import Gatling
    from gatling.platform.restarts import End
    from gatling.state.apps import App
    from gatling.state.platforms import Platform
    from gatling.state.releases import Release

Result = TypeVar("Result")
CLUSTERS_AT_ONCE = 8
"""Apps that are measured at the same time. The pods of each are, too."""
PATIENCE_SECONDS = 4.0
"""For an answer of an API server: Prometheus waits for ten seconds, for all apps together."""


@dataclass(frozen=True, slots=True)
class Seen(Generic[Result]):
    """The instances of an app, with what was measured."""

    pods: list[Pod] = field(default_factory=list)
    ends: dict[str, End] = field(default_factory=dict)
    """How the app of a pod ended before it was started again."""
    measured: dict[str, Result] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    """Why the node of a pod was not measured."""
    problem: str = ""
    """Why the cluster does not say which instances there are."""


def of_apps(
    gatling: Gatling, shown: Sequence[App], measure: Callable[[Sight, App], Result]
) -> dict[str, Seen[Result]]:
    """Measure the nodes of all instances of these apps, at the same time."""
    return prepared(gatling, shown, measure)()


def prepared(
    gatling: Gatling, shown: Sequence[App], measure: Callable[[Sight, App], Result]
) -> Callable[[], dict[str, Seen[Result]]]:
    """The function that measures as `of_apps`; another thread may call it.

    All that needs the records, which belong to this thread, is done before.
    """
    asked: list[tuple[App, Callable[[], Seen[Result]]]] = []
    for app in shown:
        release = None
        if app.live_release is not None and app.wanted == "running":
            release = releases.get(gatling.db, app.name, app.live_release)
            with contextlib.suppress(GatlingError, OSError):  # then no node can be measured
                around = gatling.apps.surroundings(app.name)
                compiler.ensure(gatling.tasks, around, app, release)
        paths, platform = gatling.home.app(app.name), place.of(gatling.db, app)
        asked.append((app, functools.partial(_seen, app, platform, release, paths, measure)))

    def of_all() -> dict[str, Seen[Result]]:
        if not asked:
            return {}
        with ThreadPoolExecutor(min(CLUSTERS_AT_ONCE, len(asked))) as pool:
            found = pool.map(lambda one: one[1](), asked)
            return {app.name: seen for (app, _), seen in zip(asked, found, strict=True)}

    return of_all


def _seen(
    app: App,
    platform: Platform,
    release: Release | None,
    paths: AppPaths,
    measure: Callable[[Sight, App], Result],
) -> Seen[Result]:
    try:
        with place.namespace(platform, PATIENCE_SECONDS) as api:
            there = {one["metadata"]["name"]: one for one in applied.pods_of(api, app.name)}
            seen: Seen[Result] = Seen(
                pods=sorted(map(rollout.shown, there.values()), key=lambda pod: pod.name),
                ends={name: end for name, one in there.items() if (end := rollout.last_end(one))},
            )
            if release is None:
                return seen
            booted = release

            def ask(_: str, pod: nodes.Pod) -> Result:
                with nodes.observed(api, paths, booted, pod) as node:
                    return measure(node, app)

            begun = [one for one in there.values() if rollout.started(one)]
            _sort(nodes.of_all(ask, {pod.name: pod for pod in nodes.found(begun)}), seen)
    except ClusterFailed as error:
        return Seen(problem=error.what)
    for pod in seen.pods:
        if pod.name not in seen.measured:
            seen.unknown.setdefault(pod.name, f"the pod is {pod.state}")
    return seen


def _sort(answers: Mapping[str, Result | Exception], seen: Seen[Result]) -> None:
    for name, answer in answers.items():
        if isinstance(answer, GatlingError):
            seen.unknown[name] = answer.what
        elif isinstance(answer, OSError):
            seen.unknown[name] = f"a file of the release cannot be read: {answer.strerror}"
        elif isinstance(answer, Exception):
            raise answer
        else:
            seen.measured[name] = answer
