"""A hot upgrade of all pods: their nodes are swapped together, all or none.

Nothing of the records changes until all of them have been watched and serve. So whatever ends this
before, recovery finds the release of before in the records, and brings each pod back to it.
"""

from __future__ import annotations

import contextlib
import http.client
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, structs

from gatling import names
from gatling.beam import compiler, together
from gatling.beam.comparison import Answers
from gatling.deploy import live_node, watch
from gatling.deploy.cluster import adopt, nodes, planner, replacing
from gatling.deploy.cluster import objects as applied
from gatling.deploy.cutover.hot import CRASHED_HINT, NotPossible
from gatling.deploy.evidence import verdict
from gatling.deploy.plan import plan
from gatling.errors import ClusterFailed, GatlingError, PlannerFailed, SwapUndone
from gatling.platform.kubernetes.pods import HTTP
from gatling.text import counted
from gatling.ui.output import size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from gatling.beam.comparison import Comparison
    from gatling.beam.control import Control, Swapped, Watched
    from gatling.deploy.cluster.nodes import Pod
    from gatling.deploy.context import Context
    from gatling.deploy.plan.inspection import Differences
    from gatling.deploy.plan.plan import Plan
    from gatling.platform.kubernetes.api import Api
    from gatling.platform.open import Gatling
    from gatling.project.settings import Settings
    from gatling.state.apps import App
    from gatling.state.releases import Release

HEALTH_SECONDS = 5.0
CHANGED = "cluster.tls has changed, and a node has it from its start"
Result = TypeVar("Result")
HEALTHY = range(200, 400)
"""As the readiness probe of Kubernetes has it."""


class Planning(Struct, frozen=True):
    """A release that is to replace the live one, and who hears of the steps of its plan."""

    app: App
    settings: Settings
    """Those of the release."""
    live: Release | None
    release: Release
    requested: str
    """The strategy that was requested."""
    step: Callable[[str], AbstractContextManager[object]] = contextlib.nullcontext
    note: Callable[[str], None] = lambda _: None
    replaces: bool = False
    """Whether pods that differ are replaced before the others are upgraded."""


class Found(Struct):
    """The plan, and what a hot upgrade needs to carry it out."""

    plan: Plan
    pods: dict[str, Pod] = {}
    nodes: dict[str, Control] = {}
    answers: dict[str, Answers | None] = {}
    """The files in each pod with the answers of nodes of both releases, if they were asked."""
    starts_something: bool = False
    """Whether children or applications are started in the nodes."""


def at_once(wanted: Planning) -> plan.Plan | None:
    """The plan where records decide; None if the nodes are to be asked. Raises InvalidInput."""
    return plan.simple(wanted.live, wanted.release, wanted.requested)


def planned(gatling: Gatling, api: Api, wanted: Planning) -> Plan:
    """The plan that a deployment would carry out now; raises as `found`.

    The files that differ are brought to the pods, where nothing uses them yet.
    """
    with contextlib.ExitStack() as connections:
        return found(gatling, api, wanted, connections).plan


def found(gatling: Gatling, api: Api, wanted: Planning, connections: contextlib.ExitStack) -> Found:
    """Plan, with the facts of all nodes; raises InvalidInput if hot was asked for and is not.

    The connections to the nodes stay open with `connections`.
    """
    app, live, requested = wanted.app, wanted.live, wanted.requested
    simple = at_once(wanted)
    if simple is not None or live is None:
        return Found(simple or plan.Plan("start", ("nothing is live yet",)))
    if app.wanted != "running":
        return Found(plan.refuse_or_roll(["no instance runs"], requested))
    try:
        pods, differ = _pods(api, app, live, wanted.settings)
        asked = _asked(gatling, api, wanted, live, pods, connections, differ)
        planned = union(asked.comparisons, requested, wanted.settings)
        if differ and planned.strategy == "hot":
            if wanted.replaces:
                _replaced(api, wanted, live, differ)
                more, others = _pods(api, app, live, wanted.settings)
                more = {name: pod for name, pod in more.items() if name not in asked.nodes}
                if more or others:
                    later = _asked(
                        gatling, api, wanted, live, more, connections, others, all_of=True
                    )
                    pods, asked = pods | more, asked.joined(later)
                    planned = union(asked.comparisons, requested, wanted.settings)
            else:
                first = (f"the pod {name} is replaced first, as it {why}"
                         for name, why in differ.items())  # fmt: skip
                planned = structs.replace(planned, reasons=(*planned.reasons, *first))
    except _Obstacle as obstacle:
        return Found(plan.refuse_or_roll([str(obstacle)], requested))
    return Found(
        planned,
        {name: pods[name] for name in asked.nodes},
        asked.nodes,
        answers={name: answers for name, (_, answers) in asked.differences.items()},
        starts_something=any(one.starts_something for one in asked.comparisons.values()),
    )


