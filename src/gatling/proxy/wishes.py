"""The proxy's options for an app, from the app's settings and records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.project import settings
from gatling.project.proxy import Options, Wishes

if TYPE_CHECKING:
    from gatling.state.apps import App


def of_app(app: App) -> Wishes:
    """The proxy options of an app, from its effective settings and its records."""
    proxy = settings.parse(app.effective).proxy
    said = {name: getattr(proxy, name) for name in Options._fields}
    return Wishes(Options(**said), app.passwords)
