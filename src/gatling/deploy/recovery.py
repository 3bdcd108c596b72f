"""Bring the world into line with the state, after a failure, a kill or a reboot.

The state says which release is live in which slot. Whatever else there is of an app (a build under
way, an instance in the other slot, a half made release, a proxy that points elsewhere) is left
over from a deployment that did not end, and goes. It is the same whether the deployment failed a
moment ago in this process, or was killed at any point: so nothing has to be undone step by step.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import debuglog, visible
from gatling.deploy import fallback, places, pools, published
from gatling.deploy.migrations import rehearsal
from gatling.deploy.outcome import decided, outcome_of
from gatling.errors import GatlingError
from gatling.platform import lock
from gatling.platform.base import State
from gatling.project import settings as project_settings
from gatling.releases import distillery, store
from gatling.runtime import jobs, spec, workers
from gatling.state import apps, deployments, domains, moves, releases, watches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.deployments import Deployment

SLOTS = apps.SLOTS
MORE_TRIES = 4
TRY_AGAIN_SECONDS = 2.0
PASSING_SECONDS = 5.0
"""How long another process may hold an app's lock before it counts as a deployment under way."""


class Recovery(Struct, frozen=True):
    """The recovery of an app whose deploying process is gone; `error` is why it failed."""

    app: str
    error: GatlingError | None = None


def recover_unfinished(gatling: Gatling, app: str | None = None) -> list[Recovery]:
    """Recover the app, or every app, with a deployment whose process is gone.

    Cheap when there is none: one query. An app whose deployment is under way is left alone.
    Nothing that one app does is raised, so it cannot keep the others from being recovered.
    """
    recovered = []
    for name in dict.fromkeys(d.app for d in deployments.running(gatling.db, app)):
        with lock.try_hold(gatling.home.app(name).lock) as held:
            # asked again under the lock: it may have ended just now
            if held and deployments.running(gatling.db, name):
                _, error = isolated(gatling, name)
                recovered.append(Recovery(name, error))
    return recovered


def recover_killed(gatling: Gatling, app: str) -> list[Recovery]:
    """As `recover_unfinished`, of an app whose deploying process was killed a moment ago.

    The cause of a failure may pass, such as a port that the killed instance still holds. The app's
    lock may be held for a moment, by the deploying process as it ends, or by a boot check.
    """
    tries, deadline = MORE_TRIES, time.monotonic() + PASSING_SECONDS
    while True:
        recovered = recover_unfinished(gatling, app)
        if any(each.error for each in recovered):
            if not tries:
                return recovered
            tries -= 1
            time.sleep(TRY_AGAIN_SECONDS)
        elif deployments.running(gatling.db, app) and time.monotonic() < deadline:
            time.sleep(lock.POLL_SECONDS)
        else:
            return recovered


def isolated(gatling: Gatling, name: str) -> tuple[list[str], GatlingError | None]:
    """Return the result of `reconcile`, or the error that it raised, of any kind.

    For callers that reconcile more than one app: the fault of one is not that of the others. The
    caller holds the app's lock.
    """
    try:
        return reconcile(gatling, name), None
    except Exception as error:  # noqa: BLE001 (of one app, and the others go on)
        return [], debuglog.explained(error, f"the recovery of {name}")


def interrupted(gatling: Gatling, app: str) -> list[Deployment]:
    """Deployments of an app whose process is gone and which nobody has recovered yet."""
    if not deployments.running(gatling.db, app):
        return []
    with lock.try_hold(gatling.home.app(app).lock) as held:
        return deployments.running(gatling.db, app) if held else []


def is_under_way(gatling: Gatling, app: str) -> bool:
    """Whether another command is deploying or recovering the app."""
    if not deployments.running(gatling.db, app):
        return False
    with lock.try_hold(gatling.home.app(app).lock) as held:
        return not held


def report(recovered: Iterable[Recovery]) -> None:
    """Say on standard error which apps were recovered, and which could not be."""
    for each in recovered:
        if each.error is None:
            what = "recovered from a deployment whose process was killed"
        else:
            what = f"recovery was not possible yet: {visible.one_line(each.error.what)}"
        sys.stderr.write(f"{each.app}: {what}\n")