class _Asked(Struct, frozen=True):
    """Nodes that were asked, with what they answered."""

    nodes: dict[str, Control]
    differences: dict[str, Differences]

    @property
    def comparisons(self) -> dict[str, Comparison]:
        """How the releases differ in each pod."""
        return {name: comparison for name, (comparison, _) in self.differences.items()}

    def joined(self, other: _Asked) -> _Asked:
        """These and others."""
        return _Asked(self.nodes | other.nodes, self.differences | other.differences)


def _asked(
    gatling: Gatling,
    api: Api,
    wanted: Planning,
    live: Release,
    pods: Mapping[str, Pod],
    connections: contextlib.ExitStack,
    differ: dict[str, str],
    *,
    all_of: bool = False,
) -> _Asked:
    """Ask the nodes of these pods; a pod whose node does not run the live release joins `differ`.

    Raises _Obstacle if too many differ, or, with `all_of`, any.
    """
    connected = _reached(gatling, wanted, api, live, pods, connections, differ)
    problem = replacing.too_many(differ, () if all_of else connected)
    if problem:
        raise _Obstacle(problem)
    _deliver(gatling, wanted, live, connected)
    return _Asked(connected, _compared(gatling, api, wanted, live, connected, connections))


def _replaced(api: Api, wanted: Planning, live: Release, differ: Mapping[str, str]) -> None:
    """Replace pods before the upgrade; raises _Obstacle."""
    with wanted.step("replace_pods"):
        try:
            replaced = replacing.replace(api, wanted.app, live, differ, wanted.settings)
        except replacing.NotReplaced as error:
            raise _Obstacle(str(error)) from error
    for name in replaced:
        wanted.note(f"the pod {name} {differ[name]}, and was replaced first")


class _Obstacle(Exception):
    """Why a hot upgrade is not possible."""


def _each(answers: Mapping[str, Result | Exception], what: str) -> dict[str, Result]:
    """The answers for all pods; raises _Obstacle with `what` for one that gave none."""
    found = {}
    for name, answer in answers.items():
        if isinstance(answer, Exception):
            raise _Obstacle(what.format(name, said(answer)))
        found[name] = answer
    return found


def _pods(
    api: Api, app: App, live: Release, settings: Settings
) -> tuple[dict[str, Pod], dict[str, str]]:
    """The pods that serve the live release, and why others do not. Raises _Obstacle."""
    pods = {pod.name: pod for pod in nodes.found(applied.pods_of(api, app.name))}
    if not pods:
        raise _Obstacle("no instance runs")
    if any(pod.encrypted != settings.cluster.tls for pod in pods.values()):
        raise _Obstacle(CHANGED)
    if problem := adopt.possible(api, app.name):
        raise _Obstacle(problem)
    differ = {
        name: f"does not serve {live.label}"
        for name, pod in pods.items()
        if pod.release != live.label or not pod.ready
    }
    return {name: pod for name, pod in pods.items() if name not in differ}, differ


