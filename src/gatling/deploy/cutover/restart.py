"""The cut-over by a restart, for apps of which no two instances may run: the old one ends first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from gatling.deploy.cutover import previous
from gatling.deploy.cutover.drain import drain
from gatling.deploy.cutover.instance import give_up, start
from gatling.deploy.cutover.switch import switch
from gatling.deploy.evidence import health, probing
from gatling.times import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.deploy.context import Context
    from gatling.deploy.evidence.prober import Proof
    from gatling.platform.open import Gatling
    from gatling.state.releases import Release

RESTART_DRAIN_SECONDS = 5.0
"""At most so long a drain while the app is down: sockets that last would only lengthen that."""


def restart(
    gatling: Gatling,
    context: Context,
    release: Release,
    *,
    before_decision: Callable[[], None],
    on_live: Callable[[], None],
) -> Proof:
    """Make `release` the live one as `roll` does, after the live instance has ended.

    The app is down until the new release is healthy, so the drain is short. When the new release
    does not become healthy, recovery starts the old one again.
    """
    app, settings, journal = context.app, context.settings, context.journal
    slot, since = app.free_slot, now()
    previous.make_room(gatling, context)
    gatling.router.check()
    before_decision()
    context.interruption.shield()
    prober = probing.prober(gatling, app, settings)
    cut = 0
    with prober.asking():
        try:
            if app.live_slot is not None:
                journal.phase(f"Stopping v{app.live_release}")
                gatling.router.point(app.name, None)
                with journal.step("drain"):
                    seconds = min(RESTART_DRAIN_SECONDS, settings.instance.drain)
                    cut = drain(gatling, context, seconds, prober)
                with journal.step("stop_previous"):
                    gatling.instances.stop(app.name, app.live_slot, settings.instance.stop)
            journal.phase(f"Starting {release.label}")
            with journal.step("start_instance"):
                start(gatling, app, release, slot, settings)
            with journal.step("health_check"):
                health.wait_healthy(gatling.instances, app, slot, settings.health)
        except BaseException as error:
            give_up(gatling, app, release, slot, settings, since, error)
            raise
        journal.phase(f"Switching to {release.label}")
        with journal.step("switch_proxy"):
            switch(gatling, app, release, slot)
        with context.tolerated():
            on_live()
    return structs.replace(prober.proof, cut=cut)
