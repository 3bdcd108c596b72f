"""Bring the world into line with the state, after a failure, a kill or a reboot.

The state says which release is live in which slot. Whatever else there is of an app (a build under
way, an instance in the other slot, a half made release, a proxy that points elsewhere) is left
over from a deployment that did not end, and goes. It is the same whether the deployment failed a
moment ago in this process, or was killed at any point: so nothing has to be undone step by step.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatling import debuglog, visible
from gatling.deploy import published
from gatling.deploy.outcome import decided, outcome_of
from gatling.errors import GatlingError
from gatling.platform import lock
from gatling.platform.base import State
from gatling.project import settings as project_settings
from gatling.releases import distillery, store
from gatling.runtime import jobs, spec, workers
from gatling.state import apps, deployments, releases

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatling.platform.open import Engine
    from gatling.state.apps import App
    from gatling.state.deployments import Deployment

SLOTS = apps.SLOTS
MORE_TRIES = 4
TRY_AGAIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """What became of an app with a deployment whose process is gone; `error` says why nothing."""

    app: str
    error: GatlingError | None = None


def recover_unfinished(engine: Engine, app: str | None = None) -> list[Recovery]:
    """Recover the app, or every app, with a deployment whose process is gone.

    Cheap when there is none: one query. An app whose deployment is under way is left alone.
    Nothing that one app does is raised, so it cannot keep the others from being recovered.
    """
    recovered = []
    for name in dict.fromkeys(d.app for d in deployments.running(engine.db, app)):
        with lock.try_hold(engine.home.app(name).lock) as held:
            # asked again under the lock: it may have ended just now
            if held and deployments.running(engine.db, name):
                _, error = isolated(engine, name)
                recovered.append(Recovery(name, error))
    return recovered


def recover_killed(engine: Engine, app: str) -> list[Recovery]:
    """As `recover_unfinished`, of an app whose deploying process was killed a moment ago.

    What is in the way may pass, such as a port that the killed instance still holds.
    """
    recovered = recover_unfinished(engine, app)
    for _ in range(MORE_TRIES):
        if not any(each.error for each in recovered):
            break
        time.sleep(TRY_AGAIN_SECONDS)
        recovered = recover_unfinished(engine, app)
    return recovered


def isolated(engine: Engine, name: str) -> tuple[list[str], GatlingError | None]:
    """What `reconcile` gives, or the error that it raised, whichever that is.

    For whoever reconciles more than one app: the fault of one is not that of the others. The
    caller holds the app's lock.
    """
    try:
        return reconcile(engine, name), None
    except Exception as error:  # noqa: BLE001 (of one app, and the others go on)
        return [], debuglog.explained(error, f"the recovery of {name}")


def interrupted(engine: Engine, app: str) -> list[Deployment]:
    """Deployments of an app whose process is gone and which nobody has recovered yet."""
    if not deployments.running(engine.db, app):
        return []
    with lock.try_hold(engine.home.app(app).lock) as held:
        return deployments.running(engine.db, app) if held else []


def report(recovered: Iterable[Recovery]) -> None:
    """Say on standard error which apps were recovered, and which could not be."""
    for each in recovered:
        if each.error is None:
            what = "recovered from a deployment whose process was killed"
        else:
            what = f"recovery was not possible yet: {visible.one_line(each.error.what)}"
        sys.stderr.write(f"{each.app}: {what}\n")


def reconcile(engine: Engine, name: str, *, own: int | None = None) -> list[str]:
    """Make what runs what the state says; what could not be done of its processes, in words.

    The caller holds the app's lock. `own` is his deployment, whose outcome he records himself.
    """
    unfinished = deployments.running(engine.db, name)
    for deployment in unfinished:
        engine.tasks.end(name, deployment.mark)
    taken = take_back_domains(engine, name, unfinished)
    app = apps.get(engine.db, name)
    paths = engine.home.app(name)
    stop_timeout = project_settings.parse(app.effective).instance.stop
    shall_run = app.live_release is not None and app.wanted == "running"
    for slot in SLOTS:
        if slot != app.live_slot or not shall_run:
            unused = never_served(engine, app, slot, unfinished)
            if slot != app.live_slot and shall_run:
                point(engine, app)  # before the other instance ends, which may have the traffic
            limit = min(spec.UNUSED_STOP_SECONDS, stop_timeout) if unused else stop_timeout
            engine.supervisor.stop(name, slot, limit)
    point(engine, app)
    if taken or any(deployment.id != own for deployment in unfinished):
        with contextlib.suppress(GatlingError):  # the next deployment says what is in the way
            engine.configure_router()  # one may have gone live, or added domains, without nginx
    if not shall_run:
        workers.stop(engine, name)
    if shall_run:
        # in the other slot a new instance of the live release has replaced the upgraded one
        upgraded = any(d.strategy == "hot" and d.slot == app.live_slot for d in unfinished)
        start_live(engine, app, perhaps_upgraded=upgraded)
    problems = workers.follow(engine, name)
    known = list(releases.kept_commits(engine.db, name))
    store.remove_unknown(paths, known)
    store.remove_incoming(paths)
    with contextlib.suppress(OSError):  # a full disk, say: nothing that runs needs it
        published.publish(engine, name)
    engine.tasks.discard(paths, paths.staging)
    distillery.sweep(paths.root / "tmp")
    for deployment in unfinished:
        if deployment.id != own:
            ended = outcome_of(deployment, app)
            deployments.end(engine.db, deployment.id, ended.outcome, error=ended.text)
    return [*problems, *jobs.follow(engine, name)]


def never_served(engine: Engine, app: App, slot: int, unfinished: Iterable[Deployment]) -> bool:
    """Whether what runs in a slot is of a deployment that ended before it sent requests there.

    A node that still boots ignores SIGTERM, and with the strategy `restart` the app is down while
    recovery waits for it.
    """
    undecided = any(each.slot == slot and not decided(each, app) for each in unfinished)
    return undecided and slot != app.live_slot and engine.router.pointed(app.name) != slot


def take_back_domains(engine: Engine, name: str, unfinished: Iterable[Deployment]) -> bool:
    """Take back the domains that deployments added which were not decided; whether there were any.

    The next instance must not be started with one of them as its PHX_HOST.
    """
    app = apps.get(engine.db, name)
    taken: list[str] = []
    for each in unfinished:
        if not decided(each, app):
            taken += apps.take_domains_of(engine.db, name, each.id)
    return bool(taken)


def point(engine: Engine, app: App) -> None:
    """Point the proxy at the live slot, or at the page that says the app is down."""
    if app.live_slot is None or app.wanted == "stopped":
        engine.router.point(app.name, "down")
    else:
        engine.router.point(app.name, 1 if app.live_slot == 1 else 2)


def start_live(engine: Engine, app: App, *, perhaps_upgraded: bool = False) -> bool:
    """Start the live release in its slot unless it runs; True when it was started just now.

    A node that a hot upgrade may have left with another release is brought back to the live one.
    Does nothing while no supervisor runs: then `gatling up` will.
    """
    if app.live_release is None or app.live_slot is None:
        return False
    if engine.supervisor.status(app.name, app.live_slot).up:
        if perhaps_upgraded:
            from gatling.deploy.cutover import way_back  # noqa: PLC0415 (slow to load, seldom needed)

            if way_back.back_to_records(engine, app):
                return False
        elif _started_as(engine, app) == app.live_release:
            return False
        timeout = project_settings.parse(app.effective).instance.stop
        engine.supervisor.stop(app.name, app.live_slot, timeout)
    release = releases.kept(engine.db, app.name, app.live_release)
    if engine.supervisor.status(app.name, app.live_slot).state == State.STOPPED:
        spec.check_ports(app, app.live_slot, engine.home.root)
    paths = engine.home.app(app.name)
    engine.supervisor.start(spec.instance(paths, app, release, app.live_slot))
    return True


def _started_as(engine: Engine, app: App) -> int | None:
    """The release that the instance in the live slot was started as."""
    file = engine.home.app(app.name).slot(app.live_slot or 0) / "instance.json"
    try:
        number: int = json.loads(file.read_text())["release"]
    except (OSError, ValueError, KeyError):
        return None
    return number