def _reached(
    gatling: Gatling,
    wanted: Planning,
    api: Api,
    live: Release,
    pods: Mapping[str, Pod],
    connections: contextlib.ExitStack,
    differ: dict[str, str],
) -> dict[str, Control]:
    """Connect to the nodes of pods that run the live release; why others do not joins `differ`."""
    app = wanted.app
    paths = gatling.home.app(app.name)

    def reach(_name: str, pod: Pod) -> tuple[contextlib.ExitStack, Control, str]:
        with contextlib.ExitStack() as stack:
            node = stack.enter_context(nodes.connected(api, paths, live, pod))
            return stack.pop_all(), node, nodes.running(node)

    with wanted.step("reach_nodes"):
        compiler.ensure(gatling.tasks, gatling.apps.surroundings(app.name), app, live)
        answers = nodes.of_all(reach, pods)
    found = {}
    for name, each in answers.items():
        if isinstance(each, Exception):
            differ[name] = f"has a node that cannot be reached ({said(each)})"
            continue
        stack, node, runs = each
        if runs == live.label:
            connections.push(stack)
            found[name] = node
        else:
            stack.close()
            differ[name] = f"has a node that runs {runs}"
    return found


def _deliver(
    gatling: Gatling, wanted: Planning, live: Release, connected: Mapping[str, Control]
) -> None:
    number = wanted.release.number
    root = gatling.home.app(wanted.app.name).release(number)
    with wanted.step("deliver"):
        contents = nodes.entries(root)
        sent = _each(
            nodes.of_all(
                lambda _, node: nodes.deliver(node, root, contents, number, {live.label}),
                connected,
            ),
            "the pod {} did not get the files: {}",
        )
    most = size(max(sent.values()))
    wanted.note(f"{most} sent to each of {counted(len(sent), 'pod')}")


def _compared(
    gatling: Gatling,
    api: Api,
    wanted: Planning,
    live: Release,
    connected: Mapping[str, Control],
    connections: contextlib.ExitStack,
) -> dict[str, Differences]:
    """How the releases differ in each pod; what was answered there goes with `connections`."""
    paths = gatling.home.app(wanted.app.name)

    def asked(pod: str, node: Control) -> Differences:
        return planner.compared(api, paths, pod, node, live, wanted.release)

    for node in connected.values():
        planner.forget_later(node, connections)
    with wanted.step("plan"):
        answered = nodes.of_all(asked, connected)
    for name, error in answered.items():
        if isinstance(error, PlannerFailed):
            raise _Obstacle(f"{said(error)} (in the pod {name})")
    return _each(answered, "the node of the pod {} could not be asked: {}")


def union(comparisons: Mapping[str, Comparison], requested: str, settings: Settings) -> Plan:
    """The plan for all nodes. Pure. Raises InvalidInput if hot was asked for and is not possible.

    An obstacle on one node is an obstacle for all.
    """
    reasons: list[str] = []
    plans = {name: plan.decide(one, "auto", settings.hot) for name, one in comparisons.items()}
    refusals: dict[str, list[str]] = {}
    for name, one in plans.items():
        for reason in one.reasons if one.strategy != "hot" else ():
            refusals.setdefault(reason, []).append(name)
    for reason, of in refusals.items():
        everywhere = len(of) == len(comparisons)
        reasons.append(reason if everywhere else f"{reason} (in the pod {of[0]})")
    if reasons:
        return plan.refuse_or_roll(list(dict.fromkeys(reasons)), requested)
    first = next(iter(plans.values()))
    several = f"{counted(len(plans), 'pod')} at once"
    return plan.Plan("hot", (*first.reasons, several), first.details, requested=requested)


def upgrade(
    context: Context,
    live: Release,
    release: Release,
    ready: Found,
    api: Api,
    last: Callable[[], bool] = lambda: True,
) -> None:
    """Swap all nodes, and watch them; `last` is called then, and may raise a GatlingError.

    Raises NotPossible when all run the release of before and nothing was touched, and SwapUndone
    when it was taken back; then recovery looks at each pod.
    """
    journal, suspend = context.journal, context.settings.hot.suspend
    context.interruption.shield()
    journal.phase(f"Upgrading {live.label} to {release.label} in memory")
    with contextlib.ExitStack() as listening:
        for node in ready.nodes.values():
            listening.enter_context(live_node.listening(node))
        with journal.step("hot_swap"):
            outcome = together.swap({
                name: together.Member(
                    node.node,
                    node.swap_request(live, release, ready.answers[name], suspend=suspend),
                )
                for name, node in ready.nodes.items()
            })  # fmt: skip
            if not outcome.all_done:
                _refused(outcome)
        slowest = max(one.suspended_ms for one in outcome.done.values())
        context.progress.note(
            f"{release.label} runs in {counted(len(outcome.done), 'pod')}; both releases ran side"
            f" by side for at most {outcome.apart_ms:.0f} ms, processes were suspended for at most"
            f" {slowest:.0f} ms"
        )
        try:
            _prove(context, release, ready, outcome.done, api)
            last()
        except GatlingError:
            with journal.step("swap_back"):
                _back(context, live, release, ready, outcome.done)
            raise
    nodes.of_all(lambda name, node: node.keep(outcome.done[name]), ready.nodes)


