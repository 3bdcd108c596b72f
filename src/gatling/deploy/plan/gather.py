"""Gather the facts that a plan depends on: from records, from files, and from the running node."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from gatling.beam.channel import PATIENCE_SECONDS, NodeInUse
from gatling.beam.control import NodeBusy
from gatling.deploy import live_node, watch
from gatling.deploy.migrations import runner
from gatling.deploy.plan import exclusive, inspection, plan
from gatling.deploy.plan.plan import Facts
from gatling.errors import GatlingError, NodeUnreachable, PlannerFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager, ExitStack

    from gatling.beam.control import Control
    from gatling.deploy.plan.inspection import Differences
    from gatling.platform.open import Gatling
    from gatling.project.settings import Settings
    from gatling.state.apps import App
    from gatling.state.releases import Release


class Gathered(Struct, frozen=True):
    """The facts, with what a hot upgrade needs to carry out the plan that is made of them."""

    facts: Facts
    node: Control | None = None
    """The running node, connected for as long as the exit stack is open."""
    differences: Differences | None = None


def facts(
    gatling: Gatling,
    app: App,
    live: Release | None,
    target: Release,
    settings: Settings,
    requested: str | None = None,
    domains: tuple[str, ...] = (),
) -> Facts:
    """The facts from records and files; nothing is started, and no node is asked."""
    paths = gatling.home.app(app.name)
    migrations = runner.pending(paths, live, target) if runner.runs_any(live, target) else []
    return Facts(
        live=live,
        target=target,
        settings=settings,
        requested=requested or settings.deploy.strategy,
        migrations=tuple(migrations),
        domains=domains,
        ready=watch.is_ready(gatling, app, target),
    )


def with_node(
    gatling: Gatling,
    app: App,
    known: Facts,
    open_node: ExitStack,
    *,
    patience: float = PATIENCE_SECONDS,
    listens: bool = False,
    step: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    on_error: Callable[[GatlingError], None] = lambda _: None,
    insists: bool = False,
) -> Gathered:
    """Add the facts that only the running node has, where the plan depends on them.

    The connection stays open with `open_node`. `listens`: the node notes the errors that it logs
    from now on. `step` surrounds the comparison; `on_error` is given why there is none. `insists`:
    raise NodeInUse or NodeBusy while another command works with the node.
    """
    live, by_setting = known.live, exclusive.by_setting(known.settings)
    if live is None or known.requested == "restart" or known.returns:
        return Gathered(known)
    compares = plan.simple(live, known.target, known.requested) is None
    if by_setting is not None and not compares:
        return Gathered(structs.replace(known, alone=by_setting))
    paths = gatling.home.app(app.name)
    try:
        node = open_node.enter_context(live_node.connected(gatling, app, patience))
    except NodeUnreachable as error:
        _raise_if(busy=error, insists=insists and compares, app=app)
        alone = exclusive.unasked(paths.release(live.number), live.label, error.what)
        alone = alone if by_setting is None else by_setting
        on_error(error)
        return Gathered(structs.replace(known, alone=alone, unknown=error.what))
    if by_setting is None:
        ephemeral = gatling.instances.ephemeral_ports()
        alone = exclusive.reasons(node, paths, app, live, ephemeral)
    else:
        alone = by_setting
    known = structs.replace(known, alone=alone)
    if not compares:
        return Gathered(known)
    try:
        if listens:
            open_node.enter_context(live_node.listening(node))
        with step():
            differences = open_node.enter_context(
                inspection.compared(gatling, app, node, live, known.target)
            )
    except (NodeUnreachable, PlannerFailed) as error:
        _raise_if(busy=error, insists=insists, app=app)
        on_error(error)
        return Gathered(structs.replace(known, unknown=error.what))
    return Gathered(structs.replace(known, comparison=differences[0]), node, differences)


def _raise_if(*, busy: GatlingError, insists: bool, app: App) -> None:
    """A plan that is made without the node is not what a deployment does a moment later."""
    if not insists or not isinstance(busy, NodeInUse | NodeBusy):
        return
    if isinstance(busy, NodeBusy) and busy.broken:
        return
    busy.hint = (
        f"`gatling deployments {app.name} --follow` shows its progress. Then run this command"
        " again."
    )
    raise busy
