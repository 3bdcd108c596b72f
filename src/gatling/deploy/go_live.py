"""Make a release the live one: migrate, plan, cut over, settle."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.build import callbacks
from gatling.deploy import connections, live_node, published, settle
from gatling.deploy.migrations import runner
from gatling.deploy.plan import gather, plan
from gatling.deploy.run import is_decided
from gatling.deploy.wish import NO_WISH, Wish
from gatling.errors import GatlingError, NodeUnreachable
from gatling.project import refs
from gatling.project import settings as project_settings
from gatling.state import deployments, releases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.deploy.context import Context
    from gatling.deploy.plan.gather import Gathered
    from gatling.deploy.plan.plan import Facts, Plan
    from gatling.platform.open import Gatling
    from gatling.project.refs import Update
    from gatling.state.releases import Release


def go_live(
    gatling: Gatling,
    context: Context,
    release: Release,
    updates: Sequence[Update] = (),
    wish: Wish = NO_WISH,
) -> None:
    """Make a release the live one, by the strategy that its plan says."""
    app, live = context.app, None
    settings = project_settings.parse(release.manifest | app.settings)
    if wish.rehearse:
        hot = structs.replace(settings.hot, rehearse=True)
        migrate = structs.replace(settings.migrate, rehearse=True)
        settings = structs.replace(settings, hot=hot, migrate=migrate)
    context = structs.replace(context, settings=settings)
    if app.platform is not None:
        from gatling.deploy.cluster import go_live as cluster

        try:
            cluster.go_live(gatling, context, release, updates, wish)
        except Exception as error:
            if not is_decided(gatling, context):
                raise
            context.warn(error)
        settle.settle_on_cluster(gatling, context, release)
        return
    if app.live_release is not None:
        live = releases.get(gatling.db, app.name, app.live_release)
    context.journal.phase(f"Preparing {release.label}")
    known = gather.facts(
        gatling, app, live, release, settings, wish.strategy, domains=context.domains
    )
    context.callbacks.at(*callbacks.BEFORE_MIGRATE)
    runner.run(gatling, context, live, release)
    context.callbacks.at(*callbacks.AFTER_MIGRATE)
    published.prepare(gatling, context, release)
    try:
        _cut_over(gatling, context, known, updates)
    except Exception as error:
        if not is_decided(gatling, context):
            raise
        context.warn(error)
    settle.settle(gatling, context, release)


def _cut_over(
    gatling: Gatling,
    context: Context,
    known: Facts,
    updates: Sequence[Update],
) -> None:
    """Plan, and carry the plan out.

    If the node refuses a hot upgrade, deploy with a rolling restart.
    """
    from gatling.deploy.cutover import hot

    # before the node is asked, which waits for no callback
    context.callbacks.at(*callbacks.BEFORE_CUT_OVER)
    with contextlib.ExitStack() as open_node:
        found = gather.with_node(
            gatling,
            context.app,
            known,
            open_node,
            patience=live_node.DEPLOYMENT_PATIENCE_SECONDS,
            listens=True,
            step=lambda: context.journal.step("plan"),
            on_error=lambda error: _record(context, error),
        )
        planned = plan.plan(found.facts)
        context = structs.replace(context, alone=planned.alone)
        try:
            if planned.strategy == "hot":
                _upgrade(gatling, context, planned, found, updates)
                return
        except hot.NotPossible as refused:
            context.interruption.rearm()
            planned = planned.instead("rolling", str(refused))
    _replace(gatling, context, planned, known.target, updates)


def _replace(
    gatling: Gatling, context: Context, planned: Plan, release: Release, updates: Sequence[Update]
) -> None:
    """Start the release in the free slot, and end the live instance after it, or before."""
    from gatling.deploy.cutover import restart, rolling

    app = context.app
    _announce(gatling, context, release, planned, app.free_slot)
    carry_out = restart.restart if planned.strategy == "restart" else rolling.roll

    def before_decision() -> None:
        context.callbacks.at(*callbacks.BEFORE_DECISION)
        refs.check_still(gatling.home.app(app.name).repository, updates)

    context.result.proof = carry_out(
        gatling,
        context,
        release,
        before_decision=before_decision,
        on_live=lambda: context.progress.note(f"{release.label} is live"),
    )


def _upgrade(
    gatling: Gatling,
    context: Context,
    planned: Plan,
    found: Gathered,
    updates: Sequence[Update],
) -> None:
    """Upgrade the running node; raises NotPossible with nothing touched."""
    from gatling.deploy.cutover import hot

    release, live = found.facts.target, found.facts.live
    assert live is not None  # noqa: S101 (for the type checker: a hot plan has all of these)
    assert found.node is not None  # noqa: S101
    assert found.differences is not None  # noqa: S101
    _announce(gatling, context, release, planned, context.app.live_slot)
    repository = gatling.home.app(context.app.name).repository
    try:
        context.result.proof = hot.upgrade(
            gatling,
            context,
            found.node,
            live,
            release,
            found.differences,
            before_decision=lambda: refs.check_still(repository, updates),
            on_live=lambda: context.progress.note(f"{release.label} runs"),
        )
    except NodeUnreachable as error:
        if context.result.proof is not None or not context.interruption.armed:
            raise
        _record(context, error)
        raise hot.NotPossible(error.what) from None


def _announce(
    gatling: Gatling, context: Context, release: Release, planned: Plan, slot: int | None
) -> None:
    deployments.set_target(
        gatling.db,
        context.deployment.id,
        release=release.number,
        slot=slot,
        strategy=planned.strategy,
        reasons=planned.reasons,
    )
    context.callbacks.facts |= {
        "strategy": planned.strategy,
        "port": context.app.ports.get(slot or 0),
    }
    how = plan.IN_WORDS[planned.strategy].capitalize()
    context.progress.note(f"{how}: {'; '.join(planned.reasons)}")
    if fault := connections.too_many(gatling, context.app.name, context.settings):
        context.progress.note(fault)


def _record(context: Context, error: GatlingError) -> None:
    """Add what a program printed before it failed to the deployment's log."""
    for line in error.log:
        context.progress.record(line)