def _refused(outcome: together.Outcome) -> None:
    problems = outcome.failed or outcome.unknown
    what = "; ".join(f"{name}: {why}" for name, why in sorted(problems.items()))
    if outcome.touched or outcome.unknown or outcome.done:
        raise SwapUndone(f"The hot upgrade failed in a pod: {what}.")
    raise NotPossible(what)


def _prove(
    context: Context,
    release: Release,
    ready: Found,
    done: Mapping[str, Swapped],
    api: Api,
) -> None:
    """Watch all nodes; raise what speaks against the release."""
    app, settings = context.app, context.settings
    for name, one in done.items():
        if one.failed:
            raise SwapUndone(f"After the switch in the pod {name}: {'; '.join(one.failed)}.")
    seconds = min(settings.hot.watch, watch.WAITED_SECONDS)
    context.journal.phase(f"Watching {release.label}")
    host = names.host(app.primary_domain)

    def watched(name: str, node: Control) -> Watched:
        _healthy(api, name, settings.health.path, host, release)
        seen = node.watch(done[name], seconds)
        _healthy(api, name, settings.health.path, host, release)
        return seen

    with context.journal.step("watch"):
        for name, seen in nodes.of_all(watched, ready.nodes).items():
            if isinstance(seen, Exception):
                raise seen if isinstance(seen, SwapUndone) else SwapUndone(
                    f"The pod {name} could not be watched: {said(seen)}."
                )  # fmt: skip
            problem = verdict.against(seen, seconds)
            if problem:
                raise SwapUndone(f"In the pod {name}: {problem}",
                                 hint=CRASHED_HINT if seen.crashed else "")  # fmt: skip
            for note in verdict.beside(seen):
                context.progress.note(f"{name}: {note}")


def _healthy(api: Api, pod: str, path: str, host: str, release: Release) -> None:
    """Ask a pod as the readiness probe does; raises SwapUndone."""
    what = f"{release.label} failed its health check in the pod {pod}: GET {path}:"
    connection = http.client.HTTPConnection(host, timeout=HEALTH_SECONDS)
    try:
        connection.sock = api.connect(pod, HTTP)
        connection.sock.settimeout(HEALTH_SECONDS)
        connection.request("GET", path, headers={"X-Forwarded-Proto": "https"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ClusterFailed) as error:
        raise SwapUndone(f"{what} {said(error) or type(error).__name__}.") from error
    finally:
        connection.close()
    if status not in HEALTHY:
        raise SwapUndone(f"{what} it answered {status}.")


def _back(
    context: Context,
    live: Release,
    release: Release,
    ready: Found,
    done: Mapping[str, Swapped],
) -> None:
    """Swap all nodes back together. Recovery replaces the pods where that fails."""
    answers = {
        name: one and Answers(old=one.new, new=one.old) for name, one in ready.answers.items()
    }
    outcome = together.swap({
        name: together.Member(
            node.node,
            node.swap_request(
                release, live, answers[name], suspend=context.settings.hot.suspend, insist=True
            ),
        )
        for name, node in ready.nodes.items()
    })  # fmt: skip
    nodes.of_all(lambda name, node: node.restore_crashed(done[name]), ready.nodes)
    if outcome.all_done:
        context.progress.note(f"{live.label} runs again in all pods, with its previous states")
    else:
        why = "; ".join(f"{name}: {what}" for name, what in
                        sorted((outcome.failed | outcome.unknown).items()))  # fmt: skip
        context.progress.note(f"the upgrade could not be undone in memory: {why}")


def said(error: Exception) -> str:
    """An error in words, without the full stop."""
    what = error.what if isinstance(error, GatlingError) else str(error)
    return what.rstrip(". ")
