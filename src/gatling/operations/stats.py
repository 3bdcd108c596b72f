"""The numbers of an app: its requests, its node, and the resources that it uses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct, structs

from gatling import times
from gatling.beam.sight import (
    MEASURED_MS,
    Numbers,
    Process,
    Table,
)
from gatling.errors import GatlingError, NotFound
from gatling.operations import overview
from gatling.operations.status import LastEnd
from gatling.platform import restarts
from gatling.project import settings as project_settings
from gatling.proxy import figures, request_log
from gatling.proxy.figures import Figures
from gatling.state import apps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.beam.sight import Reported, Sight, Telemetry
    from gatling.platform.open import Gatling
    from gatling.state.apps import App

WINDOW_SECONDS = 300.0
ROWS = 10


class Requests(Struct, frozen=True, kw_only=True):
    """The requests of a window of time. Rates and latencies are None without any request."""

    since: str
    """The begin of the window; later than was asked for where the log begins later."""
    until: str
    requests: int
    per_second: float | None
    statuses: dict[str, int]
    """How many responses were of each class, such as `2xx`."""
    failed: int
    """Responses of status 500 and above."""
    error_rate: float | None
    """Their share, from 0 to 1."""
    p50_ms: int | None
    p95_ms: int | None
    p99_ms: int | None
    longest_ms: int | None
    upgraded: int
    """Websockets that have ended; they are no requests here."""


class NodeStats(Struct, frozen=True, kw_only=True):
    """The numbers of the running node."""

    numbers: Numbers
    sockets: int
    processes: list[Process]
    """Those with the most memory."""
    processes_seen: int
    """How many were looked at; fewer than there are where the time was up."""
    queues: list[Process]
    """Those with the most messages in their queues; empty queues are left out."""
    busy: list[Process]
    """Those that have worked most since their start."""
    tables: list[Table]
    """The largest ETS tables."""
    tables_seen: int


class Event(Struct, frozen=True, kw_only=True):
    """The events that an app's libraries reported under one name."""

    name: str
    """Method and route, view and callback, repository and table, or worker and queue."""
    count: int
    failed: int
    mean_ms: float
    p95_ms: float
    """Estimated from ranges."""
    queue_ms: float
    """How long each waited for a database connection or for its turn, on average."""


class Events(Struct, frozen=True, kw_only=True):
    """The events that an app's libraries reported over :telemetry, the longest in all first."""

    since: str
    """The start of the counts: the deployment, or the first question after a start of the node."""
    routes: list[Event]
    live: list[Event]
    """LiveView callbacks and events."""
    queries: list[Event]
    jobs: list[Event]
    """Oban's."""


class InstanceStats(Struct, frozen=True, kw_only=True):
    """The numbers of one instance of an app on a cluster."""

    name: str
    """The name of its pod."""
    host: str
    """The name of the cluster's node that it runs on."""
    release: str
    state: str
    uptime: float | None
    """Seconds since the start of the instance."""
    restarts: int
    """Within the last hour, at most: Kubernetes counts since the start of the pod, and knows only
    when the last run began and ended."""
    memory: int | None
    """Bytes that the BEAM has in memory."""
    cpu_seconds: float | None
    """Processor time since the start of the instance."""
    node: NodeStats | None
    node_unknown: str | None
    events: Events | None


class AppStats(Struct, frozen=True, kw_only=True):
    """The numbers of an app."""

    app: str
    state: str
    release: str | None
    uptime: float | None
    """Seconds since the start of the instance."""
    memory: int | None
    """Bytes that the instance has in memory, with all processes below it."""
    memory_limit: str
    """The setting `limits.memory`."""
    cpu: float | None
    """Percent of one processor, on average since the start of the instance."""
    cpu_seconds: float | None
    """Processor time since the start of the instance."""
    restarts: list[LastEnd]
    """The ends within the last hour that nobody asked for, the oldest first."""
    requests: Requests | None
    requests_unknown: str | None
    """Why these are not known."""
    node: NodeStats | None
    node_unknown: str | None
    """Why these are not known."""
    events: Events | None
    """None for an app without telemetry, and with stats.telemetry = false."""
    instances: list[InstanceStats] = []
    """Those of an app on a cluster; `memory`, `cpu_seconds` and `events` are of all together."""
    instance: str | None = None
    """The one of them that the other numbers are of; None: all."""


