"""Make a release the live one on a cluster: image, migrations, upgrade or replacement, decision."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gatling.build import callbacks
from gatling.deploy.cluster import (
    boot_check,
    hot,
    image,
    maintenance,
    nodes,
    once,
    reconcile,
    workers,
)
from gatling.deploy.cluster import objects as applied
from gatling.deploy.cutover.hot import NotPossible
from gatling.deploy.migrations import runner
from gatling.deploy.plan.plan import IN_WORDS
from gatling.errors import CommandFailed
from gatling.platform.kubernetes import place
from gatling.project import refs
from gatling.runtime import jobs
from gatling.state import apps, deployments, releases

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatling.deploy.context import Context
    from gatling.deploy.plan.plan import Plan
    from gatling.deploy.wish import Wish
    from gatling.platform.kubernetes.api import Api
    from gatling.platform.open import Gatling
    from gatling.project.refs import Update
    from gatling.state.releases import Release

SLOT = 1
"""A cluster has no slots; records need one."""
CHANGED = (
    "cluster.tls has changed: nodes with and without TLS do not connect to each other until all"
    " instances are replaced"
)


def go_live(
    gatling: Gatling,
    context: Context,
    release: Release,
    updates: Sequence[Update],
    wish: Wish,
) -> None:
    """Upgrade all instances in memory or replace them one by one, and decide when all serve.

    Raises UnhealthyRelease and others with nothing decided; recovery then applies the release
    that is live. `context` has the settings of the release.
    """
    app, settings, journal = context.app, context.settings, context.journal
    requested = wish.strategy or settings.deploy.strategy
    applied.check(gatling, app, release)
    platform = place.of(gatling.db, app)
    journal.phase(f"Preparing {release.label} for {platform.name}")
    release = image.ensure(gatling, context, release)
    live = None
    if app.live_release is not None:
        live = releases.get(gatling.db, app.name, app.live_release)
    with place.opened(gatling.db, app) as api:
        tree = gatling.home.app(app.name).release(release.number)

        def in_a_job(
            words: tuple[str, ...], timeout: float, on_line: Callable[[str], None]
        ) -> None:
            status = once.run(
                api, app, release, platform, tree, words, what="migrate", timeout=timeout,
                on_line=on_line,
            )  # fmt: skip
            if status:
                raise CommandFailed(f"{' '.join(words)[:80]} ended with status {status}.")

        context.callbacks.at(*callbacks.BEFORE_MIGRATE)
        runner.run(gatling, context, live, release, elsewhere=in_a_job)
        context.callbacks.at(*callbacks.AFTER_MIGRATE)
        wanted = hot.Planning(
            app,
            settings,
            live,
            release,
            requested,
            journal.step,
            context.progress.note,
            replaces=True,
        )
        upgraded = _upgraded(gatling, context, api, wanted)
        if not upgraded:
            journal.phase(f"Replacing the instances on {platform.name}")
            there = nodes.found(applied.pods_of(api, app.name))
            if any(pod.encrypted != settings.cluster.tls for pod in there):
                context.progress.note(CHANGED)
            with journal.step("replace_instances"):
                pods = applied.apply(
                    api, app, release, platform, context.deployment.id,
                    restart=requested == "restart",
                )  # fmt: skip
                applied.wait(api, app, settings, context.deployment.id, settings.cluster.instances)
        context.callbacks.at(*callbacks.BEFORE_DECISION)
        refs.check_still(gatling.home.app(app.name).repository, updates)
        context.interruption.shield()
        # a restart of the live release keeps the config that is stored for the next one
        values = None if release.number == app.live_release else release.config
        apps.make_live(
            gatling.db, app.name, release=release.number, slot=SLOT, config=values,
            deployment=context.deployment.id,
        )  # fmt: skip
        with context.tolerated():
            context.progress.note(f"{release.label} is live")
        with context.tolerated():
            if upgraded:
                _follow(gatling, context)
            else:
                now = apps.get(gatling.db, app.name)
                context.progress.notes(workers.follow(gatling, api, now, release, platform))
            # the schedule, notifications and samples of the app are this machine's
            gatling.instances.ensure_running()
            context.progress.notes(jobs.follow(gatling, app.name))
        if app.maintenance is not None:  # the image of the release before may go
            with context.tolerated():
                maintenance.follow(gatling, api, apps.get(gatling.db, app.name), release, platform)
        if not upgraded:
            with context.tolerated():
                applied.remove(api, app.name, keep=pods)


def _upgraded(gatling: Gatling, context: Context, api: Api, wanted: hot.Planning) -> bool:
    """Upgrade all instances in memory if the plan says so; whether they run the release now.

    False: they run what they ran before, and are to be replaced. Raises SwapUndone.
    """
    with contextlib.ExitStack() as connections:
        live, release = wanted.live, wanted.release
        ready = hot.found(gatling, api, wanted, connections)
        _announce(gatling, context, release, ready.plan)
        if ready.plan.strategy != "hot":
            return False
        if wanted.settings.hot.rehearse:
            context.progress.note("the upgrade was not rehearsed: that is not done on clusters")
        try:
            assert live is not None  # noqa: S101 (for the type checker: a hot plan has one)
            platform = place.of(gatling.db, context.app)
            with boot_check.beside(context, api, release, platform) as check:
                # a new child that crashes again and again takes its supervisor, and so the node,
                # along: it must have run in another pod before it is started in those that serve
                early = ready.starts_something
                before = early or wanted.settings.hot.boot_check == "before"
                if check is not None and before and not check.wait() and early:
                    raise NotPossible("new children could not be started in a spare pod first")
                last = _nothing if check is None or before else check.wait
                hot.upgrade(context, live, release, ready, api, last)
        except NotPossible as refused:
            context.interruption.rearm()
            _announce(gatling, context, release, ready.plan.instead("rolling", str(refused)))
            return False
    return True


def _nothing() -> bool:
    """There is no check after the switch."""
    return True


def _announce(gatling: Gatling, context: Context, release: Release, planned: Plan) -> None:
    deployments.set_target(
        gatling.db, context.deployment.id, release=release.number, slot=SLOT,
        strategy=planned.strategy, reasons=planned.reasons,
    )  # fmt: skip
    context.callbacks.facts["strategy"] = planned.strategy
    how = IN_WORDS[planned.strategy].capitalize()
    context.progress.note(f"{how}: {'; '.join(planned.reasons)}")


def _follow(gatling: Gatling, context: Context) -> None:
    """Let the pods' next start, and new pods, be those of the release that was decided for."""
    app = apps.get(gatling.db, context.app.name)
    with context.journal.step("follow_template"):
        context.progress.notes(reconcile.reconcile(gatling, app, perhaps_upgraded=True))
