"""The previous instance after a rolling deployment: kept ready while the new release is watched.

It runs in the slot that no release is live in, and gets no requests but those of the clients that
were connected before the switch. To go back to it is a switch of the proxy.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling.deploy.cutover.drain import DRAIN_CHECKS, DRAIN_POLL_SECONDS
from gatling.platform import lock
from gatling.project import settings as project_settings
from gatling.state import apps, watches
from gatling.state.watches import Watch
from gatling.text import counted

if TYPE_CHECKING:
    from gatling.deploy.context import Context
    from gatling.platform.open import Gatling
    from gatling.state.releases import Release


def make_room(gatling: Gatling, context: Context) -> None:
    """Keep the previous instance ready no longer: another one needs its slot, and stops it."""
    app = context.app
    slot = watches.kept_slot(gatling.db, app.name, app.live_release)
    if slot is None or slot != app.free_slot or not gatling.instances.status(app.name, slot).up:
        return
    watch = watches.of_app(gatling.db, app.name)
    connections = gatling.instances.connections(app, slot)()
    cut = f", which closes {counted(connections, 'connection')}" if connections else ""
    number = watch.previous if watch else app.live_release
    context.progress.note(f"v{number} is no longer kept ready: its slot is needed{cut}")
    watches.release_slot(gatling.db, app.name)


def leave(gatling: Gatling, context: Context, release: Release, left: int) -> None:
    """Have the previous instance drain and end in the background, as connections are left."""
    app, drain = context.app, context.settings.instance.drain
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
    what = "1 connection remains" if left == 1 else f"{left} connections remain"
    context.progress.note(
        f"{what} at the previous instance, which ends in the background: in {drain:g} s at most"
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
    deadline = time.monotonic() + left
    idle = 0
    while idle < DRAIN_CHECKS and time.monotonic() < deadline:
        idle = 0 if count() else idle + 1
        time.sleep(DRAIN_POLL_SECONDS)
    with lock.try_hold(gatling.home.app(watch.app).lock) as held:
        if not held or watches.of_app(gatling.db, watch.app) != watch:
            return None
        cut = count()
        gatling.instances.stop(watch.app, slot, settings.stop)
        watches.release_slot(gatling.db, watch.app)
    return cut


def give_up(gatling: Gatling, context: Context, kept: int | None) -> None:
    """Stop an instance that was kept ready in a slot, after a decision that does not need it."""
    if kept is not None:
        context.progress.note(
            "the instance that was kept ready is stopped: another release is live"
        )
        gatling.instances.stop(context.app.name, kept, context.settings.instance.stop)
