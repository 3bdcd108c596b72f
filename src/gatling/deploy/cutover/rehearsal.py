"""The rehearsal: a hot upgrade made first on a throw-away instance of the live release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from gatling.beam.control import SwapFailed, control
from gatling.deploy import watch
from gatling.deploy.cutover import instance, previous
from gatling.deploy.evidence import health
from gatling.errors import GatlingError

if TYPE_CHECKING:
    from gatling.beam.comparison import Answers
    from gatling.deploy.context import Context
    from gatling.platform.open import Gatling
    from gatling.state.releases import Release

HEALTH_SECONDS = 5.0


class RehearsalFailed(Exception):
    """The rehearsal failed; the text is for people. The live instance was not touched."""


def rehearse(
    gatling: Gatling, context: Context, live: Release, release: Release, answers: Answers | None
) -> None:
    """Start `live` in the free slot, upgrade that instance to `release`, and end it.

    It must pass the health check before and after, and the watch, as the live one will have to.
    Raises RehearsalFailed.
    """
    app, settings, slot = context.app, context.settings, context.app.free_slot
    previous.make_room(gatling, context)
    try:
        with instance.throw_away(gatling, app, slot, settings):
            instance.boot(gatling, app, live, slot, settings)
            copy = structs.replace(app, live_slot=slot)
            with control(
                gatling.home.app(app.name), copy, live, gatling.instances.node_address(app, slot)
            ) as node:
                swapped = node.swap(live, release, answers, suspend=settings.hot.suspend)
                seconds = min(settings.hot.watch, watch.WAITED_SECONDS)
                problems = [*swapped.failed, *node.watch(swapped, seconds).crashed]
                node.keep(swapped)
            if problems:
                raise RehearsalFailed(f"rehearsal: {'; '.join(problems[:3])}")
            answer = health.check(
                gatling.instances, app, slot, settings.health.path, HEALTH_SECONDS
            )
            if not answer.healthy:
                raise RehearsalFailed(f"rehearsal: GET {settings.health.path} failed: {answer}")
    except SwapFailed as failure:
        raise RehearsalFailed(f"rehearsal: {failure.stage}: {failure.what}") from None
    except GatlingError as error:
        raise RehearsalFailed(f"rehearsal: {error.what}") from None
