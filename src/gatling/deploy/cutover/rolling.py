"""The cut-over, rolling: the new release beside the old one, the switch, the end of the old one.

The order is what makes it safe. Until `switch_proxy` nothing of the live release is touched; the
decision is one transaction in the state, on the disk before the proxy switches; whatever happens
after it, recovery finishes what was decided.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.deploy import watch
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


HELD_SECONDS = 1.0
"""The part of a drain for which a deployment waits."""


def roll(
    gatling: Gatling,
    context: Context,
    release: Release,
    *,
    before_decision: Callable[[], None],
    on_live: Callable[[], None],
) -> Proof:
    """Make `release` the live one in the free slot; returns what the prober saw.

    Raises UnhealthyRelease, PortTaken or ProxyRefused with the old release untouched; the caller
    then brings the free slot into order (see recovery). `before_decision` may still raise. A
    failure after the decision, also in `on_live`, becomes a warning of the deployment.

    A release that is kept ready in the free slot is not started. With `rolling.watch` the previous
    instance is kept ready itself (see previous.py).
    """
    app, settings, journal = context.app, context.settings, context.journal
    slot, since = app.free_slot, now()
    try:
        if watch.is_ready(gatling, app, release):
            journal.phase(f"Returning to {release.label}")
            gatling.router.check()
        else:
            journal.phase(f"Starting {release.label}")
            previous.make_room(gatling, context)
            with journal.step("start_instance"):
                start(gatling, app, release, slot, settings)
                gatling.router.check()  # takes as long as the instance needs to boot anyway
        with journal.step("health_check"):
            health.wait_healthy(gatling.instances, app, slot, settings.health)
        before_decision()
        context.interruption.shield()
    except BaseException as error:
        give_up(gatling, app, release, slot, settings, since, error)
        raise
    prober = probing.prober(gatling, app, settings)
    with contextlib.ExitStack() as asking:
        serves = app.live_slot is not None and gatling.router.pointed(app.name) == app.live_slot
        if serves:
            asking.enter_context(prober.asking())
        journal.phase(f"Switching to {release.label}")
        watched = watch.beside(gatling, context, release.number, time.time()) if serves else None
        with journal.step("switch_proxy"):
            switch(gatling, app, release, slot, watched)
        with context.tolerated():
            on_live()
            if not serves:
                asking.enter_context(prober.asking())
        cut = 0
        if app.live_slot is not None and watched is None:
            left, instance = 0, settings.instance
            lasts = instance.drain > HELD_SECONDS or instance.drain_rate > 0
            held = HELD_SECONDS if lasts else instance.drain
            with context.tolerated(), journal.step("drain"):
                left = drain(gatling, context, held, prober)
            if left and lasts:
                with context.tolerated():
                    previous.leave(gatling, context, release, left)
            else:
                cut = left
                with context.tolerated(), journal.step("stop_previous"):
                    gatling.instances.stop(app.name, app.live_slot, settings.instance.stop)
    return structs.replace(prober.proof, cut=cut)
