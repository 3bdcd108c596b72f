"""Move an app to another place: prove the live release there, decide, and leave the place before.

Until the decision the place before serves and is not touched. It is one transaction; whatever
happens after it, recovery removes the app from the place that it has left, or lets that place
serve as well until the DNS has changed. An app that must not run twice, as the strategy `restart`
says, is stopped in the place before first.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.deploy.cutover import instance
from gatling.deploy.evidence import health
from gatling.errors import InvalidInput
from gatling.project import settings as project_settings
from gatling.state import apps, deployments, moves, platforms, releases
from gatling.times import now
from gatling.ui.output import duration

if TYPE_CHECKING:
    from gatling.deploy.context import Context
    from gatling.platform.kubernetes.api import Api
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.releases import Release

SLOT = 1
"""The slot in which an app begins on this machine. A cluster has no slots, and records need one."""


def move(gatling: Gatling, context: Context, place: str, *, finish: bool) -> None:
    """Move a running app to a place, which is not its own.

    With `finish` the place before is left at the end. Without, it serves as well if domains of the
    app lead there by DNS.

    Raises InvalidInput, UnhealthyRelease and others with nothing decided; recovery then removes
    what there is of it in the new place.
    """
    app = context.app
    release = releases.kept(gatling.db, app.name, app.live_release or 0)
    context = structs.replace(
        context, settings=project_settings.parse(release.manifest | app.settings)
    )
    here, slot = place == moves.HERE, SLOT
    alone = context.settings.deploy.strategy == "restart"
    serves = bool(public(app)) and not (finish or alone)
    if here:
        slot = _prove_here(gatling, context, release)
    else:
        _prove_there(gatling, context, release, place)
    context.interruption.shield()
    deployment = None if here else context.deployment.id
    moves.decide(
        gatling.db, app.name, place, slot=slot, deployment=deployment, serves=serves
    )  # fmt: skip
    with context.tolerated():
        context.journal.phase(f"Leaving {moves.said(app.platform or moves.HERE)}")
        with context.journal.step("leave_place"):
            _follow(gatling, context)
        context.journal.end_phase()
        took = duration(time.monotonic() - context.started)
        where = moves.said(place)
        context.progress.done(f"=====> {app.name} {release.label} runs on {where} after {took}")


def _follow(gatling: Gatling, context: Context) -> None:
    from gatling.deploy import recovery

    name = context.app.name
    gatling.instances.ensure_running()  # its jobs and samples are this machine's in any case
    context.progress.notes(recovery.reconcile(gatling, name, own=context.deployment.id))
    if apps.get(gatling.db, name).platform is None:
        from gatling.runtime import obtaining

        obtaining.later(gatling, name)


def public(app: App) -> list[str]:
    """The domains of an app to which the DNS leads."""
    return [one for one in app.domains if not one.endswith(".localhost")]


def _stop_before(gatling: Gatling, context: Context, release: Release) -> None:
    """Stop the instances of an app that must not run twice; recovery starts them again."""
    app, settings = context.app, context.settings
    if settings.deploy.strategy != "restart":
        return
    with context.journal.step("stop_instance"):
        if app.platform is None:
            gatling.router.point(app.name, None)
            for slot in apps.SLOTS:
                gatling.instances.stop(app.name, slot, settings.instance.stop)
            return
        from gatling.deploy.cluster import objects as applied
        from gatling.platform.kubernetes import place

        platform = place.of(gatling.db, app)
        with place.namespace(platform) as api:
            number = app.live_deployment or 0
            applied.apply(api, app, release, platform, number, runs=False)
            applied.wait_for_none(api, app.name, settings)


def _prove_here(gatling: Gatling, context: Context, release: Release) -> int:
    """Start the release on this machine, beside the instances on the cluster; in which slot.

    An instance that serves here as well has been proved, and is only asked once more.
    """
    app, settings, journal = context.app, context.settings, context.journal
    kept = moves.slot(gatling.db, app.name)
    slot = SLOT if kept is None else kept
    deployments.set_target(
        gatling.db, context.deployment.id, release=release.number, slot=slot, strategy="rolling",
        reasons=["moved to this machine"],
    )  # fmt: skip
    if kept is None:
        gatling.apps.prepare(app)
        moves.begin(gatling.db, app.name, moves.HERE)
        gatling.configure_router()
    since = now()
    try:
        journal.phase(f"Starting {release.label} on this machine")
        _stop_before(gatling, context, release)
        with journal.step("start_instance"):
            if kept is None or not gatling.instances.status(app.name, slot).up:
                instance.start(gatling, app, release, slot, settings)
        with journal.step("health_check"):
            health.wait_healthy(gatling.instances, app, slot, settings.health)
    except BaseException as error:
        if kept is None:
            instance.give_up(gatling, app, release, slot, settings, since, error)
        raise
    return slot


def _prove_there(gatling: Gatling, context: Context, release: Release, name: str) -> None:
    """Start the release on a cluster, beside what serves now."""
    from gatling.deploy.cluster import image
    from gatling.deploy.cluster import objects as applied
    from gatling.platform.kubernetes import place

    number, settings, journal = context.deployment.id, context.settings, context.journal
    app = structs.replace(context.app, platform=name, live_slot=SLOT, live_deployment=number)
    applied.check(gatling, app, release)
    platform = platforms.get(gatling.db, name)
    deployments.set_target(
        # without a slot: this deployment is not decided while the app runs in one of this machine
        gatling.db, number, release=release.number, slot=None, strategy="rolling",
        reasons=[f"moved to {name}"],
    )  # fmt: skip
    with place.namespace(platform) as api:
        known = moves.serving(gatling.db, app.name) == name
        if not known:
            check_free(api, app.name, name)
        journal.phase(f"Preparing {release.label} for {name}")
        release = image.ensure(gatling, structs.replace(context, app=app), release)
        journal.phase(f"Starting {release.label} on {name}")
        if not known:
            moves.begin(gatling.db, app.name, name)
        _stop_before(gatling, context, release)
        with journal.step("start_elsewhere"):
            applied.apply(api, app, release, platform, number)
            applied.wait(api, app, settings, number, settings.cluster.instances)


def check_free(api: Api, app: str, name: str) -> None:
    """Raise InvalidInput if the namespace already has a Deployment of this name."""
    if api.find("Deployment", app) is not None:
        raise InvalidInput(
            f"The namespace {api.namespace} of {name} already has a Deployment {app}.",
            hint="Another Gatling may use it. Choose another namespace, or delete it with kubectl.",
        )
