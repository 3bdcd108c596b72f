"""The description of an app: its addresses, its build, its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.project import settings as project_settings
from gatling.state import apps, config, locks, releases

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.locks import Lock


class AppInfo(Struct, frozen=True):
    """The facts about an app that are known without its node."""

    app: str
    created_at: str
    url: str
    domains: list[str]
    repository: str
    """The repository's address, in a form that git accepts."""
    branches: list[str]
    """The deploy branches, the preferred one first."""
    release: str | None
    version: str | None
    commit: str | None
    elixir: str | None
    otp: str | None
    releases: int
    retained: int
    bytes: int
    """The size of the retained releases."""
    config: list[str]
    """Names of the environment variables, never their values."""
    settings: dict[str, str]
    """Settings of this host."""
    manifest: dict[str, str]
    """Settings of the live release's gatling.toml."""
    ports: list[int]
    lock: Lock | None
    """Why the app takes no deployment."""
    platform: str | None
    """The cluster that it runs on; None: this machine."""


def info(gatling: Gatling, name: str) -> AppInfo:
    """Describe an app; raises NotFound."""
    app = apps.get(gatling.db, name)
    every = releases.every(gatling.db, name)
    retained = [each for each in every if each.removed_at is None]
    live = next((each for each in every if each.number == app.live_release), None)
    return AppInfo(
        app=name,
        created_at=app.created_at,
        url=_url(gatling, app),
        domains=list(app.domains),
        repository=gatling.apps.push_address(name),
        branches=list(project_settings.parse(app.effective).branches),
        release=live.label if live else None,
        version=live.version if live else None,
        commit=live.commit if live else None,
        elixir=live.elixir if live else None,
        otp=live.otp if live else None,
        releases=len(every),
        retained=len(retained),
        bytes=sum(each.bytes for each in retained),
        config=sorted(config.of_app(gatling.db, name)),
        settings=dict(app.settings),
        manifest=dict(app.manifest),
        ports=[app.ports[slot] for slot in sorted(app.ports)] if app.platform is None else [],
        lock=locks.of_app(gatling.db, name),
        platform=app.platform,
    )


def _url(gatling: Gatling, app: App) -> str:
    """The address at which people reach an app; empty for one on a cluster without a domain."""
    if app.platform is None:
        return gatling.router.url(app)
    from gatling.operations import clusters  # which loads the client of Kubernetes

    return clusters.url(app)
