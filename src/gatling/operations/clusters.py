"""Apps that run on a cluster: their instances, logs, and their removal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.deploy.cluster import objects as applied
from gatling.deploy.cluster import workers
from gatling.errors import ClusterFailed, InvalidInput, NotFound, UnhealthyRelease
from gatling.operations import changes
from gatling.operations.status import AppDetails, AppStatus, WorkerStatus
from gatling.platform import lock, logs
from gatling.platform.kubernetes import place, rollout
from gatling.platform.kubernetes.api import timed
from gatling.platform.kubernetes.objects import WEB
from gatling.project import history, settings
from gatling.state import apps, audit, config, deployments, releases
from gatling.times import seconds_since

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gatling.platform.kubernetes.api import Api
    from gatling.platform.kubernetes.rollout import Pod
    from gatling.platform.logs import Line, Wanted
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.ui.progress import Progress

FOLLOW_SECONDS = 1.0


def wait(gatling: Gatling, app: App) -> None:
    """Wait until the instances of the live release serve; raises UnhealthyRelease."""
    if app.live_release is None:
        return
    found = applied.settings_of(app, releases.get(gatling.db, app.name, app.live_release))
    with place.opened(gatling.db, app) as api:
        number = app.live_deployment or 0
        applied.wait(api, app, found, number, found.cluster.instances)


def serve(gatling: Gatling, app: App) -> None:
    """Apply the Ingress of the app's domains; the first deployment does where nothing is live."""
    if app.live_release is None:
        return
    platform = place.of(gatling.db, app)
    with place.namespace(platform) as api:
        applied.apply_domains(api, app, settings.parse(app.effective).cluster.issuer)


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


def status(gatling: Gatling, app: App) -> AppStatus:
    """The status of an app on a cluster; `unknown` while the cluster does not answer."""
    try:
        pods = applied.instances(gatling, app)
    except ClusterFailed as error:
        return _status(gatling, app, [], f"unknown: {error.what}")
    return _status(gatling, app, pods, _state(app, pods))


def details(gatling: Gatling, app: App) -> AppDetails:
    """The same with the instances."""
    try:
        pods = applied.instances(gatling, app)
        state = _state(app, pods)
    except ClusterFailed as error:
        pods, state = [], f"unknown: {error.what}"
    last = next(iter(deployments.of_app(gatling.db, app.name, limit=1)), None)
    return AppDetails(
        **structs.asdict(_status(gatling, app, pods, state)),
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
    if app.live_release is None:
        return "not deployed"
    if app.wanted == "stopped":
        return "stopped"
    return "running" if any(pod.ready and pod.process == WEB for pod in pods) else "down"


def _status(gatling: Gatling, app: App, pods: list[Pod], state: str) -> AppStatus:
    live = app.live_release
    release = releases.get(gatling.db, app.name, live) if live is not None else None
    written = None
    if release is not None:
        written = history.commit(gatling.home.app(app.name).repository, release.commit)
    serving = [pod for pod in pods if pod.process == WEB]
    ready = sum(pod.ready for pod in serving)
    domains = [one for one in app.domains if not one.endswith(".localhost")]
    secure = bool(settings.parse(app.effective).cluster.issuer)
    limits = applied.settings_of(app, release).limits if release is not None else None
    return AppStatus(
        app=app.name,
        state=state,
        release=release.label if release else None,
        version=release.version if release else None,
        commit=release.commit if release else None,
        author=written.author if written else None,
        subject=written.subject if written else None,
        slot=None,
        port=None,
        pid=None,
        instance=f"{ready} of {len(serving)} ready on {app.platform}" if serving else "",
        uptime=None,
        memory=None,
        memory_limit=limits.memory if limits else "",
        cpu=None,
        cpu_seconds=None,
        requests=None,
        url=f"http{'s' if secure else ''}://{domains[0]}/" if domains else "",
        maintenance=False,
        waiting=config.pending(gatling.db, app.name),
        restarts=sum(pod.restarts for pod in pods),
        last_end=None,
        https_until=None,
        https_error=None,
    )


def _instance(pod: Pod) -> WorkerStatus:
    return WorkerStatus(
        process=pod.name,
        state=pod.state,
        release=pod.release,
        pid=None,
        instance=f"node {pod.node}" if pod.node else "no node",
        uptime=seconds_since(pod.started_at) if pod.started_at else None,
        restarts=pod.restarts,
        last_end=None,
    )


class Logs:
    """The output of the pods that there are; Kubernetes keeps none of others."""

    def __init__(self, gatling: Gatling, app: App) -> None:
        self._platform = place.of(gatling.db, app)

    def read(
        self, app: str, *, lines: int, since: str | None = None, wanted: Wanted = logs.EVERYTHING
    ) -> list[Line]:
        """The last lines of all instances, in the order of their times."""
        with place.namespace(self._platform) as api:
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
            begun = found[-1][0] if found else ""
            while True:
                time.sleep(FOLLOW_SECONDS)
                oldest = min(seen.values(), default=begun)
                fresh = sorted(_lines(api, app, oldest, None, wanted), key=lambda one: one[0])
                for at, line in fresh:
                    if at > seen.get(line.process, begun):
                        seen[line.process] = at
                        yield line


def _lines(
    api: Api, app: str, since: str, count: int | None, wanted: Wanted
) -> Iterator[tuple[str, Line]]:
    moment = f"{since[:19]}Z" if since else ""
    for pod in map(rollout.shown, applied.pods_and_workers(api, app)):
        if wanted.release not in (None, pod.release):
            continue
        if wanted.process not in (None, pod.process, pod.name):
            continue
        for text in api.log(pod.name, lines=count, since=moment):
            at, said = timed(text)
            yield at, logs.Line(f"{at[:23]}Z", pod.release, said, pod.name)


def scaled(gatling: Gatling, name: str, counts: Mapping[str, int], progress: Progress) -> None:
    """Scale an app, as `scale` does, once no deployment of it is under way."""
    with lock.hold_app(gatling.home.app(name), progress.say):
        scale(gatling, apps.get(gatling.db, name), counts, progress)
