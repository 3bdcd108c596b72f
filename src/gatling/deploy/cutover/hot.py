"""A hot upgrade: the running node is changed in memory, watched, and the release proven to boot.

Nothing of the records changes until all of that has gone well; so whatever ends this before,
recovery finds a node that runs another release than the records say, and swaps it back.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, NoReturn

from msgspec import structs

from gatling import names
from gatling.beam.comparison import Answers
from gatling.beam.control import Control, NodeBusy, SwapFailed, Swapped
from gatling.deploy import live_node, watch
from gatling.deploy.cutover import (
    boot_check,
    instance,
    pages,
    previous,
    rehearsal,
    restart,
    rolling,
)
from gatling.deploy.evidence import health, judgement, probing, traffic, verdict
from gatling.deploy.evidence.prober import HeldRequest
from gatling.deploy.plan import exclusive, inspection
from gatling.errors import GatlingError, NodeUnreachable, SwapUndone
from gatling.state import apps, watches
from gatling.times import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.beam.answers import Pages
    from gatling.beam.control import Watched
    from gatling.beam.etf import Opaque
    from gatling.deploy.context import Context
    from gatling.deploy.evidence.prober import Proof
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.releases import Release
    from gatling.state.watches import Watch

STAYS_SECONDS = 0.5
"""How long an instance with new children must stay up before they are started in the live node."""

HEALTH_SECONDS = 5.0
CODE_CHANGE_HINT = (
    "code_change/3 must accept every state that the running release can have."
    " With the strategy `rolling` new processes start instead."
)
CRASHED_HINT = "If the shape of the state changed, the module needs a code_change/3."


class NotPossible(Exception):
    """The node refused the swap with nothing touched; the reason is the text."""


def upgrade(
    gatling: Gatling,
    context: Context,
    node: Control,
    live: Release,
    release: Release,
    differences: inspection.Differences,
    *,
    before_decision: Callable[[], None],
    on_live: Callable[[], None],
) -> Proof:
    """Swap the node's code, watch it, see that the release boots, and decide for it.

    Raises NotPossible when nothing was touched, and SwapUndone when it was taken back.
    """
    app, settings, journal = context.app, context.settings, context.journal
    comparison, answers = differences
    booted = _try_elsewhere(gatling, context, live, release, differences)
    address = gatling.instances.address(app, app.live_slot or 1)
    early_clients = _clients(node, address.port)
    prober = probing.prober(gatling, app, settings)
    with contextlib.ExitStack() as asking:
        before_decision()
        context.interruption.shield()
        asking.enter_context(prober.asking())
        # where the swap waits for requests to end it would wait for this one, too
        held = None
        if not comparison.callers:
            held = asking.enter_context(
                HeldRequest(address, names.host(app.primary_domain), settings.health.path)
            )
        # those that were there a moment ago, too: not a request that is just being answered
        now_open = _clients(node, address.port)
        clients = {each: now_open[each] for each in early_clients.keys() & now_open.keys()}
        since = now()
        rendering, check = None, None
        try:
            journal.phase(f"Upgrading {live.label} to {release.label} in memory")
            with journal.step("hot_swap"):
                pages.prepare(gatling, context, node, live, differences)
                swapped = _swap(gatling, context, node, live, release, answers)
                # those that were opened since
                pages.prepare(gatling, context, node, live, differences)
            switched = time.time()
            on_live()
            try:
                if held is not None:
                    prober.saw(held.finish(), held_since=held.began)
                check = boot_check.beside(gatling, context, release, booted=booted)
                watched = _prove(gatling, context, node, release, swapped, switched, check)
                rendering = pages.render_again(gatling, context, node, live, differences)
                prober.slow_down()  # each request is a line in the app's log
                unproven = check is not None and not boot_check.finish(context, check, switched)
                still_open = _clients(node, address.port)
            except GatlingError as error:
                _explain(gatling, app, error, since, check)
                again = differences if rendering else None
                _undo(gatling, context, node, live, release, answers, error, swapped, again)
        except GatlingError:
            context.result.proof = prober.proof
            context.progress.note(str(context.result.proof))
            raise
        if check is None:
            previous.end_boot_check(gatling, context)
        kept = watches.kept_slot(gatling.db, app.name, app.live_release)
        _decide(gatling, context, release, switched, unproven=unproven)
        _settle(gatling, context, node, release, swapped, kept)
    shown = _shown(context, node, rendering)
    return structs.replace(
        prober.proof,
        pages=shown.open if shown else 0,
        pages_rendered=shown.rendered if shown else 0,
        pages_failed=shown.failed if shown else 0,
        processes=swapped.processes,
        suspended_ms=round(swapped.suspended_ms, 2),
        paused_ms=round(swapped.paused_ms, 2) or None,
        connections=len(clients),
        kept=len(clients.keys() & still_open.keys()),
        lost=sum(owner in watched.stopped for owner in clients.values()),
        others_crashed=len(watched.others),
    )


def _decide(
    gatling: Gatling, context: Context, release: Release, switched: float, *, unproven: bool
) -> None:
    seconds = context.settings.hot.watch
    decide(
        gatling,
        context.app,
        release,
        watch.after(gatling, context, release.number, switched, seconds, unproven=unproven),
    )


def _settle(
    gatling: Gatling,
    context: Context,
    node: Control,
    release: Release,
    swapped: Swapped,
    kept: int | None,
) -> None:
    """The steps after the decision; `kept` is a slot whose instance is not needed any more."""
    with context.tolerated():
        previous.give_up(gatling, context, kept)
    with context.tolerated():
        live_node.prepare(gatling, context.app, release)
    with context.tolerated(), contextlib.suppress(NodeUnreachable):  # the states expire anyway
        node.keep(swapped)


def _try_elsewhere(
    gatling: Gatling,
    context: Context,
    live: Release,
    release: Release,
    differences: inspection.Differences,
) -> bool:
    """The rehearsal and the boot check that come before the swap, as the settings ask for them.

    Whether the release has booted, and stayed up for STAYS_SECONDS, in another instance.
    """
    settings, journal = context.settings, context.journal
    comparison, answers = differences
    if settings.hot.rehearse and context.alone:
        context.progress.note(f"not rehearsed: {'; '.join(context.alone)}")
    elif settings.hot.rehearse:
        with journal.step("rehearsal"):
            _rehearse(gatling, context, live, release, answers)
    # A new child that crashes again and again would take its supervisor, and so the node, along:
    # so new children must have run in another instance before the live node starts them.
    check = "off" if context.alone else settings.hot.boot_check
    early = comparison.starts_something and check != "off"
    if early or check == "before":
        boot_check.before(gatling, context, release, stays=STAYS_SECONDS if early else 0)
    return early


def decide(gatling: Gatling, app: App, release: Release, watched: Watch | None = None) -> None:
    """Record the release that the node runs as the live one, and whether it is still watched."""
    slot = app.live_slot or 1
    apps.make_live(
        gatling.db,
        app.name,
        release=release.number,
        slot=slot,
        config=release.config,
        watch=watched,
    )


def _clients(node: Control, port: int) -> dict[Opaque, Opaque]:
    """The connections to the app that last: only counted, so none when the node does not say."""
    try:
        return node.clients(port)
    except NodeUnreachable:
        return {}


def _rehearse(
    gatling: Gatling, context: Context, live: Release, release: Release, answers: Answers | None
) -> None:
    try:
        with exclusive.told(context, "rehearsal", live):
            rehearsal.rehearse(gatling, context, live, release, answers)
    except rehearsal.RehearsalFailed as failed:
        raise NotPossible(str(failed)) from None


def _swap(
    gatling: Gatling,
    context: Context,
    node: Control,
    live: Release,
    release: Release,
    answers: Answers | None,
) -> Swapped:
    try:
        return node.swap(live, release, answers, suspend=context.settings.hot.suspend)
    except SwapFailed as failure:
        if not failure.touched:
            raise NotPossible(f"{failure.stage}: {failure.what}") from None
        error = SwapUndone(
            f"The hot upgrade failed at {failure.stage}: {failure.what}.",
            hint=CODE_CHANGE_HINT if failure.stage == "code_change" else "",
        )
        if failure.broken:
            _replace(gatling, context, live, error)
        raise error from None
    except NodeBusy as busy:
        raise NotPossible(busy.what) from None
    except NodeUnreachable as lost:
        # whether it took place is not known, so the node goes
        _replace(gatling, context, live, lost)
        raise


def _prove(
    gatling: Gatling,
    context: Context,
    node: Control,
    release: Release,
    swapped: Swapped,
    switched: float,
    check: boot_check.BootCheck | None,
) -> Watched:
    """Raise what speaks against the release that the node runs now; what was seen in the watch.

    Starts the boot check, which goes on beside the watch.
    """
    settings = context.settings
    seconds = min(settings.hot.watch, watch.WAITED_SECONDS)
    if swapped.failed:
        raise SwapUndone(f"After the switch: {'; '.join(swapped.failed)}.")
    context.journal.phase(f"Watching {release.label}")
    unhealthy = _unhealthy(gatling, context, release)  # at once: users meet it already
    if check is not None and not unhealthy:
        check.start()
    with context.journal.step("watch"):
        # asked in any case: processes that crashed get their states back from what watched them
        watched = node.watch(swapped, 0.05 if unhealthy else seconds)
        problem = verdict.against(watched, seconds) or unhealthy
        if problem:
            raise SwapUndone(problem, hint=CRASHED_HINT if watched.crashed else "")
        for note in verdict.beside(watched):
            context.progress.note(note)
        unhealthy = _unhealthy(gatling, context, release)
        problem = unhealthy or _worse(gatling, context, switched)
        if problem:
            raise SwapUndone(problem)
    return watched


def _unhealthy(gatling: Gatling, context: Context, release: Release) -> str:
    """Why the upgraded node fails its health check, as a sentence; empty when it passes."""
    app, path = context.app, context.settings.health.path
    answer = health.check(gatling.instances, app, app.live_slot or 1, path, HEALTH_SECONDS)
    if answer.healthy:
        return ""
    return f"{release.label} failed its health check after the switch: GET {path}: {answer}."


def _worse(gatling: Gatling, context: Context, switched: float) -> str:
    """Why clients are served worse than before the switch, as a sentence; empty if they are not."""
    app, wanted = context.app, context.settings.deploy.figures
    if wanted == "off":
        return ""
    before = traffic.before(gatling, app, switched)
    after = traffic.since(gatling, app, app.live_slot or 1, switched)
    seconds = time.time() - switched
    problem = judgement.against(before, after, seconds)
    if problem and wanted == "undo":
        return problem
    said = problem or judgement.in_words(before, after, seconds)
    if said:
        context.progress.note(said)
    return ""


def _undo(
    gatling: Gatling,
    context: Context,
    node: Control,
    live: Release,
    release: Release,
    answers: Answers | None,
    error: GatlingError,
    first: Swapped,
    rendered: inspection.Differences | None,
) -> NoReturn:
    """Swap back and raise; where that is impossible, put a new instance of `live` in its place.

    `rendered` is how the releases differ if open pages have rendered with the new one.
    """
    back = Answers(answers.new, answers.old) if answers else None
    try:
        context.journal.phase(f"Going back to {live.label}")
        with context.journal.step("swap_back"):
            patience = context.settings.hot.suspend
            swapped = node.swap(release, live, back, suspend=patience, insist=True)
            if swapped.failed:
                raise SwapUndone(f"Children: {'; '.join(swapped.failed)}.")
            node.restore_crashed(first)
        if rendered is not None:
            pages.render_again(gatling, context, node, release, rendered)
        context.progress.note(f"{live.label} runs again, with its previous states")
    except (SwapFailed, GatlingError) as second:
        context.progress.note(f"the upgrade could not be undone: {second}")
        _replace(gatling, context, live, error)
    raise error


def _shown(context: Context, node: Control, rendering: Opaque | None) -> Pages | None:
    """How the open pages rendered, if they were asked to."""
    shown = None
    if rendering is not None:
        with context.tolerated():
            shown = pages.rendered(context, node, rendering)
    return shown


def _explain(
    gatling: Gatling,
    app: App,
    error: GatlingError,
    since: str,
    check: boot_check.BootCheck | None,
) -> None:
    """End the boot check, and add the app's own words to the error.

    Those are what it has said since the swap that names a cause, if the error has none yet.
    """
    boot_check.stop(check, error)
    if error.log:
        return
    booted = gatling.instances.started_as(app.name, app.live_slot or 0)
    if booted is None:
        return
    label = f"v{booted}"
    error.log = instance.last_words_since(gatling, app, label, since, only_causes=True)
    if error.log:
        all_of_it = f"Full output: `gatling logs {app.name} --release {label} --since 5m`."
        error.hint = f"{error.hint} {all_of_it}".strip()


def _replace(gatling: Gatling, context: Context, live: Release, error: GatlingError) -> None:
    """Put a new instance of the release that was live in the place of the node."""
    context.callbacks.over()  # these are steps of the release before
    context.progress.note(f"a new instance of {live.label} replaces the upgraded one")
    error.hint = f"{error.hint} The node was replaced by a new instance of {live.label}.".strip()
    carry_out = restart.restart if context.alone else rolling.roll
    carry_out(
        gatling,
        context,
        live,
        before_decision=lambda: None,
        on_live=lambda: None,
    )
