"""The numbers of an app: its requests, its node, and the resources that it uses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import times
from gatling.beam.sight import Numbers, Process, Table  # noqa: TC001 (msgspec reads them)
from gatling.errors import NodeUnreachable
from gatling.operations import overview
from gatling.operations.overview import LastEnd
from gatling.platform import restarts
from gatling.proxy import request_log
from gatling.proxy.figures import Figures
from gatling.state import apps

if TYPE_CHECKING:
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
    tables: list[Table]
    """The largest ETS tables."""
    tables_seen: int


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
    restarts: list[LastEnd]
    """The ends within the last hour that nobody asked for, the oldest first."""
    requests: Requests | None
    requests_unknown: str | None
    """Why these are not known."""
    node: NodeStats | None
    node_unknown: str | None
    """Why these are not known."""


def of_app(gatling: Gatling, name: str, since: float | None = None) -> AppStats:
    """Measure an app; raises NotFound. Requests are those since a Unix time, or of five minutes."""
    app = apps.get(gatling.db, name)
    now = time.time()
    status = overview.every(gatling, [app])[0]
    requests, no_requests = requested(
        gatling, name, now - WINDOW_SECONDS if since is None else since, now
    )
    node, no_node = measured(gatling, app)
    return AppStats(
        app=name,
        state=status.state,
        release=status.release,
        uptime=status.uptime,
        memory=status.memory,
        memory_limit=status.memory_limit,
        cpu=status.cpu,
        restarts=ended(gatling, app),
        requests=requests,
        requests_unknown=no_requests,
        node=node,
        node_unknown=no_node,
    )


def requested(
    gatling: Gatling, app: str, since: float, until: float
) -> tuple[Requests | None, str | None]:
    """The requests of an app between two Unix times, or why they are not known."""
    log = gatling.router.request_log()
    if log is None:
        return None, "the proxy keeps no log of requests"
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


def measured(gatling: Gatling, app: App) -> tuple[NodeStats | None, str | None]:
    """The numbers of an app's node, or why they are not known."""
    from gatling.deploy import live_node  # loads what talks to nodes

    if app.live_slot is None or app.wanted != "running":
        return None, "the app does not run"
    try:
        with live_node.observed(gatling, app) as node:
            processes, processes_seen = node.processes("memory", ROWS)
            queues, _ = node.processes("message_queue_len", ROWS)
            tables, tables_seen = node.tables(ROWS)
            return NodeStats(
                numbers=node.numbers(),
                sockets=node.sockets(),
                processes=processes,
                processes_seen=processes_seen,
                queues=[each for each in queues if each.queue],
                tables=tables,
                tables_seen=tables_seen,
            ), None
    except NodeUnreachable as error:
        return None, error.what


def ended(gatling: Gatling, app: App) -> list[LastEnd]:
    """The ends of the live instance within the last hour that nobody asked for."""
    if app.live_slot is None:
        return []
    recent = restarts.recent(gatling.instances.ends(app.name, app.live_slot))
    return [LastEnd(end.stamp, end.after, end.cause) for end in recent]
