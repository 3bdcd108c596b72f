"""The maintenance page, shown instead of an app while the app runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.deploy import published
from gatling.errors import InvalidInput
from gatling.operations import changes
from gatling.state import apps

if TYPE_CHECKING:
    from gatling.platform.open import Gatling

MAX_MESSAGE = 1000


def switch(gatling: Gatling, app: str, message: str | None) -> None:
    """Show the page with a message, or with its own text when that is empty. None: serve the app.

    Raises InvalidInput, and GatlingError with everything as before.
    """
    if message is not None and (
        len(message) > MAX_MESSAGE or not message.replace("\n", "").isprintable()
    ):
        raise InvalidInput(f"A message is a text of up to {MAX_MESSAGE} characters.")
    before = apps.get(gatling.db, app).maintenance
    apps.maintain(gatling.db, app, message)
    changes.change(
        gatling, app, f"maintenance {'off' if message is None else 'on'}", message or "",
        steps=[lambda: published.publish(gatling, app)],
        take_back=lambda: apps.maintain(gatling.db, app, before),
    )  # fmt: skip
