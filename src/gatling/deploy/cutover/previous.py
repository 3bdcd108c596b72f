"""The previous instance after a rolling deployment: kept ready while the new release is watched.

It runs in the slot that no release is live in, and gets no requests but those of the clients that
were connected before the switch. To go back to it is a switch of the proxy.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling.deploy.cutover import instance
from gatling.deploy.cutover.drain import DRAIN_CHECKS
from gatling.deploy.cutover.pace import paced
from gatling.platform import lock
from gatling.platform.base import State
from gatling.project import settings as project_settings
from gatling.state import apps, deployments, watches
from gatling.state.watches import Watch
from gatling.text import counted
from gatling.ui.output import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.deploy.context import Context
    from gatling.deploy.cutover.pace import Pace
    from gatling.platform.open import Gatling
    from gatling.state.releases import Release

POLL_SECONDS = 0.2
"""Between two looks at the connections: to count thousands of them takes some time."""
LEAVING_SECONDS = 5.0
"""How long the last sockets that were asked to reconnect have to do so."""


def make_room(gatling: Gatling, context: Context) -> None:
    """Keep the previous instance ready no longer: another one needs its slot, and stops it.

    A boot check that goes on there is given up, too.
    """
    app = context.app
    end_boot_check(gatling, context)
    slot = watches.kept_slot(gatling.db, app.name, app.live_release)
    if slot is None or slot != app.free_slot or not gatling.instances.status(app.name, slot).up:
        return
    watch = watches.of_app(gatling.db, app.name)
    connections = gatling.instances.connections(app, slot)()
    cut = f", which closes {counted(connections, 'connection')}" if connections else ""
    number = watch.previous if watch else app.live_release
    if watch is None or watch.judges:
        context.progress.note(f"v{number} is no longer kept ready: its slot is needed{cut}")
    else:
        context.progress.note(f"v{number} drains no longer: its slot is needed{cut}")
        deployments.closed(gatling.db, watch.deployment, connections)
    watches.release_slot(gatling.db, app.name)


def end_boot_check(gatling: Gatling, context: Context) -> None:
    """Stop the instance in the free slot that only shows whether the live release boots.

    Another one is started later if that release stays live (operations/proving.py).
    """
    app = context.app
    watch = watches.unproven(gatling.db, app.name, app.live_release)
    if watch is None or gatling.instances.status(app.name, app.free_slot).state == State.STOPPED:
        return
    context.progress.note(f"the boot check of v{watch.release} is interrupted: its slot is needed")
    instance.stop_unused(gatling, app, app.free_slot, context.settings)


def leave(gatling: Gatling, context: Context, release: Release, left: int) -> None:
    """Have the previous instance drain and end in the background, as connections are left."""
    app, settings = context.app, context.settings.instance
    moment = time.time()
    with gatling.db.transaction(durable=True):
        watches.put(
            gatling.db,
            Watch(
                app.name,
                context.deployment.id,
                release.number,
                app.live_release or 0,
                moment,
                until=moment,
                before=(0, 0, 0, 0, 0),
                previous_slot=app.live_slot,
            ),
        )
    with paced(gatling, app, app.live_slot or 1, settings.drain_rate) as pace:
        sockets, seconds = pace.open, pace.seconds
    if sockets:
        context.progress.note(
            f"v{app.live_release} will reconnect {counted(sockets, 'socket')} over"
            f" {duration(seconds)}, and then ends in the background"
        )
        return
    what = "1 connection remains" if left == 1 else f"{left} connections remain"
    context.progress.note(
        f"{what} at the previous instance, which ends in the background:"
        f" in {settings.drain:g} s at most"
    )


def let_go(gatling: Gatling, watch: Watch) -> int | None:
    """Drain and stop the instance that a watch has kept; the connections that were cut.

    None if that is not possible now: a deployment is under way, or has taken the watch's place.
    """
    app, slot = apps.get(gatling.db, watch.app), watch.previous_slot
    if slot is None:
        return 0
    settings = project_settings.parse(app.effective).instance
    count = gatling.instances.connections(app, slot)
    left = min(settings.drain, watch.until + settings.drain - time.time())
    with paced(gatling, app, slot, settings.drain_rate) as pace:
        if pace.open:
            left = max(left, pace.seconds + LEAVING_SECONDS)
        _drain(gatling, watch, count, left, pace)
    if pace.asked:
        deployments.asked(gatling.db, watch.deployment, pace.asked)
    with lock.try_hold(gatling.home.app(watch.app).lock) as held:
        if not held or watches.of_app(gatling.db, watch.app) != watch:
            return None
        cut = count()
        gatling.instances.stop(watch.app, slot, settings.stop)
        watches.release_slot(gatling.db, watch.app)
    if cut or pace.asked:
        deployments.closed(gatling.db, watch.deployment, cut)
    return cut


def _drain(
    gatling: Gatling, watch: Watch, count: Callable[[], int], seconds: float, pace: Pace
) -> None:
    """Wait until no connection is left, for so many seconds at most.

    Or until a deployment takes the slot, whose connections are those of another instance then.
    """
    deadline, idle = time.monotonic() + seconds, 0
    while idle < DRAIN_CHECKS and time.monotonic() < deadline:
        if watches.of_app(gatling.db, watch.app) != watch:
            return
        pace.step()
        idle = 0 if count() else idle + 1
        time.sleep(POLL_SECONDS)


def give_up(gatling: Gatling, context: Context, kept: int | None) -> None:
    """Stop an instance that was kept ready in a slot, after a decision that does not need it."""
    if kept is not None:
        context.progress.note(
            "the instance that was kept ready is stopped: another release is live"
        )
        gatling.instances.stop(context.app.name, kept, context.settings.instance.stop)
