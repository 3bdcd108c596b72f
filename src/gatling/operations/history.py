"""The changes that a release brought, and the differences between two releases."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.project import history
from gatling.state import apps, deployments, releases

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.platform.open import Gatling
    from gatling.project.history import Commit, Span
    from gatling.state.releases import Release


class NameChanges(Struct, frozen=True):
    """Names that were added, removed, or have another value; never a value."""

    added: list[str]
    removed: list[str]
    changed: list[str]


class Difference(Struct, frozen=True):
    """The differences between two releases of an app."""

    app: str
    older: str
    newer: str
    span: Span | None
    """Commits and files; None when git has removed a commit of the two."""
    config: NameChanges | None
    """Environment variables; None when the config of a removed release is no longer known."""
    settings: NameChanges
    """Keys of gatling.toml."""
    toolchain: list[str]
    """The toolchain of both, when it changed."""


class ReleaseDetails(Struct, frozen=True):
    """A release: where it comes from, what it has, and what it brought."""

    app: str
    release: str
    live: bool
    retained: bool
    version: str
    commit: str
    described: Commit | None
    """Author and subject; None when git has removed the commit."""
    origin: str
    base: str | None
    elixir: str
    otp: str
    created_at: str
    removed_at: str | None
    bytes: int
    """Its size on the disk, without the files that it shares with other releases."""
    total_bytes: int | None
    """The size of all its files; None when they have been removed."""
    config: list[str] | None
    """Names of its environment variables; None when no longer known."""
    deployment: int | None
    """The deployment that first made it live."""
    actor: str | None
    strategy: str | None
    since: Difference | None
    """Compared with the release that it first replaced; None for the first one."""


def details(gatling: Gatling, name: str, number: int) -> ReleaseDetails:
    """A release and what it brought; raises NotFound."""
    app = apps.get(gatling.db, name)
    release = releases.get(gatling.db, name, number)
    paths = gatling.home.app(name)
    first = deployments.first_of(gatling.db, name, number)
    before = _before(gatling, release, first.previous if first else None)
    retained = release.removed_at is None
    return ReleaseDetails(
        app=name,
        release=release.label,
        live=number == app.live_release,
        retained=retained,
        version=release.version,
        commit=release.commit,
        described=history.commit(paths.repository, release.commit),
        origin=release.origin,
        base=f"v{release.base}" if release.base else None,
        elixir=release.elixir,
        otp=release.otp,
        created_at=release.created_at,
        removed_at=release.removed_at,
        bytes=release.bytes,
        total_bytes=_size(paths.release(number)) if retained else None,
        config=sorted(release.config) if retained else None,
        deployment=first.id if first else None,
        actor=first.actor if first else None,
        strategy=first.strategy if first else None,
        since=_difference(gatling, before, release) if before else None,
    )


def difference(gatling: Gatling, name: str, older: int, newer: int) -> Difference:
    """Return the differences between two releases; raises NotFound."""
    apps.get(gatling.db, name)
    return _difference(
        gatling, releases.get(gatling.db, name, older), releases.get(gatling.db, name, newer)
    )


def patch(gatling: Gatling, name: str, older: int, newer: int) -> str:
    """The changes of the source as a patch; raises NotFound."""
    apps.get(gatling.db, name)
    first, second = (releases.get(gatling.db, name, number) for number in (older, newer))
    return history.patch(gatling.home.app(name).repository, first.commit, second.commit)


def _difference(gatling: Gatling, older: Release, newer: Release) -> Difference:
    repository = gatling.home.app(older.app).repository
    known = older.removed_at is None and newer.removed_at is None
    toolchains = [f"Elixir {each.elixir}, Erlang/OTP {each.otp}" for each in (older, newer)]
    return Difference(
        app=older.app,
        older=older.label,
        newer=newer.label,
        span=history.span(repository, older.commit, newer.commit),
        config=_names(older.config, newer.config) if known else None,
        settings=_names(older.manifest, newer.manifest),
        toolchain=toolchains if toolchains[0] != toolchains[1] else [],
    )


def _names(before: dict[str, str], after: dict[str, str]) -> NameChanges:
    return NameChanges(
        added=sorted(after.keys() - before.keys()),
        removed=sorted(before.keys() - after.keys()),
        changed=sorted(key for key in before.keys() & after.keys() if before[key] != after[key]),
    )


def _before(gatling: Gatling, release: Release, replaced: int | None) -> Release | None:
    """The release that another one is compared with: what it replaced, or what was built before."""
    number = replaced or releases.number_before(gatling.db, release.app, release.number)
    return None if number is None else releases.get(gatling.db, release.app, number)


def _size(tree: Path) -> int:
    total = 0
    for directory, _, files in os.walk(tree):
        for file in files:
            total += os.stat(os.path.join(directory, file), follow_symlinks=False).st_size  # noqa: PTH116, PTH118
    return total
