"""The prober of an app: where it asks, and which answers are the proxy's own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling import names
from gatling.deploy.evidence import health
from gatling.deploy.evidence.prober import Prober
from gatling.project import proxy
from gatling.project import settings as project_settings
from gatling.proxy import certificates

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.project.settings import Settings
    from gatling.state.apps import App


def prober(gatling: Gatling, app: App, settings: Settings) -> Prober:
    """A prober that asks as a client whom nothing sends elsewhere, and knows the proxy's answers.

    By https where clients are sent there, under the domain to which others are redirected.
    """
    wishes = project_settings.parse(app.effective).proxy
    host = proxy.redirects(app.domains, wishes.redirect_www).get(
        app.primary_domain, app.primary_domain
    )
    locked = bool(app.passwords.keys() & {host, proxy.EVERYWHERE})

    def answered_by(status: int) -> str:
        if status == 503 and gatling.router.in_maintenance(app.name):
            return "the maintenance page"
        return "the password prompt" if locked and status == 401 else ""

    return Prober(
        gatling.router.probe_address(),
        names.host(host),
        settings.health.path,
        headers=health.BY_HTTPS if _by_https(gatling, app, wishes.https, host) else {},
        answered_by=answered_by,
    )


def _by_https(gatling: Gatling, app: App, wanted: str, host: str) -> bool:
    """Whether the proxy sends clients of a domain to HTTPS."""
    if wanted == "auto":
        kept = gatling.certificates.of(app.name)
        return bool(certificates.chosen(kept, [host], time.time()))
    return wanted == "redirect"
