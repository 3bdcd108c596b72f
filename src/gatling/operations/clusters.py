"""Apps that run on a cluster: their instances, logs, and their removal."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.deploy.cluster import objects as applied
from gatling.deploy.cluster import workers
from gatling.errors import ClusterFailed, GatlingError, InvalidInput, NotFound, UnhealthyRelease
from gatling.operations import changes
from gatling.operations.status import AppDetails, AppStatus, LastEnd, WorkerStatus
from gatling.platform import lock, restarts
from gatling.platform.kubernetes import place
from gatling.platform.kubernetes.objects import WEB
from gatling.project import history, settings
from gatling.state import apps, audit, config, deployments, moves, platforms, releases
from gatling.times import seconds_since

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatling.platform.kubernetes.rollout import Pod
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.platforms import Platform
    from gatling.ui.progress import Progress

LOOK_SECONDS = 3.0
"""For an answer of an API server to somebody who asks for the status of apps."""
CLUSTERS_AT_ONCE = 8


def wait(gatling: Gatling, app: App) -> None:
    """Wait until the instances of the live release serve; raises UnhealthyRelease."""
    if app.live_release is None:
        return
    found = applied.settings_of(app, releases.get(gatling.db, app.name, app.live_release))
    with place.opened(gatling.db, app) as api:
        number = app.live_deployment or 0
        applied.wait(api, app, found, number, found.cluster.instances)


def serve(gatling: Gatling, app: App, name: str) -> None:
    """Apply the Ingress of the app's domains on a cluster of that name.

    The first deployment does where nothing is live.
    """
    if app.live_release is None:
        return
    with place.namespace(platforms.get(gatling.db, name)) as api:
        applied.apply_domains(api, app, settings.parse(app.effective).cluster.issuer)


def maintain(gatling: Gatling, name: str) -> None:
    """Show the maintenance page or the app, as recorded; the caller holds the lock.

    The first deployment of an app does the same.
    """
    app = apps.get(gatling.db, name)
    if app.live_release is None:
        return
    from gatling.deploy.cluster import maintenance

    release = releases.get(gatling.db, name, app.live_release)
    platform = place.of(gatling.db, app)
    with place.namespace(platform) as api:
        maintenance.follow(gatling, api, app, release, platform)


def renew_certificates(gatling: Gatling) -> None:
    """Renew the certificates of encrypted distribution that are due.

    An app whose cluster is away, or that is being deployed, has its turn the next time.
    """
    for app in apps.every(gatling.db, clusters=True):
        if app.platform is None or app.live_release is None:
            continue
        release = releases.get(gatling.db, app.name, app.live_release)
        if not applied.settings_of(app, release).cluster.tls:
            continue
        from gatling.platform.kubernetes import distribution  # which loads cryptography

        with (
            lock.try_hold(gatling.home.app(app.name).lock) as held,
            contextlib.suppress(GatlingError),
        ):
            if held:
                with place.opened(gatling.db, app) as api:
                    distribution.ensure(api, app.name)


def remove(gatling: Gatling, app: App) -> None:
    """Delete everything of an app in its cluster; its images stay in the registry."""
    try:
        with place.opened(gatling.db, app) as api:
            applied.remove(api, app.name)
    except ClusterFailed as error:
        raise ClusterFailed(
            error.what, reason=error.reason,
            hint=f"{error.hint} `gatling unload {app.name} --leave-objects` removes it here alone.",
        ) from error  # fmt: skip


def scale(gatling: Gatling, app: App, counts: Mapping[str, int], progress: Progress) -> None:
    """Let so many instances and workers run, and wait until they do. The caller holds the lock.

    Raises InvalidInput, UnhealthyRelease and ClusterFailed; then the numbers are as before.
    """
    from gatling.deploy import recovery

    there = processes(app)
    for process in counts:
        if process not in there:
            raise InvalidInput(
                f"{app.name} has no worker {process!r}.",
                hint=f"It has: {', '.join(there)}. Workers are defined in gatling.toml.",
            )
    changed = {KEY if name == WEB else f"processes.{name}.instances": str(count)
               for name, count in counts.items()}  # fmt: skip
    before = apps.change_settings(
        gatling.db, app.name, lambda now: _checked(now, now.settings | changed)
    ).settings

    def take_back() -> None:
        apps.change_settings(
            gatling.db, app.name,
            lambda now: {k: v for k, v in now.settings.items() if k not in changed}
            | {key: before[key] for key in changed if key in before},
        )  # fmt: skip

    problems: list[str] = []

    def follow() -> None:
        problems.extend(recovery.reconcile(gatling, app.name))

    def serve() -> None:
        if app.wanted != "running" or app.live_release is None:
            return
        said = " and ".join(f"{count} of {name}" for name, count in counts.items())
        progress.say(f"{app.name}: waiting for {said}")
        if WEB in counts:
            wait(gatling, apps.get(gatling.db, app.name))
        wait_for_workers(gatling, app, {k: v for k, v in counts.items() if k != WEB}, problems)

    said = " ".join(f"{name}={count}" for name, count in counts.items())
    changes.change(gatling, app.name, "scale", said, steps=[follow, serve], take_back=take_back)


def wait_for_workers(
    gatling: Gatling, app: App, counts: dict[str, int], problems: Sequence[str] = ()
) -> None:
    """Wait until so many of each worker run; raises UnhealthyRelease."""
    if not counts:
        return
    with place.opened(gatling.db, app) as api:
        wrong = [*problems, *workers.unwell(api, app.name, counts)]
    if wrong:
        raise UnhealthyRelease(
            f"{wrong[0].rstrip('.')}.", log=wrong[1:],
            hint=f"`gatling logs {app.name} --process {next(iter(counts))}`",
        )  # fmt: skip


def restart(gatling: Gatling, name: str, process: str, progress: Progress) -> None:
    """Replace the pods of a worker. Raises NotFound for one that does not run."""
    app = apps.get(gatling.db, name)
    with lock.hold_app(gatling.home.app(name), progress.say):
        count = processes(app).get(process, 0) if process != WEB else 0
        if not count or app.wanted != "running" or app.live_release is None:
            running = [worker for worker, number in processes(app).items() if number]
            raise NotFound(f"{name} runs no worker {process!r}.",
                           hint=f"It has: {', '.join(running)}.")  # fmt: skip
        with place.opened(gatling.db, app) as api:
            workers.restart(api, name, process)
        audit.record(gatling.db, gatling.actor, name, "restart", process)
        wait_for_workers(gatling, app, {process: count})


def processes(app: App) -> dict[str, int]:
    """How many instances, as `web`, and of each worker of the live release are to run."""
    found = settings.parse(app.effective)
    named = {name: one.instances for name, one in found.processes.items() if one.command}
    return {WEB: found.cluster.instances, **named}


KEY = "cluster.instances"


def _checked(app: App, own: dict[str, str]) -> dict[str, str]:
    settings.parse(app.manifest | own)
    return own


def statuses(gatling: Gatling, found: Sequence[App]) -> dict[str, AppStatus]:
    """The status of each of these apps; `unknown` while its cluster does not answer.

    All clusters are asked at the same time, each once.
    """
    there = {app.platform: place.of(gatling.db, app) for app in found}
    if not there:
        return {}
    with ThreadPoolExecutor(min(CLUSTERS_AT_ONCE, len(there))) as pool:
        seen = dict(zip(there, pool.map(_look, there.values()), strict=True))
    result = {}
    for app in found:
        pods, problem = seen[app.platform]
        result[app.name] = described(gatling, app, pods.get(app.name, []), problem)
    return result


def _look(platform: Platform, app: str | None = None) -> tuple[dict[str, list[Pod]], str]:
    """The instances and workers by app, of all apps or one; or why the cluster does not say."""
    try:
        with place.namespace(platform, LOOK_SECONDS) as api:
            return applied.by_app(api, app), ""
    except ClusterFailed as error:
        return {}, error.what


def described(gatling: Gatling, app: App, pods: list[Pod], problem: str = "") -> AppStatus:
    """The status of an app with these pods; `problem` is why the cluster does not say."""
    return _status(gatling, app, pods, problem)


def details(gatling: Gatling, app: App) -> AppDetails:
    """The same with the instances."""
    found, problem = _look(place.of(gatling.db, app), app.name)
    pods = found.get(app.name, [])
    last = next(iter(deployments.of_app(gatling.db, app.name, limit=1)), None)
    return AppDetails(
        **structs.asdict(_status(gatling, app, pods, problem)),
        domains=list(app.domains),
        password_domains=[],
        ports=[],
        repository=gatling.apps.push_address(app.name),
        last_deployment=last.id if last else None,
        last_outcome=last.outcome if last else None,
        chain=[],
        chain_unknown=None,
        processes=[_instance(pod) for pod in pods],
    )


def _state(app: App, pods: list[Pod]) -> str:
    """In the words that apps of this machine have for it."""
    if app.live_release is None:
        return "empty"
    if app.wanted == "stopped":
        return "stopped"
    serving = [pod for pod in pods if pod.process == WEB]
    if any(pod.ready for pod in serving):
        return "running"
    return "starting" if any(pod.state == "starting" for pod in serving) else "down"


def restarts_lately(pod: Pod) -> int:
    """How often its app was started again within the last hour, at most.

    Kubernetes counts since the start of the pod, and knows only when the last run began and ended.
    If that run ended within the hour, and began within it, all that was counted may be of the hour.
    """
    known = pod.last_end
    if known is None:
        return pod.restarts
    if not restarts.recent([known]):
        return 0
    before = structs.replace(known, at=known.at - known.after)
    return pod.restarts if restarts.recent([before]) else min(1, pod.restarts)


def _last_end(pods: Sequence[Pod]) -> LastEnd | None:
    ends = restarts.recent([pod.last_end for pod in pods if pod.last_end is not None])
    last = max(ends, key=lambda end: end.at, default=None)
    return LastEnd(last.stamp, round(last.after, 3), last.cause) if last else None


def _status(gatling: Gatling, app: App, pods: list[Pod], problem: str) -> AppStatus:
    live = app.live_release
    release = releases.get(gatling.db, app.name, live) if live is not None else None
    written = None
    if release is not None:
        written = history.commit(gatling.home.app(app.name).repository, release.commit)
    wanted = settings.parse(app.effective).cluster
    limits = applied.settings_of(app, release).limits if release is not None else None
    serving = [pod for pod in pods if pod.process == WEB]
    return AppStatus(
        app=app.name,
        state=f"unknown: {problem}" if problem else _state(app, pods),
        release=release.label if release else None,
        version=release.version if release else None,
        commit=release.commit if release else None,
        author=written.author if written else None,
        subject=written.subject if written else None,
        slot=None,
        port=None,
        pid=None,
        instance=_instances(app, pods, wanted.instances, problem),
        uptime=None,
        memory=None,
        memory_limit=limits.memory if limits else "",
        cpu=None,
        cpu_seconds=None,
        requests=None,
        url=url(app),
        also=moves.serving_name(gatling.db, app.name),
        maintenance=app.maintenance is not None,
        waiting=config.pending(gatling.db, app.name),
        restarts=sum(map(restarts_lately, serving)),
        last_end=_last_end(serving),
        https_until=None,
        https_error=None,
    )


def url(app: App) -> str:
    """The address of the app's first domain in its Ingress; empty without one."""
    domains = [one for one in app.domains if not one.endswith(".localhost")]
    secure = bool(settings.parse(app.effective).cluster.issuer)
    return f"http{'s' if secure else ''}://{domains[0]}/" if domains else ""


def _instances(app: App, pods: list[Pod], wanted: int, problem: str) -> str:
    """How many instances there are; as the records have it while the cluster does not say."""
    if problem:
        runs = app.live_release is not None and app.wanted == "running"
        return f"{wanted} on {app.platform}, as recorded" if runs else ""
    # pods that end are not missing
    serving = [pod for pod in pods if pod.process == WEB and pod.state != "stopping"]
    ready = sum(pod.ready for pod in serving)
    return f"{ready} of {len(serving)} ready on {app.platform}" if serving else ""


def _instance(pod: Pod) -> WorkerStatus:
    return WorkerStatus(
        process=pod.name,
        state=pod.state,
        release=pod.release,
        pid=None,
        instance=f"node {pod.node}" if pod.node else "no node",
        uptime=seconds_since(pod.started_at) if pod.started_at else None,
        restarts=restarts_lately(pod),
        last_end=_last_end([pod]),
    )


def scaled(gatling: Gatling, name: str, counts: Mapping[str, int], progress: Progress) -> None:
    """Scale an app, as `scale` does, once no deployment of it is under way."""
    with lock.hold_app(gatling.home.app(name), progress.say):
        scale(gatling, apps.get(gatling.db, name), counts, progress)
