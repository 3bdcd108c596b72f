"""The watch of a release after its deployment has ended: what is begun here another process does.

A record of the watch is part of the decision for its release (`state.apps.make_live`), so there is
one however the deployment ends. The watching process only looks, and holds a lock while it does. If
it is killed, a timer on a server, or the next `gatling up` on an embedded home, starts another one.
Returning to the release before is a deployment of its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.deploy.evidence import health, judgement, traffic
from gatling.platform import lock
from gatling.platform.base import State
from gatling.project import settings as project_settings
from gatling.state import deployments, watches
from gatling.state.watches import Watch
from gatling.ui.output import duration

if TYPE_CHECKING:
    from gatling.deploy.context import Context
    from gatling.deploy.evidence.judgement import Served
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.releases import Release

CAUSE = deployments.WATCH
"""The cause of deployments that return to a release. They are not watched."""
WAITED_SECONDS = 5.0
"""The part of a watch for which a deployment waits."""
CHANCE = 1e-5
"""The figures are compared again and again, so each time chance must explain less."""
HEALTH_SECONDS = 5.0


def after(
    gatling: Gatling,
    context: Context,
    release: int,
    switched: float,
    seconds: float,
    *,
    unproven: bool = False,
) -> Watch | None:
    """The watch of an upgraded node that goes on after its deployment; None: nothing is left.

    With `unproven`, there is the boot check left at least.
    """
    if seconds <= WAITED_SECONDS:
        seconds = 0.0
    if not seconds and not unproven:
        return None
    watch = _watch(gatling, context, release, switched, seconds)
    return watch and structs.replace(watch, unproven="" if unproven else None)


def beside(gatling: Gatling, context: Context, release: int, switched: float) -> Watch | None:
    """The watch of a release in the free slot, beside the previous instance; None: not wanted."""
    app, seconds = context.app, context.settings.rolling.watch
    if not seconds or app.live_slot is None or not runs(gatling, app):
        return None
    watch = _watch(gatling, context, release, switched, seconds)
    return watch and structs.replace(watch, previous_slot=app.live_slot)


def _watch(
    gatling: Gatling, context: Context, release: int, switched: float, seconds: float
) -> Watch | None:
    app = context.app
    # one that is not known to boot is no release to return to
    previous = watches.boots(gatling.db, app.name, app.live_release)
    if previous in (None, release) or context.deployment.cause == CAUSE:
        return None
    return Watch(
        app.name,
        context.deployment.id,
        release,
        previous or 0,
        switched,
        until=switched + seconds,
        before=traffic.before(gatling, app, switched),
    )


def begin(gatling: Gatling, context: Context) -> None:
    """Have the watch that this deployment has decided on go on in the background."""
    watch = watches.of_app(gatling.db, context.app.name)
    if watch is None or watch.deployment != context.deployment.id:
        return
    gatling.schedule.watch(watch.app)
    if not watch.judges:
        return
    left = duration(max(0.0, watch.until - time.time()))
    kept = ", and is kept ready until then" if watch.previous_slot is not None else ""
    context.progress.note(
        f"v{watch.release} is watched for {left} more;"
        f" v{watch.previous} returns if it serves worse{kept}"
    )


def unproven(gatling: Gatling, context: Context) -> str:
    """A sentence about a boot check that goes on; empty if this deployment has left none."""
    watch = watches.of_app(gatling.db, context.app.name)
    if watch is None or watch.deployment != context.deployment.id or watch.unproven is None:
        return ""
    return (
        f"The boot check of v{watch.release} continues in the background."
        f" If v{watch.release} does not boot, v{watch.previous} returns, and"
        f" `gatling deployments {watch.app}` says why."
    )


def resume(gatling: Gatling, app: str | None = None) -> None:
    """Have those watches go on whose process is gone: of every app, or of one."""
    for watch in watches.every(gatling.db):
        if app not in (None, watch.app):
            continue
        with lock.try_hold(gatling.home.app(watch.app).watch_lock) as gone:
            pass
        if gone:
            gatling.schedule.watch(watch.app)


def before(watch: Watch) -> Served:
    """The figures of the release before the one that is watched."""
    return judgement.Served(*watch.before)


def is_ready(gatling: Gatling, app: App, release: Release) -> bool:
    """Whether an instance of a release is kept ready in the free slot."""
    slot, watch = app.free_slot, watches.of_app(gatling.db, app.name)
    return (
        watch is not None
        and (watch.release, watch.previous) == (app.live_release, release.number)
        and watch.previous_slot == slot
        and time.time() < watch.until
        and gatling.instances.status(app.name, slot).up
        and gatling.instances.started_as(app.name, slot) == release.number
    )


def concerns(watch: Watch, app: App) -> bool:
    """Whether the release that is watched is the one that serves."""
    return app.live_release == watch.release and app.wanted == "running"


def runs(gatling: Gatling, app: App) -> bool:
    """Whether there is an instance to watch: there is none after `gatling down`, say."""
    return gatling.instances.status(app.name, app.live_slot or 1).state != State.STOPPED


def problem(gatling: Gatling, app: App, watch: Watch) -> str:
    """Why the release must be undone, as a sentence; empty when nothing speaks against it."""
    settings, slot = project_settings.parse(app.effective), app.live_slot or 1
    ends = [end for end in gatling.instances.ends(app.name, slot) if end.at > watch.switched]
    if ends:
        after = duration(ends[0].at - watch.switched)
        return f"The instance was {ends[0].cause} {after} after the switch."
    if settings.deploy.figures == "undo":
        seen = traffic.since(gatling, app, slot, watch.switched)
        worse = judgement.against(before(watch), seen, time.time() - watch.switched, CHANCE)
        if worse:
            return worse
    uptime = gatling.instances.status(app.name, slot).uptime
    if uptime < min(settings.health.timeout, time.time() - watch.switched):
        return ""  # it was started again since, by a boot of the machine say, and may still boot
    answer = health.check(gatling.instances, app, slot, settings.health.path, HEALTH_SECONDS)
    if not answer.healthy:
        return f"The health check fails: GET {settings.health.path}: {answer}."
    return ""