def of_app(
    gatling: Gatling,
    name: str,
    since: float | None = None,
    *,
    rows: int = ROWS,
    utilisation_ms: int = MEASURED_MS,
) -> AppStats:
    """Measure an app; raises NotFound. Requests are those since a Unix time, or of five minutes.

    `rows` is the length of lists of processes and tables. The node's utilisation is measured over
    `utilisation_ms` milliseconds, for which the caller waits; with 0 it is not measured.
    """
    app = apps.get(gatling.db, name)
    if app.platform is not None:
        return _on_cluster(gatling, app, rows, utilisation_ms)
    now = time.time()
    status = overview.every(gatling, [app])[0]
    requests, no_requests = requested(
        gatling, name, now - WINDOW_SECONDS if since is None else since, now
    )
    node, events, no_node = measured(gatling, app, rows, utilisation_ms)
    return AppStats(
        app=name,
        state=status.state,
        release=status.release,
        uptime=status.uptime,
        memory=status.memory,
        memory_limit=status.memory_limit,
        cpu=status.cpu,
        cpu_seconds=status.cpu_seconds,
        restarts=ended(gatling, app),
        requests=requests,
        requests_unknown=no_requests,
        node=node,
        node_unknown=no_node,
        events=events,
    )


def of_instance(found: AppStats, name: str) -> AppStats:
    """The same, of one instance alone; raises NotFound."""
    for one in found.instances:
        if one.name == name:
            return structs.replace(
                found, instance=name, release=one.release, state=one.state, uptime=one.uptime,
                memory=one.memory, cpu=_cpu(one.cpu_seconds, one.uptime),
                cpu_seconds=one.cpu_seconds, node=one.node, node_unknown=one.node_unknown,
                events=one.events,
            )  # fmt: skip
    names = ", ".join(one.name for one in found.instances)
    raise NotFound(
        f"{found.app} has no instance {name!r}.",
        hint=f"It has: {names}." if names else "Only apps on a cluster have instances with names.",
    )


def _cpu(seconds: float | None, uptime: float | None) -> float | None:
    return round(100 * seconds / uptime, 1) if seconds is not None and uptime else None


class _Measured(NamedTuple):
    """The numbers of the node of an instance."""

    node: NodeStats
    events: Telemetry | None
    memory: int | None


def _on_cluster(gatling: Gatling, app: App, rows: int, utilisation_ms: int) -> AppStats:
    from gatling.operations import cluster_stats, clusters  # which load the client of Kubernetes

    def measure(node: Sight, of: App) -> _Measured:
        return _Measured(_of_node(node, rows, utilisation_ms), reported(node, of), node.resident())

    seen = cluster_stats.of_apps(gatling, [app], measure)[app.name]
    status = clusters.described(gatling, app, seen.pods, seen.problem)
    telemetry = [one.events for one in seen.measured.values() if one.events is not None]
    instances = []
    for pod in seen.pods:
        one = seen.measured.get(pod.name)
        instances.append(InstanceStats(
            name=pod.name, host=pod.node, release=pod.release, state=pod.state,
            uptime=times.seconds_since(pod.started_at) if pod.started_at else None,
            restarts=clusters.restarts_lately(pod), memory=one.memory if one else None,
            cpu_seconds=one.node.numbers.runtime_ms / 1000 if one else None,
            node=one.node if one else None, node_unknown=seen.unknown.get(pod.name),
            events=_events(one.events) if one else None,
        ))  # fmt: skip
    memory = [one.memory for one in instances if one.memory is not None]
    spent = [one.cpu_seconds for one in instances if one.cpu_seconds is not None]
    found = AppStats(
        app=app.name, state=status.state, release=status.release, uptime=None,
        memory=sum(memory) if memory else None, memory_limit=status.memory_limit, cpu=None,
        cpu_seconds=round(sum(spent), 2) if spent else None,
        restarts=[LastEnd(end.stamp, round(end.after, 3), end.cause)
                  for end in restarts.recent(sorted(seen.ends.values(), key=lambda end: end.at))],
        requests=None,
        requests_unknown="Gatling is not between the clients and the cluster",
        node=None,
        node_unknown=seen.problem or (
            f"there are {len(instances)} instances, each with a node" if instances
            else "the app does not run"
        ),
        events=_events(_together(telemetry)),
        instances=instances,
    )  # fmt: skip
    if len(instances) != 1:
        return found
    alone = of_instance(found, instances[0].name)
    return structs.replace(alone, state=status.state, instance=None)


