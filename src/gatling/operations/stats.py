"""The numbers of an app: its requests, its node, and the resources that it uses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import times
from gatling.beam.sight import Numbers, Process, Table  # noqa: TC001 (msgspec reads them)
from gatling.errors import GatlingError
from gatling.operations import overview
from gatling.operations.status import LastEnd
from gatling.platform import restarts
from gatling.project import settings as project_settings
from gatling.proxy import figures, request_log
from gatling.proxy.figures import Figures
from gatling.state import apps

if TYPE_CHECKING:
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


def of_app(
    gatling: Gatling, name: str, since: float | None = None, *, rows: int = ROWS
) -> AppStats:
    """Measure an app; raises NotFound. Requests are those since a Unix time, or of five minutes.

    `rows` is the length of lists of processes and tables.
    """
    app = apps.get(gatling.db, name)
    now = time.time()
    status = overview.every(gatling, [app])[0]
    requests, no_requests = requested(
        gatling, name, now - WINDOW_SECONDS if since is None else since, now
    )
    node, events, no_node = measured(gatling, app, rows)
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
    gatling: Gatling, app: App, rows: int
) -> tuple[NodeStats | None, Events | None, str | None]:
    """The numbers of an app's node and what its libraries reported, or why they are not known."""
    from gatling.deploy import live_node  # loads what talks to nodes

    if app.live_slot is None or app.wanted != "running":
        return None, None, "the app does not run"
    try:
        with live_node.observed(gatling, app) as node:
            found = _of_node(node, rows)
            return found, _events(reported(node, app)), None
    except GatlingError as error:
        return None, None, error.what
    except OSError as error:
        return None, None, f"a file of the release cannot be read: {error.strerror}"


def _of_node(node: Sight, rows: int) -> NodeStats:
    processes, processes_seen = node.processes("memory", rows)
    queues, _ = node.processes("message_queue_len", rows)
    busy, _ = node.processes("reductions", rows)
    tables, tables_seen = node.tables(rows)
    return NodeStats(
        numbers=node.numbers(),
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
