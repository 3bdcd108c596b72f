"""The maintenance page, shown instead of an app while the app runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.deploy import published
from gatling.errors import InvalidInput
from gatling.operations import changes
from gatling.platform import lock
from gatling.state import apps, moves

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.platform.open import Gatling

MAX_MESSAGE = 1000


def switch(
    gatling: Gatling, app: str, message: str | None, say: Callable[[str], None] = lambda _: None
) -> None:
    """Show the page with a message, or with its own text when that is empty. None: serve the app.

    `say` reports what is waited for. Raises InvalidInput, and GatlingError with everything as
    before.
    """
    if message is not None and (
        len(message) > MAX_MESSAGE or not message.replace("\n", "").isprintable()
    ):
        raise InvalidInput(f"A message is a text of up to {MAX_MESSAGE} characters.")
    moves.need_one(gatling.db, app)
    if apps.get(gatling.db, app).platform is None:
        _switch(gatling, app, message, lambda: published.publish(gatling, app))
        return
    from gatling.operations import clusters  # which loads the client of Kubernetes

    # a deployment that is under way has the app's record of before
    with lock.hold_app(gatling.home.app(app), say):
        _switch(gatling, app, message, lambda: clusters.maintain(gatling, app))


def _switch(gatling: Gatling, app: str, message: str | None, follow: Callable[[], object]) -> None:
    before = apps.get(gatling.db, app).maintenance
    apps.maintain(gatling.db, app, message)
    changes.change(
        gatling, app, f"maintenance {'off' if message is None else 'on'}", message or "",
        steps=[follow],
        take_back=lambda: apps.maintain(gatling.db, app, before),
    )  # fmt: skip
