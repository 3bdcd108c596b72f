"""The workers of an app on a cluster: a Deployment each, brought into line after the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from gatling import times
from gatling.cleanup import text_of
from gatling.deploy.cluster import objects as applied
from gatling.errors import GatlingError
from gatling.platform.kubernetes import objects, rollout
from gatling.platform.kubernetes.pods import labels
from gatling.project import processes
from gatling.runtime import pods as spec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatling.platform.kubernetes.api import Api
    from gatling.platform.kubernetes.pods import Object
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.platforms import Platform
    from gatling.state.releases import Release

WAIT_SECONDS = 60.0
"""For workers that were scaled or restarted, until as many run as should."""


def wanted(app: App, release: Release) -> dict[str, int]:
    """How many of each worker of a release are to run while the app does."""
    settings = applied.settings_of(app, release)
    return {name: one.instances for name, one in settings.processes.items() if one.command}


def follow(gatling: Gatling, api: Api, app: App, release: Release, platform: Platform) -> list[str]:
    """Make what runs what the records say of the live release; what could not be done, in words.

    It raises nothing: a release that is live is so whatever becomes of its workers.
    """
    problems: list[str] = []
    try:
        counts = wanted(app, release)
        for name, count in counts.items():
            now = count if app.wanted == "running" else 0
            try:
                api.apply(described(gatling, app, release, platform, name, now))
            except GatlingError as error:
                problems.append(f"{name} could not be started: {text_of(error)}")
        for component, name in _there(api, app.name):
            if component not in counts:
                api.remove("Deployment", name)
    except GatlingError as error:
        problems.append(f"the workers of {app.name}: {text_of(error)}")
    return problems


def described(
    gatling: Gatling, app: App, release: Release, platform: Platform, name: str, count: int
) -> Object:
    """The Deployment of a worker of a release."""
    settings = applied.settings_of(app, release)
    process = settings.processes[name]
    pods = spec.described(app, release, settings, platform, app.live_deployment or 0)
    tree = gatling.home.app(app.name).release(release.number)
    command = spec.once(pods, tree, processes.words(process.command))
    return objects.worker(
        structs.replace(pods, command=command, stop_seconds=process.stop, process=name),
        name, count,
    )  # fmt: skip


def remove(api: Api, app: str) -> None:
    """Remove the workers of an app that there are."""
    for _, name in _there(api, app):
        api.remove("Deployment", name)


def restart(api: Api, app: str, name: str) -> None:
    """End the pods of a worker, in whose place its Deployment starts others."""
    component = objects.worker_component(name)
    for one in api.every("Pod", labels(app, component)):
        api.remove("Pod", one["metadata"]["name"])


def unwell(api: Api, app: str, counts: dict[str, int]) -> list[str]:
    """Wait until so many of each worker run, and no others; those that do not, in words."""
    wrong: list[str] = []
    for _ in times.looks(WAIT_SECONDS, applied.POLL_SECONDS):
        found = applied.pods_and_workers(api, app)
        wrong = [text for name, count in counts.items() if (text := _missing(found, name, count))]
        if not wrong:
            break
    return wrong


def _missing(pods: Iterable[Object], name: str, count: int) -> str:
    own = [pod for pod in pods if rollout.shown(pod).process == name]
    ready = sum(rollout.shown(pod).state == "running" for pod in own)  # and not stopping
    if ready == len(own) == count:
        return ""
    problems = [problem.what for pod in own for problem in rollout.problems(pod)]
    return f"{ready} of {count} of {name} run. {' '.join(problems[:1])}".rstrip(" .")


def _there(api: Api, app: str) -> Iterable[tuple[str, str]]:
    """The workers that have a Deployment, with its name."""
    for one in api.every("Deployment", applied.MANAGED | {"app.kubernetes.io/name": app}):
        process = objects.process_of(one["metadata"]["labels"]["app.kubernetes.io/component"])
        if process not in ("", objects.WEB):
            yield process, one["metadata"]["name"]
