"""The home as a whole and single apps: up, down, start, stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling import debuglog
from gatling.errors import ClusterFailed, InvalidInput
from gatling.operations import changes, cut_off, drains
from gatling.platform import lock
from gatling.platform.base import OFF
from gatling.platform.homes import is_missing
from gatling.project import repository
from gatling.project import settings as project_settings
from gatling.state import apps, audit

if TYPE_CHECKING:
    from gatling.errors import GatlingError
    from gatling.platform.base import Slot
    from gatling.platform.open import Gatling
    from gatling.state.apps import App, Wanted
    from gatling.ui.progress import Progress


def ensure_up(gatling: Gatling, progress: Progress, name: str | None = None) -> None:
    """Make sure that instances and the proxy run: what a deployment needs first.

    After a reboot that is everything, as by `gatling up`, but without waiting for it. An app `name`
    that runs on a cluster needs nothing here.
    """
    if not ensure_started(gatling, progress, name):
        ensure_served(gatling)


def ensure_started(gatling: Gatling, progress: Progress, name: str | None = None) -> bool:
    """Start what keeps instances running, and then everything else as `ensure_up` does.

    Whether nothing is left to do; `ensure_served` does the rest.
    """
    if name is not None and apps.get(gatling.db, name).platform is not None:
        return True
    if not gatling.instances.ensure_running():
        return False
    cut_off.start(gatling, progress)
    ensure_served(gatling)
    from gatling.deploy import watch

    watch.resume(gatling)
    _advise(gatling, progress)
    for app in apps.every(gatling.db):
        with lock.try_hold(gatling.home.app(app.name).lock) as held:
            if held:
                _reconcile(gatling, app, progress)
    return True


def ensure_served(gatling: Gatling) -> None:
    """Configure the proxy as the records say, and start it if it does not run."""
    gatling.configure_router()
    gatling.router.ensure_running()


def up(
    gatling: Gatling, progress: Progress, *, listen: str | None = None, tls: str | None = None
) -> bool:
    """Start the supervisor, the proxy and all apps that should run. True if all became healthy.

    `listen` and `tls` are the addresses that the proxy listens on, as `Router.listen_on` takes
    them. Raises InvalidInput for what they cannot be, and PortTaken, and then nothing has been
    changed. Apps on clusters, which went on without this machine, get what the state says.
    """
    from gatling.deploy import watch

    if listen is not None or tls is not None:
        gatling.router.listen_on(listen, tls)
    gatling.instances.ensure_running()
    cut_off.start(gatling, progress)
    every = apps.every(gatling.db)
    away = _on_clusters(gatling)
    for app in (*every, *away):
        _prepare(gatling, app, progress)
    gatling.configure_router()
    gatling.router.ensure_running()
    _advise(gatling, progress)
    if tls not in (None, OFF):
        progress.say("HTTPS: `gatling certificates authority` shows how browsers trust this home.")
    for problem in {text: None for app in every for text in gatling.certificates.problems(app)}:
        progress.say(problem)
    for app in every:
        with lock.hold_app(gatling.home.app(app.name), progress.say):
            _reconcile(gatling, app, progress)
    audit.record(gatling.db, gatling.actor, None, "up")
    watch.resume(gatling)
    healthy = [_report(gatling, app, progress) for app in every]
    reached = _reconcile_away(gatling, away, progress)
    healthy += [_report(gatling, app, progress) for app in reached]
    return all(healthy) and len(reached) == len(away)


def _advise(gatling: Gatling, progress: Progress) -> None:
    if advice := gatling.instances.advice():
        progress.say(advice)


def recover(gatling: Gatling, progress: Progress, *, units: bool = False) -> None:
    """At boot of a server: bring what systemd will start, or has started, into line with the state.

    Waits for nothing, and one app's trouble is not another's. With `units`, after an update of
    Gatling, the apps' users and units are brought up to date first.
    """
    if is_missing(gatling.home):
        return
    cut_off.start(gatling, progress)
    for app in apps.every(gatling.db) if units else ():
        _prepare(gatling, app, progress)
    try:
        gatling.configure_router()
    except Exception as error:  # noqa: BLE001 (the operator's own files, say: apps start)
        progress.fail(debuglog.explained(error, "the configuration of the proxy"))
    for app in apps.every(gatling.db):
        with lock.try_hold(gatling.home.app(app.name).lock) as held:
            if held:
                _reconcile(gatling, app, progress)
    try:
        drains.follow(gatling)
    except Exception as error:  # noqa: BLE001 (apps run without)
        progress.fail(debuglog.explained(error, "the log drains"))
    try:
        from gatling.operations import timeline  # which a push does not need

        timeline.follow(gatling)
    except Exception as error:  # noqa: BLE001 (apps run without)
        progress.fail(debuglog.explained(error, "the watch"))
    # last: a cluster that is away takes its time to be known as such
    _reconcile_away(gatling, _on_clusters(gatling), progress)


def down(gatling: Gatling, progress: Progress) -> None:
    """Stop all instances, the proxy and the supervisor; `up` brings back what was running."""
    from gatling.runtime import jobs, workers

    if is_missing(gatling.home):
        return
    every = apps.every(gatling.db)
    slots: list[tuple[str, Slot]] = []
    for app in every:
        slots += [(app.name, slot) for slot in apps.SLOTS]
        slots += [(app.name, slot) for slot in gatling.instances.process_slots(app.name)]
    kept_running = gatling.instances.begin_down()
    for app in every:
        jobs.end(gatling, app.name)
    if kept_running:
        gatling.instances.begin_to_stop(slots)
    for app in every if kept_running else ():
        timeout = project_settings.parse(app.effective).instance.stop
        workers.stop(gatling, app.name)
        for slot in apps.SLOTS:
            gatling.instances.stop(app.name, slot, timeout)
        progress.say(f"{app.name}: {'stopped' if app.live_release else 'not deployed yet'}")
    gatling.instances.shut_down()
    audit.record(gatling.db, gatling.actor, None, "down")


def stop(gatling: Gatling, app: App) -> None:
    """Stop an app; its domains answer 503 until it is started. The caller holds the lock.

    Raises GatlingError when it cannot be stopped; then it runs as before.
    """
    _want(gatling, app, "stopped", "stop")


def start(gatling: Gatling, app: App) -> list[str]:
    """Start an app's live release again and wait until it is healthy. The caller holds the lock.

    Returns messages about other parts of the app that could not be started. Raises InvalidInput
    when nothing was ever deployed, UnhealthyRelease when it does not come up, and GatlingError when
    it cannot be started; then it is stopped as before.
    """
    if app.live_release is None:
        raise InvalidInput(f"{app.name} has not been deployed yet.")
    problems = _want(gatling, app, "running", "start")
    _wait(gatling, apps.get(gatling.db, app.name))
    return problems


def _want(gatling: Gatling, app: App, wanted: Wanted, action: str) -> list[str]:
    """Record what an app is to do and have it do so; what could not be done beside it, in words."""
    from gatling.deploy import recovery

    problems: list[str] = []
    apps.want(gatling.db, app.name, wanted)
    changes.change(
        gatling, app.name, action,
        steps=[lambda: problems.extend(recovery.reconcile(gatling, app.name))],
        take_back=lambda: apps.want(gatling.db, app.name, app.wanted),
    )  # fmt: skip
    return problems


def _prepare(gatling: Gatling, app: App, progress: Progress) -> None:
    """Bring the place of an app up to date; where that fails the others are not concerned."""
    try:
        gatling.apps.prepare(app)
        repository.configure(gatling.home.app(app.name).repository)
    except Exception as error:  # noqa: BLE001
        _say(app, debuglog.explained(error, f"preparing {app.name}"), progress)


def _reconcile(gatling: Gatling, app: App, progress: Progress) -> None:
    from gatling.deploy import recovery

    problems, error = recovery.isolated(gatling, app.name)
    for problem in problems:
        progress.say(f"{app.name}: {problem}")
    if error is not None:
        _say(app, error, progress)


def _on_clusters(gatling: Gatling) -> list[App]:
    return [app for app in apps.every(gatling.db, clusters=True) if app.platform is not None]


def _reconcile_away(gatling: Gatling, away: list[App], progress: Progress) -> list[App]:
    """Bring apps on clusters into line with the state; those where that was done.

    A cluster that cannot be reached is asked once. An app that is being deployed is left to that.
    """
    from gatling.deploy import recovery

    done: list[App] = []
    lost: set[str | None] = set()
    for app in away:
        if app.platform in lost:
            progress.say(f"{app.name}: left alone, as {app.platform} cannot be reached")
            continue
        with lock.try_hold(gatling.home.app(app.name).lock) as held:
            if not held:
                done.append(app)
                continue
            _, error = recovery.isolated(gatling, app.name)
        if error is None:
            done.append(app)
            continue
        _say(app, error, progress)
        if isinstance(error, ClusterFailed) and error.reason == "unreachable":
            lost.add(app.platform)
    return done


def _say(app: App, error: GatlingError, progress: Progress) -> None:
    progress.say(f"{app.name}:")
    progress.fail(error)


def _report(gatling: Gatling, app: App, progress: Progress) -> bool:
    if app.live_release is None or app.wanted == "stopped":
        progress.say(f"{app.name}: {'stopped' if app.live_release else 'not deployed yet'}")
        return True
    started = time.monotonic()
    try:
        _wait(gatling, app)
    except Exception as error:  # noqa: BLE001 (one broken app, and the others are reported)
        _say(app, debuglog.explained(error, f"the check of {app.name}"), progress)
        return False
    seconds = time.monotonic() - started
    where = gatling.router.url(app) if app.platform is None else f"on {app.platform}"
    progress.say(f"{app.name}: v{app.live_release} serves {where} ({seconds:.1f} s)")
    return True


def _wait(gatling: Gatling, app: App) -> None:
    if app.platform is not None:
        from gatling.operations import clusters

        clusters.wait(gatling, app)
        return
    from gatling.deploy.evidence import health

    slot = app.live_slot
    if slot is None:
        return
    settings = project_settings.parse(app.effective).health
    health.wait_healthy(gatling.instances, app, slot, settings)
