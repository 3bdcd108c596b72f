"""The return to the last release known to boot, when a node ends whose release is not.

A hot upgrade makes a release live that has not been started yet (cutover/boot_check.py). Until its
boot check has passed, what is prepared for the node's next start is the release before. So whatever
starts the node, a crash, a reboot or a command, starts that one; here the records follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.deploy import live_node
from gatling.errors import GatlingError
from gatling.runtime import spec
from gatling.state import apps, audit, deployments, releases, watches

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.state.apps import App

PATIENCE_SECONDS = 5.0


def is_being_checked(gatling: Gatling, app: App) -> bool:
    """Whether the live release runs in the free slot, where only its boot is checked."""
    if not watches.unproven(gatling.db, app.name, app.live_release):
        return False
    return gatling.instances.started_as(app.name, app.free_slot) == app.live_release


def prepared(gatling: Gatling, app: App) -> set[int | None]:
    """The releases that may be prepared for the next start of the live instance."""
    # both, in the moment between the two writes by which a boot check ends
    return {app.live_release, watches.boots(gatling.db, app.name, app.live_release)}


def was_started_again(gatling: Gatling, app: App) -> bool:
    """Whether a node was started since a hot upgrade to a release that is not known to boot.

    It runs the release before, then. False if the node cannot be asked.
    """
    if not watches.unproven(gatling.db, app.name, app.live_release):
        return False
    try:
        return live_node.seen(gatling, app, PATIENCE_SECONDS)[-1] != f"v{app.live_release}"
    except GatlingError:
        return False


def fall_back(gatling: Gatling, app: App) -> App:
    """Record the last release known to boot as the live one, if the live one is not; the app then.

    The caller holds the app's lock, and no node runs the live release.
    """
    watch = watches.unproven(gatling.db, app.name, app.live_release)
    if watch is None:
        return app
    release = releases.kept(gatling.db, app.name, watch.previous)
    if is_being_checked(gatling, app):
        gatling.instances.stop(app.name, app.free_slot, spec.UNUSED_STOP_SECONDS, unused=True)
    deployments.end_boot_check(gatling.db, watch.deployment, "interrupted")
    apps.make_live(
        gatling.db,
        app.name,
        release=release.number,
        slot=app.live_slot,
        config=release.config,
        wanted=app.wanted,
    )
    why = watch.unproven or "its instance ended before its boot check did."
    what = f"v{watch.release} was undone: {why}"
    audit.record(gatling.db, gatling.actor, app.name, "undo", what)
    if deployments.get(gatling.db, watch.deployment).outcome != "running":
        deployments.undone(gatling.db, watch.deployment, f"{what} {release.label} runs.")
    return apps.get(gatling.db, app.name)
