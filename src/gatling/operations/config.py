"""The variables of an app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from gatling import names
from gatling.deploy import new_release, pools
from gatling.deploy.go_live import go_live
from gatling.deploy.run import attempt
from gatling.errors import InvalidInput
from gatling.operations import lifecycle
from gatling.platform import lock
from gatling.releases import store
from gatling.state import apps, audit, config, releases
from gatling.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatling.platform.open import Gatling
    from gatling.ui.progress import Progress


def change(
    gatling: Gatling,
    name: str,
    changes: Mapping[str, str | None],
    *,
    progress: Progress,
    restart: bool = True,
) -> bool:
    """Set variables (None: unset); whether that changes anything. Their names are in the audit.

    The live release goes on as a new one that has them. Without `restart`, or when nothing is live,
    they wait for the next deployment. When the new release does not become healthy the variables
    stay as they were. The URL of a pool follows that of its database. Raises InvalidInput for a
    name or value that cannot be, NotFound for an app that there is not.
    """
    for key, value in changes.items():
        names.variable(key)
        if value is not None:
            names.value(key, value)
    app = apps.get(gatling.db, name)
    changes = pools.follow(gatling, name, changes)
    before = config.of_app(gatling.db, name)
    if changed(before, changes) == before:
        return False
    cause = "config " + " ".join(
        f"{'unset' if value is None else 'set'} {key}" for key, value in sorted(changes.items())
    )
    if not restart or app.live_release is None or app.wanted == "stopped":
        _store(gatling, name, changes, cause, progress)
        return True
    lifecycle.ensure_up(gatling, progress, name)
    with attempt(gatling, name, cause=cause, commit=None, progress=progress) as context:
        if context.app.live_release is None:
            raise InvalidInput(f"{name} has no live release any more.", hint="Try again.")
        live = releases.kept(gatling.db, name, context.app.live_release)
        values = changed(config.of_app(gatling.db, name), changes)
        paths = gatling.home.app(name)
        number, _ = new_release.next_number(gatling, name)
        context.journal.phase(f"Storing v{number}: {live.label} with the new config")
        with context.journal.step("store_release"):
            store.copy(paths, live.number, number)
            release = structs.replace(
                live, number=number, origin="config", base=live.number, config=values, bytes=0,
                created_at=now(),
            )  # fmt: skip
            releases.add(gatling.db, release)
        go_live(gatling, context, release)
    return True


def changed(values: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Variables after changes, None meaning unset."""
    merged = {**values, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _store(
    gatling: Gatling,
    name: str,
    changes: Mapping[str, str | None],
    cause: str,
    progress: Progress,
) -> None:
    with lock.hold_app(gatling.home.app(name), progress.say):
        config.replace(gatling.db, name, changed(config.of_app(gatling.db, name), changes))
        audit.record(gatling.db, gatling.actor, name, cause, "for the next deployment")
    progress.say(f"{name}: stored for the next deployment")
