"""Move an app to another place: prove the live release there, decide, and leave the place before.

Until the decision the place before serves and is not touched. It is one transaction; whatever
happens after it, recovery removes the app from the place that it has left.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

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
    from gatling.state.releases import Release

SLOT = 1
"""The slot in which an app begins on this machine. A cluster has no slots, and records need one."""


def move(gatling: Gatling, context: Context, place: str) -> None:
    """Move a running app to a place, which is not its own.

    Raises InvalidInput, UnhealthyRelease and others with nothing decided; recovery then removes
    what there is of it in the new place.
    """
    app = context.app
    release = releases.kept(gatling.db, app.name, app.live_release or 0)
    context = dataclasses.replace(
        context, settings=project_settings.parse(release.manifest | app.settings)
    )
    here = place == moves.HERE
    if here:
        _prove_here(gatling, context, release)
    else:
        _prove_there(gatling, context, release, place)
    context.interruption.shield()
    deployment = None if here else context.deployment.id
    moves.decide(gatling.db, app.name, place, slot=SLOT, deployment=deployment)
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


def _prove_here(gatling: Gatling, context: Context, release: Release) -> None:
    """Start the release on this machine, beside the instances on the cluster."""
    app, settings, journal = context.app, context.settings, context.journal
    deployments.set_target(
        gatling.db, context.deployment.id, release=release.number, slot=SLOT, strategy="rolling",
        reasons=["moved to this machine"],
    )  # fmt: skip
    gatling.apps.prepare(app)
    moves.begin(gatling.db, app.name, moves.HERE)
    gatling.configure_router()
    since = now()
    try:
        journal.phase(f"Starting {release.label} on this machine")
        with journal.step("start_instance"):
            instance.start(gatling, app, release, SLOT, settings)
        with journal.step("health_check"):
            health.wait_healthy(gatling.instances, app, SLOT, settings.health)
    except BaseException as error:
        instance.give_up(gatling, app, release, SLOT, settings, since, error)
        raise


def _prove_there(gatling: Gatling, context: Context, release: Release, name: str) -> None:
    """Start the release on a cluster, beside what serves now."""
    from gatling.deploy.cluster import image
    from gatling.deploy.cluster import objects as applied
    from gatling.platform.kubernetes import place

    number, settings, journal = context.deployment.id, context.settings, context.journal
    app = dataclasses.replace(context.app, platform=name, live_slot=SLOT, live_deployment=number)
    applied.check(gatling, app, release)
    platform = platforms.get(gatling.db, name)
    deployments.set_target(
        # without a slot: this deployment is not decided while the app runs in one of this machine
        gatling.db, number, release=release.number, slot=None, strategy="rolling",
        reasons=[f"moved to {name}"],
    )  # fmt: skip
    with place.namespace(platform) as api:
        check_free(api, app.name, name)
        journal.phase(f"Preparing {release.label} for {name}")
        release = image.ensure(gatling, dataclasses.replace(context, app=app), release)
        journal.phase(f"Starting {release.label} on {name}")
        moves.begin(gatling.db, app.name, name)
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
