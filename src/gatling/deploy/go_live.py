"""Make a release the live one: migrate, plan, cut over, settle."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

import msgspec

from gatling.build import callbacks
from gatling.deploy import live_node, published, settle
from gatling.deploy.migrations import runner
from gatling.deploy.plan import exclusive, inspection, plan
from gatling.deploy.run import is_decided
from gatling.errors import (
    NodeUnreachable,
    PlannerFailed,
)
from gatling.project import refs
from gatling.project import settings as project_settings
from gatling.state import deployments, releases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.deploy.context import Attempt
    from gatling.platform.open import Gatling
    from gatling.project.refs import Update
    from gatling.state.releases import Release


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of one deployment beyond the app's settings."""

    strategy: str | None = None
    rehearse: bool = False


NO_WISH = Wish()


def go_live(
    gatling: Gatling,
    this: Attempt,
    release: Release,
    updates: Sequence[Update] = (),
    wish: Wish = NO_WISH,
) -> None:
    """Make a release the live one, by the strategy that its plan says."""
    app, live = this.app, None
    this.settings = project_settings.parse(release.manifest | app.settings)
    if wish.rehearse:
        hot = msgspec.structs.replace(this.settings.hot, rehearse=True)
        this.settings = msgspec.structs.replace(this.settings, hot=hot)
    strategy = wish.strategy or this.settings.deploy.strategy
    if app.live_release is not None:
        live = releases.get(gatling.db, app.name, app.live_release)
    this.callbacks.at(*callbacks.BEFORE_MIGRATE)
    runner.run(gatling, this, live, release)
    this.callbacks.at(*callbacks.AFTER_MIGRATE)
    published.prepare(gatling, this, release)
    try:
        _cut_over(gatling, this, live, release, updates, strategy)
    except Exception as error:
        if not is_decided(gatling, this):
            raise
        this.warn(error)
    settle.settle(gatling, this, release)


def _cut_over(
    gatling: Gatling,
    this: Attempt,
    live: Release | None,
    release: Release,
    updates: Sequence[Update],
    strategy: str,
) -> None:
    """Decide on a strategy and carry it out."""
    app = this.app
    decided = plan.simple(live, release, strategy)
    # and not when all is decided: the node that is asked for the plan waits for no callback
    this.callbacks.at(*callbacks.BEFORE_CUT_OVER)
    if live is not None and strategy != "restart":
        this.alone = exclusive.reasons(gatling, app, live, this.settings)
    if decided is None and live is not None:
        decided = _upgrade(gatling, this, live, release, updates, strategy)
    assert decided is not None  # noqa: S101 (for the type checker: nothing live has a plan)
    if decided.strategy == "hot":
        return
    decided = plan.beside(decided, this.alone)
    from gatling.deploy.cutover import rolling  # noqa: PLC0415 (loaded while mix works)

    _announce(gatling, this, release, decided, app.free_slot)
    carry_out = rolling.replace if decided.strategy == "restart" else rolling.roll

    def before_decision() -> None:
        this.callbacks.at(*callbacks.BEFORE_DECISION)
        refs.check_still(gatling.home.app(app.name).repository, updates)

    this.proof = carry_out(
        gatling,
        app,
        release,
        this.settings,
        journal=this.journal,
        interruption=this.interruption,
        before_decision=before_decision,
        on_live=lambda: this.progress.note(f"{release.label} is live"),
        tolerated=this.tolerated,
    )


def _upgrade(
    gatling: Gatling,
    this: Attempt,
    live: Release,
    release: Release,
    updates: Sequence[Update],
    strategy: str,
) -> plan.Plan:
    """Upgrade the running node if that is safe; otherwise the plan says by what to go on."""
    from gatling.deploy.cutover import hot  # noqa: PLC0415 (loaded while mix works)

    app = this.app
    try:
        with (
            live_node.connected(gatling, app, live_node.DEPLOYMENT_PATIENCE_SECONDS) as node,
            live_node.listening(node),
            contextlib.ExitStack() as open_answers,
        ):
            with this.journal.step("plan"):
                differences = open_answers.enter_context(
                    inspection.compared(gatling, app, node, live, release)
                )
                decided = plan.decide(differences[0], strategy, this.settings.hot)
            if decided.strategy == "hot":
                _announce(gatling, this, release, decided, app.live_slot)
                this.proof = hot.upgrade(
                    gatling,
                    this,
                    node,
                    live,
                    release,
                    differences,
                    before_decision=lambda: refs.check_still(
                        gatling.home.app(app.name).repository, updates
                    ),
                    on_live=lambda: this.progress.note(f"{release.label} runs"),
                )
            return decided
    except (NodeUnreachable, PlannerFailed) as error:
        if this.proof is not None or not this.interruption.armed:
            raise
        for line in error.log:  # what a planner printed before it failed
            this.progress.record(line)
        return plan.refuse_or_roll([error.what], strategy)
    except hot.NotPossible as refused:
        this.interruption.rearm()
        return plan.refuse_or_roll([str(refused)], strategy)


def _announce(
    gatling: Gatling, this: Attempt, release: Release, decided: plan.Plan, slot: int | None
) -> None:
    deployments.set_target(
        gatling.db,
        this.deployment.id,
        release=release.number,
        slot=slot,
        strategy=decided.strategy,
        reasons=decided.reasons,
    )
    this.callbacks.facts |= {"strategy": decided.strategy, "port": this.app.ports.get(slot or 0)}
    this.progress.note(f"{release.label} by {decided.strategy}: {'; '.join(decided.reasons)}")
