"""The steps after the decision for a release: none of them can take the decision back."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from gatling import names
from gatling.build import callbacks
from gatling.cleanup import text_of
from gatling.deploy import deployment_log, pools, published, watch
from gatling.deploy.plan import plan
from gatling.errors import GatlingError
from gatling.project import repository
from gatling.releases import distillery, store
from gatling.runtime import jobs, spec, workers
from gatling.state import apps, deployments, releases, watches
from gatling.ui.output import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.deploy.context import Context
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.releases import Release


def settle(gatling: Gatling, context: Context, release: Release) -> None:
    """Run the steps after the decision: no failure takes it back or stops the other steps."""
    steps: tuple[Callable[[], None], ...] = (
        lambda: _say_flags(gatling, context, release),
        lambda: published.follow(gatling, context),
        lambda: published.warn_of_written(gatling, context, release),
        lambda: _replace_workers(gatling, context),
        lambda: context.progress.notes(jobs.follow(gatling, context.app.name)),
        lambda: _count_events(gatling, context),
        lambda: context.callbacks.at(*callbacks.LIVE),
        lambda: watch.begin(gatling, context),
        lambda: _summary(gatling, context, release),
        lambda: _retire(gatling, context, release),
        lambda: pools.retire(gatling, context.app.name),
    )
    for step in steps:
        with context.tolerated():
            step()


def settle_on_cluster(gatling: Gatling, context: Context, release: Release) -> None:
    """The same for an app that runs on a cluster."""
    from gatling.deploy.cluster import image

    steps: tuple[Callable[[], None], ...] = (
        lambda: context.callbacks.at(*callbacks.LIVE),
        lambda: _summary_on_cluster(gatling, context, release),
        lambda: _retire(gatling, context, release),
        lambda: image.collect(gatling, context),
    )
    for step in steps:
        with context.tolerated():
            step()


def _summary_on_cluster(gatling: Gatling, context: Context, release: Release) -> None:
    app, progress = context.app, context.progress
    context.journal.end_phase()
    took = duration(time.monotonic() - context.started)
    how = plan.IN_WORDS[deployments.get(gatling.db, context.deployment.id).strategy or "rolling"]
    progress.done(f"=====> {app.name} {release.label} is live on {app.platform} ({how}) in {took}")
    before = app.live_release
    if before == release.number:
        before = deployments.live_before(gatling.db, app.name, release.number)
    undo = f"   Undo: gatling rollback {app.name}" if before is not None else ""
    progress.note(f"Logs: gatling logs {app.name} --follow{undo}")


def _say_flags(gatling: Gatling, context: Context, release: Release) -> None:
    """Say at once what the project's own flags take away, not when the next push cannot be hot."""
    app = apps.get(gatling.db, context.app.name)
    for fault in spec.flag_faults(gatling, app, release, app.live_slot or 0):
        context.progress.note(f"hot upgrades from {release.label} are not possible: {fault}.")


def _replace_workers(gatling: Gatling, context: Context) -> None:
    """Replace the workers by those of the live release. Failures are reported."""
    name = context.app.name
    app = apps.get(gatling.db, name)
    try:
        wanted = list(workers.wanted(gatling, app))
        if not wanted and not gatling.instances.process_slots(name):
            return
        again = wanted if app.live_release == context.app.live_release else ()
        with context.journal.step("processes"):
            problems = workers.follow(gatling, name, again=again) or workers.unwell(
                gatling, name, wanted
            )
    except (GatlingError, OSError) as error:
        problems = [f"the processes of {name}: {text_of(error)}"]
    for problem in problems:
        context.progress.note(problem)


def _count_events(gatling: Gatling, context: Context) -> None:
    """Have a new node count its requests by route and the like, before anybody asks for numbers."""
    from gatling.deploy import live_node

    app = apps.get(gatling.db, context.app.name)
    with contextlib.suppress(
        GatlingError, OSError
    ):  # `gatling stats` tries again, and gives the reason
        live_node.count_events(gatling, app)


def _summary(gatling: Gatling, context: Context, release: Release) -> None:
    app = apps.get(gatling.db, context.app.name)
    strategy = deployments.get(gatling.db, context.deployment.id).strategy
    context.journal.end_phase()
    if context.result.proof and context.result.proof.https and not gatling.router.offers_https():
        _say_of_https(gatling, context, app)
    progress, took = context.progress, duration(time.monotonic() - context.started)
    how = plan.IN_WORDS[strategy or "restart"]
    progress.done(f"=====> {app.name} {release.label} is live ({how}) in {took}")
    if context.result.proof:
        progress.say(f"       {context.result.proof}")
    progress.say(f"       {gatling.router.url(app)}")
    if said := watch.unproven(gatling, context):
        progress.note(said)
    before = context.app.live_release
    if before == release.number or context.deployment.cause == deployments.WATCH:
        before = deployments.live_before(gatling.db, app.name, release.number)
    undo = f"   Undo: gatling rollback {app.name}" if before is not None else ""
    progress.note(f"Logs: gatling logs {app.name} --follow{undo}")


def _say_of_https(gatling: Gatling, context: Context, app: App) -> None:
    from gatling.deploy.evidence import health

    address = gatling.instances.address(app, app.live_slot or 1)
    host = names.host(app.primary_domain)
    if health.sends_to_https(address, context.settings.health.path, host):
        context.progress.note(
            "the app redirects browsers to HTTPS, which this proxy does not serve: run"
            f" `gatling up --tls`, or exclude {app.primary_domain} from force_ssl in"
            " config/prod.exs"
        )


def _retire(gatling: Gatling, context: Context, live: Release) -> None:
    """Remove releases that are no longer retained. A failure is only reported."""
    paths, name = gatling.home.app(context.app.name), context.app.name
    kept = list(releases.kept_commits(gatling.db, name))
    proven = deployments.ever_live(gatling.db, name) | {live.number}
    # One that never became live may be tried again, until a newer one has.
    doomed = [n for n in kept if n not in proven and n < live.number]
    doomed += store.to_remove(
        [n for n in kept if n in proven], live.number, context.settings.releases.keep
    )
    try:
        # what was booted as a release uses files of it, whatever it was upgraded to since
        in_use = {gatling.instances.started_as(name, slot) for slot in apps.SLOTS}
        in_use |= workers.in_use(gatling, name)
        in_use |= jobs.releases_in_use(gatling, name)
        in_use.add(watches.boots(gatling.db, name, live.number))
        for number in (n for n in doomed if n not in in_use):
            with store.unused(paths, number) as free:  # not by `gatling run`, say
                if not free:
                    continue
                # first: a tree of which no record knows is removed by recovery
                releases.mark_removed(gatling.db, name, number)
                store.remove(paths, number)
        distillery.sweep(paths.root / "tmp")
        repository.try_to_keep_commits(paths.repository, releases.kept_commits(gatling.db, name))
        jobs.forget(gatling, name)
        deployment_log.remove_old(paths)
    except (OSError, GatlingError) as error:
        context.progress.note(f"old releases could not all be removed: {error}")
