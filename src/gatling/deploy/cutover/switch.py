"""The switch: one transaction decides for a release, and the proxy sends requests to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.cleanup import cleaning
from gatling.state import apps, config, databases, watches
from gatling.state.databases import MAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.databases import Attachment
    from gatling.state.releases import Release
    from gatling.state.watches import Watch


def switch(
    gatling: Gatling, app: App, release: Release, slot: int, watched: Watch | None = None
) -> None:
    """Decide for a release and switch the proxy; undo the decision when the proxy fails."""
    before, was = config.of_app(gatling.db, app.name), watches.of_app(gatling.db, app.name)
    # a restart of the live release keeps the config that is stored for the next one
    values = None if release.number == app.live_release else release.config
    exchange = None if values is None else _exchange(gatling, app, values)
    apps.make_live(
        gatling.db, app.name, release=release.number, slot=slot, config=values, watch=watched,
        exchange=exchange,
    )  # fmt: skip
    try:
        gatling.router.point(app.name, slot)
    except BaseException as error:
        with cleaning(error):
            apps.make_live(
                gatling.db,
                app.name,
                release=app.live_release,
                slot=app.live_slot,
                config=before,
                wanted=app.wanted,
                watch=was,
                exchange=_exchange(gatling, app, before),
            )
        raise


def _exchange(
    gatling: Gatling, app: App, values: Mapping[str, str]
) -> tuple[Attachment, Attachment] | None:
    """The databases that change places with a config: that of `db promote`, or of a rewind."""
    return databases.exchange_for(
        gatling.db, app.name, MAIN, lambda name: gatling.databases.url(app.name, name),
        values.get(MAIN),
    )  # fmt: skip
