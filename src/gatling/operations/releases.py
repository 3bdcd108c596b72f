"""The releases of an app: the typed result behind `gatling releases`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.project import history
from gatling.state import apps, deployments, releases
from gatling.state.releases import Origin  # noqa: TC001 (msgspec reads it)

if TYPE_CHECKING:
    from gatling.platform.open import Gatling


class ReleaseEntry(Struct, frozen=True):
    """A release, and what became of it."""

    release: str
    """Its label, such as `v7`."""
    commit: str
    author: str | None
    """The author of the commit; None when the commit is no longer in the repository."""
    subject: str | None
    """The first line of its message."""
    version: str
    created_at: str
    live: bool
    kept: bool
    """Whether its tree is retained."""
    ever_live: bool
    origin: Origin
    base: str | None
    """The release whose tree a change of config took over."""
    elixir: str
    otp: str
    bytes: int


def every(gatling: Gatling, app: str) -> list[ReleaseEntry]:
    """All releases of an app, the newest first; raises NotFound."""
    live = apps.get(gatling.db, app).live_release
    proven = deployments.ever_live(gatling.db, app)
    found = releases.every(gatling.db, app)
    written = history.commits(gatling.home.app(app).repository, [each.commit for each in found])
    return [
        ReleaseEntry(
            release=each.label,
            commit=each.commit,
            author=wrote.author if (wrote := written.get(each.commit)) else None,
            subject=wrote.subject if wrote else None,
            version=each.version,
            created_at=each.created_at,
            live=each.number == live,
            kept=each.removed_at is None,
            ever_live=each.number in proven,
            origin=each.origin,
            base=f"v{each.base}" if each.base else None,
            elixir=each.elixir,
            otp=each.otp,
            bytes=each.bytes,
        )
        for each in found
    ]