def reconcile(gatling: Gatling, name: str, *, own: int | None = None) -> list[str]:
    """Make what runs what the state says; what could not be done of its processes, in words.

    The caller holds the app's lock. `own` is the caller's deployment, whose outcome the caller
    records.
    """
    unfinished = deployments.running(gatling.db, name)
    for deployment in unfinished:
        gatling.tasks.end(name, deployment.mark)
    with contextlib.suppress(GatlingError):  # `gatling db forks` shows one that is left
        rehearsal.clean(gatling, name)
    taken = take_back_domains(gatling, name, unfinished)
    app = apps.get(gatling.db, name)
    paths = gatling.home.app(name)
    if app.platform is not None:
        return _on_cluster(gatling, app, unfinished, own)
    others = moves.others(gatling.db, name)
    unpooled = pools.settled(gatling, name)
    stop_timeout = project_settings.parse(app.effective).instance.stop
    shall_run = app.live_release is not None and app.wanted == "running"
    kept = watches.kept_slot(gatling.db, name, app.live_release) if shall_run else None
    if shall_run and fallback.is_being_checked(gatling, app):
        kept = app.free_slot
    for slot in SLOTS:
        if (slot not in (app.live_slot, kept)) or not shall_run:
            unused = never_served(gatling, app, slot, unfinished)
            if slot != app.live_slot and shall_run:
                point(gatling, app)  # before the other instance ends, which may have the traffic
            limit = min(spec.UNUSED_STOP_SECONDS, stop_timeout) if unused else stop_timeout
            gatling.instances.stop(name, slot, limit, unused=unused)
    point(gatling, app)
    if taken or others or any(deployment.id != own for deployment in unfinished):
        with contextlib.suppress(GatlingError):  # the next deployment says what is in the way
            gatling.configure_router()  # one may have gone live, or added domains, without nginx
    if not shall_run:
        workers.stop(gatling, name)
    if shall_run:
        # in the other slot a new instance of the live release has replaced the upgraded one
        upgraded = any(d.strategy == "hot" and d.slot == app.live_slot for d in unfinished)
        start_live(gatling, app, perhaps_upgraded=upgraded)
    was, app = app, apps.get(gatling.db, name)
    # workers of another place end before those of this one start
    problems = [*unpooled, *places.leave(gatling, app), *workers.follow(gatling, name)]
    if app.live_release != was.live_release:
        undone = f"v{was.live_release} was undone: its boot check had not ended"
        problems = [f"{undone}. v{app.live_release} runs.", *problems]
    known = list(releases.kept_commits(gatling.db, name))
    store.remove_unknown(paths, known)
    store.remove_incoming(paths)
    with contextlib.suppress(OSError):  # a full disk, say: nothing that runs needs it
        published.publish(gatling, name)
    gatling.tasks.discard(paths, paths.staging)
    distillery.sweep(paths.root / "tmp")
    for deployment in unfinished:
        if deployment.id != own:
            ended = outcome_of(deployment, app)
            deployments.end(gatling.db, deployment.id, ended.outcome, error=ended.text)
    return [*problems, *jobs.follow(gatling, name)]


def _on_cluster(
    gatling: Gatling, app: App, unfinished: Sequence[Deployment], own: int | None
) -> list[str]:
    """The same for an app that runs on a cluster."""
    from gatling.deploy.cluster import reconcile as cluster

    paths = gatling.home.app(app.name)
    upgraded = any(deployment.strategy == "hot" for deployment in unfinished)
    problems = places.leave(gatling, app)
    restarted = any(deployment.strategy == "restart" for deployment in unfinished)
    problems += cluster.reconcile(gatling, app, perhaps_upgraded=upgraded, restart=restarted)
    store.remove_unknown(paths, list(releases.kept_commits(gatling.db, app.name)))
    store.remove_incoming(paths)
    gatling.tasks.discard(paths, paths.staging)
    for deployment in unfinished:
        if deployment.id != own:
            ended = outcome_of(deployment, app)
            deployments.end(gatling.db, deployment.id, ended.outcome, error=ended.text)
    return [*problems, *jobs.follow(gatling, app.name)]


def never_served(gatling: Gatling, app: App, slot: int, unfinished: Iterable[Deployment]) -> bool:
    """Whether what runs in a slot is of a deployment that ended before it sent requests there.

    A node that still boots ignores SIGTERM, and with the strategy `restart` the app is down while
    recovery waits for it.
    """
    undecided = any(each.slot == slot and not decided(each, app) for each in unfinished)
    return undecided and slot != app.live_slot and gatling.router.pointed(app.name) != slot


def take_back_domains(gatling: Gatling, name: str, unfinished: Iterable[Deployment]) -> bool:
    """Take back the domains that deployments added which were not decided; whether there were any.

    The next instance must not be started with one of them as its PHX_HOST.
    """
    app = apps.get(gatling.db, name)
    taken: list[str] = []
    for each in unfinished:
        if not decided(each, app):
            taken += domains.take_back_of(gatling.db, name, each.id)
    return bool(taken)


def point(gatling: Gatling, app: App) -> None:
    """Point the proxy at the live slot, or at the page that says the app is down."""
    if app.live_slot is None or app.wanted == "stopped":
        gatling.router.point(app.name, None)
    else:
        gatling.router.point(app.name, app.live_slot)


def start_live(gatling: Gatling, app: App, *, perhaps_upgraded: bool = False) -> bool:
    """Start the live release in its slot unless it runs; True when it was started just now.

    A node that a hot upgrade may have left with another release is brought back to the live one.
    A live release that is not known to boot is not started: the one before takes its place.
    Does nothing while no supervisor runs: then `gatling up` will.
    """
    if app.live_release is None or app.live_slot is None:
        return False
    if gatling.instances.status(app.name, app.live_slot).up:
        if fallback.was_started_again(gatling, app):
            app = fallback.fall_back(gatling, app)
        if perhaps_upgraded:
            from gatling.deploy.cutover import way_back

            if way_back.back_to_records(gatling, app):
                return False
        elif _prepared(gatling, app) in fallback.prepared(gatling, app):
            return False
        timeout = project_settings.parse(app.effective).instance.stop
        gatling.instances.stop(app.name, app.live_slot or 1, timeout)
    app = fallback.fall_back(gatling, app)
    slot = app.live_slot or 1
    release = releases.kept(gatling.db, app.name, app.live_release or 0)
    if gatling.instances.status(app.name, slot).state == State.STOPPED:
        gatling.instances.check_free(app, slot)
    around = gatling.apps.surroundings(app.name)
    gatling.instances.start(spec.instance(around, app, release, slot))
    return True


def _prepared(gatling: Gatling, app: App) -> int | None:
    """The release that the instance in the live slot was started as, or upgraded to."""
    prepared = gatling.instances.prepared(app.name, app.live_slot or 0)
    return prepared.release if prepared else None