def _together(found: Sequence[Telemetry]) -> Telemetry | None:
    """The events of several nodes as one."""
    if not found:
        return None
    summed: dict[tuple[str, ...], Reported] = {}
    for event in (event for one in found for event in one.events):
        key = (event.kind, *event.name)
        known = summed.get(key)
        summed[key] = event if known is None else structs.replace(
            known, count=known.count + event.count, failed=known.failed + event.failed,
            us=known.us + event.us, queue_us=known.queue_us + event.queue_us,
            ranges=[a + b for a, b in zip(known.ranges, event.ranges, strict=True)],
        )  # fmt: skip
    return structs.replace(
        found[0], since=min(one.since for one in found), events=list(summed.values())
    )


def requested(
    gatling: Gatling, app: str, since: float, until: float
) -> tuple[Requests | None, str | None]:
    """The requests of an app between two Unix times, or why they are not known."""
    log = gatling.router.request_log()
    if log is None:
        return None, "the proxy keeps no log of requests"
    gatling.router.tidy_log()
    try:
        window = request_log.read(log, since, until, app=app)
    except OSError as error:
        return None, f"{log} cannot be read: {error.strerror}"
    return summary(window.apps.get(app, Figures()), window.since, until), None


def summary(found: Figures, since: float, until: float) -> Requests:
    """Figures of a window as a person asks for them."""
    seconds = until - since
    return Requests(
        since=times.stamp_of(since),
        until=times.stamp_of(until),
        requests=found.requests,
        per_second=round(found.requests / seconds, 3) if found.requests and seconds > 0 else None,
        statuses={f"{n}xx": found.in_class(n) for n in range(1, 6) if found.in_class(n)},
        failed=found.failed,
        error_rate=found.error_rate,
        p50_ms=found.quantile(0.5),
        p95_ms=found.quantile(0.95),
        p99_ms=found.quantile(0.99),
        longest_ms=max(found.latencies, default=None),
        upgraded=found.upgraded,
    )


def measured(
    gatling: Gatling, app: App, rows: int = ROWS, utilisation_ms: int = MEASURED_MS
) -> tuple[NodeStats | None, Events | None, str | None]:
    """The numbers of an app's node and what its libraries reported, or why they are not known."""
    from gatling.deploy import live_node  # loads what talks to nodes

    if app.live_slot is None or app.wanted != "running":
        return None, None, "the app does not run"
    try:
        with live_node.observed(gatling, app) as node:
            found = _of_node(node, rows, utilisation_ms)
            return found, _events(reported(node, app)), None
    except GatlingError as error:
        return None, None, error.what
    except OSError as error:
        return None, None, f"a file of the release cannot be read: {error.strerror}"


def _of_node(node: Sight, rows: int, utilisation_ms: int) -> NodeStats:
    processes, processes_seen = node.processes("memory", rows)
    queues, _ = node.processes("message_queue_len", rows)
    busy, _ = node.processes("reductions", rows)
    tables, tables_seen = node.tables(rows)
    return NodeStats(
        numbers=node.numbers(utilisation_ms),
        sockets=node.sockets(),
        processes=processes,
        processes_seen=processes_seen,
        queues=[each for each in queues if each.queue],
        busy=busy,
        tables=tables,
        tables_seen=tables_seen,
    )


def reported(node: Sight, app: App) -> Telemetry | None:
    """The events that an app's libraries reported, which are counted from now on, or no more."""
    if not project_settings.parse(app.effective).stats.telemetry:
        node.detach()
        return None
    return node.telemetry() if node.attach() else None


def _events(found: Telemetry | None) -> Events | None:
    if found is None:
        return None
    slowest = sorted(found.events, key=lambda each: each.us, reverse=True)
    kinds = {
        kind: [_event(each) for each in slowest if each.kind == kind]
        for kind in ("route", "live", "query", "job")
    }
    return Events(
        since=times.stamp_of(found.since),
        routes=kinds["route"],
        live=kinds["live"],
        queries=kinds["query"],
        jobs=kinds["job"],
    )


def _event(each: Reported) -> Event:
    number = max(1, each.count)
    return Event(
        name=" ".join(each.name),
        count=each.count,
        failed=each.failed,
        mean_ms=round(each.us / number / 1000, 3),
        p95_ms=figures.estimated(each.ranges, 0.95),
        queue_ms=round(each.queue_us / number / 1000, 3),
    )


def ended(gatling: Gatling, app: App) -> list[LastEnd]:
    """The ends of the live instance within the last hour that nobody asked for."""
    if app.live_slot is None:
        return []
    recent = restarts.recent(gatling.instances.ends(app.name, app.live_slot))
    return [LastEnd(end.stamp, end.after, end.cause) for end in recent]
