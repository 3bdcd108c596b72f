"""The pages: which there are, and what those of all apps and of one app show."""

from __future__ import annotations

import os
import shutil
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
from msgspec import Struct

from gatling.dashboard import clusters, confirmations, databases, details, drawing, rewinds
from gatling.dashboard.visit import Page
from gatling.deploy import live_node
from gatling.errors import GatlingError
from gatling.operations import (
    certificates,
    deployments,
    releases,
    sampling,
    stats,
    timeline,
)
from gatling.operations.session import opened
from gatling.state import apps, issuance, locks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gatling.dashboard.drawing import Chart
    from gatling.dashboard.visit import Visit
    from gatling.operations.stats import AppStats, Events, NodeStats
    from gatling.operations.timeline import Point, Timeline
    from gatling.platform.open import Gatling

SPARK_SECONDS = 2 * 3600.0
SPARK_POINTS = 40
SPARK_FRESH_SECONDS = 20.0
"""How long a small chart is shown again. It has a point for each three minutes, and those of fifty
apps take two thirds of the time of their page, which is loaded again every five seconds."""
CHART_POINTS = 120
PING_SECONDS = 0.3
"""How long another command that talks to the node is waited for."""
SPANS = {"1h": 3600.0, "6h": 6 * 3600.0, "24h": 86400.0, "7d": 7 * 86400.0, "30d": 30 * 86400.0}
DUE_DAYS = 14
"""Days before its end from which on a certificate is shown as one that ends soon."""


class Host(Struct, frozen=True):
    """The machine."""

    name: str
    home: str
    load: float
    processors: int
    memory: int
    memory_total: int
    disk: int
    disk_total: int
    """Bytes of the file system that has the home."""


def host(gatling: Gatling) -> Host:
    """The machine's state."""
    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(gatling.home.root)
    return Host(
        os.uname().nodename, gatling.home.title, round(os.getloadavg()[0], 2),
        os.cpu_count() or 1, memory.total - memory.available, memory.total,
        disk.used, disk.total,
    )  # fmt: skip


def _apps(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """All apps that the person may see."""
    known = apps.every(gatling.db, clusters=True)
    every = [app for app in known if visit.grant.covers(app.name)]
    wanted = visit.query.get("q", "")
    shown = [app for app in every if wanted.casefold() in app.name]
    names = [app.name for app in shown]
    found = clusters.overviews(gatling, shown)
    places = clusters.places(shown)
    return {
        "host": host(gatling),
        "apps": found,
        "every": len(every),
        "q": wanted,
        "sparks": _sparks_of(gatling, names),
        "last": {name: next(iter(deployments.every(gatling, name, 1)), None) for name in names},
        "locks": {name: locks.of_app(gatling.db, name) for name in names},
        "watch": timeline.status(gatling, names),
        "asked": [one.app for one in found if one.state == "running" and one.app not in places],
        "places": places,
        "away": sorted({places[one.app] for one in found if one.state == clusters.ASKED}),
        "states": {},
    }


def _app(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """One app."""
    app = apps.get(gatling.db, visit.app)
    (found,) = clusters.overviews(gatling, [app])
    span = visit.query.get("span", "1h")
    span = span if span in SPANS else "1h"
    known = releases.every(gatling, visit.app)
    retained = [one for one in known if one.kept]
    live = next((one for one in known if one.live), None)
    shown = timeline.of_app(gatling, visit.app, time.time() - SPANS[span], points=CHART_POINTS)
    newer = retained[0] if retained and live and not retained[0].live else None
    return {
        "app": found,
        "place": app.platform,
        "instance": visit.query.get("instance", ""),
        "domains": app.domains,
        "lock": locks.of_app(gatling.db, visit.app),
        "span": span,
        "spans": list(SPANS),
        # requests to an app on a cluster do not pass the proxy here
        "charts": charts(shown, found.memory_limit)[-1 if app.platform else 0 :],
        "marks": shown.marks[::-1][:20],
        "watch": timeline.status(gatling, [visit.app]),
        "releases": known[:12],
        "previous": details.previous(gatling, visit.app, known),
        "deployments": deployments.every(gatling, visit.app, 8),
        "newer": newer,
        "plan": details.plan(gatling, visit.app, newer.release) if newer else None,
        "node": None,
        "asked": [visit.app] if found.state in ("running", clusters.ASKED) else [],
    }


def charts(shown: Timeline, limit: str) -> list[Chart]:
    """The charts of an app."""
    found = with_gaps(shown.points, shown.step)
    times, points = [at for at, _ in found], [point for _, point in found]
    span = (_seconds(shown.since), _seconds(shown.until))
    marks = [(_seconds(one.at), one.kind, one.at, one.text) for one in shown.marks]
    most = sampling.limit_in_bytes(limit)

    def drawn(
        name: str, title: str, unit: str, *series: tuple[str, Sequence[float | None]],
        least: float,
    ) -> Chart:  # fmt: skip
        return drawing.chart(name, title, unit, times, series, span=span, marks=marks, least=least)

    def each(value: Callable[[Point], float | None]) -> list[float | None]:
        return [value(point) if point is not None else None for point in points]

    return [
        drawn("requests", "Requests", "rate", ("requests", each(lambda p: p.per_second)),
              least=1.0),
        drawn("errors", "Errors", "rate",
              ("errors", each(lambda p: p.failed / p.seconds if p.seconds else None)), least=0.1),
        drawn("latency", "Latency", "ms", ("p95", each(lambda p: p.p95_ms)),
              ("p50", each(lambda p: p.p50_ms)), least=10.0),
        drawn("memory", "Memory", "bytes", ("instance", each(lambda p: p.memory)),
              ("node", each(lambda p: p.node_memory)), least=float(most or 64_000_000)),
    ]  # fmt: skip


def with_gaps(points: Sequence[Point], step: float) -> list[tuple[float, Point | None]]:
    """Points with their Unix times, and one without a value where some are missing."""
    found: list[tuple[float, Point | None]] = []
    for point in points:
        at = _seconds(point.at)
        if found and at - found[-1][0] > 2 * step:
            found.append((found[-1][0] + step, None))
        found.append((at, point))
    return found


_sparks: dict[tuple[Path, str], tuple[float, Chart]] = {}
"""Small charts by home and app, each with the time of its drawing."""


def _sparks_of(gatling: Gatling, names: Sequence[str]) -> dict[str, Chart]:
    """The small charts of apps; without those of which nothing was measured."""
    now, root = time.monotonic(), gatling.home.root
    known = {name: one for name in names if (one := _sparks.get((root, name)))}
    new = {name: one for name, (at, one) in known.items() if now - at < SPARK_FRESH_SECONDS}
    old = [name for name in names if name not in new]
    points = timeline.of_apps(gatling, old, time.time() - SPARK_SECONDS, SPARK_POINTS)
    drawn = {name: _spark(points[name]) for name in points}
    _sparks.update({(root, name): (now, one) for name, one in drawn.items()})
    return new | drawn


def _spark(points: Sequence[Point]) -> Chart:
    until = time.time()
    return drawing.chart(
        "requests", "Requests", "rate", [_seconds(p.at) for p in points],
        [("requests", [p.per_second for p in points])], span=(until - SPARK_SECONDS, until),
    )  # fmt: skip


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


class Measured(NamedTuple):
    """The numbers of an app's node, or why they are not known."""

    node: NodeStats | None
    events: Events | None
    node_unknown: str | None


def ask_node(name: str) -> Measured:
    """The numbers of an app's node that a page shows; takes as long as the node does."""
    with opened() as gatling:
        app = apps.get(gatling.db, name)
        # the page shows no utilisation, for which the node would be watched for a fifth of a second
        return Measured(*stats.measured(gatling, app, utilisation_ms=0))


def ask_instances(name: str) -> AppStats:
    """The numbers of an app on a cluster; takes as long as the cluster and the nodes do."""
    with opened() as gatling:
        return stats.of_app(gatling, name, utilisation_ms=0)


def ping(name: str) -> str:
    """Why a node does not answer; empty if it does. Takes as long as the node does."""
    with opened() as gatling:
        try:
            live_node.seen(gatling, apps.get(gatling.db, name), PING_SECONDS)
        except GatlingError as error:
            return error.what
    return ""


def _certificates(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The certificates of all apps that the person may see."""
    names = [app.name for app in apps.every(gatling.db) if visit.grant.covers(app.name)]
    rows = [(name, one) for name in names for one in certificates.of(gatling, name)]
    return {
        "rows": sorted(rows, key=lambda row: row[1].not_after),
        "due_days": DUE_DAYS,
        "errors": [
            (name, error) for name in names if (error := issuance.of_app(gatling.db, name).error)
        ],
    }


EVERY = (
    Page("/", ("apps",), "apps.html", _apps, live="pings"),
    Page("/certificates", ("apps",), "certificates.html", _certificates),
    Page("/databases", ("db list",), "databases.html", databases.page, live="databases"),
    Page("/audit", ("audit",), "audit.html", details.audit_of),
    Page("/apps/{app}", ("status", "stats", "watch show", "releases", "deployments", "plan"),
         "app.html", _app, live="node"),
    Page("/apps/{app}/deployments", ("deployments",), "deployments.html", details.deployments_of),
    Page("/apps/{app}/deployments/{id}", ("deployments",), "deployment.html", details.deployment),
    Page("/apps/{app}/logs", ("logs",), "logs.html", details.logs_of),
    Page("/apps/{app}/jobs", ("jobs list", "jobs runs"), "jobs.html", details.jobs_of),
    Page("/apps/{app}/settings", ("settings list", "info", "domains list"), "settings.html",
         details.settings_of),
    Page("/apps/{app}/audit", ("audit",), "audit.html", details.audit_of),
    Page("/apps/{app}/rewind", ("rollback",), "rewind.html", rewinds.page, live="rewind",
         clusters=False),
    *(
        Page(f"/apps/{{app}}/{action}", (command,), "confirm.html", gather,
             clusters=action not in ("pool", "pool/off"))
        for action, command, gather in (
            ("rollback", "rollback", confirmations.rollback),
            ("restart", "restart", confirmations.restart),
            ("stop", "stop", confirmations.stop),
            ("maintenance", "maintenance on", confirmations.maintenance),
            ("settings/set", "settings set", confirmations.set_setting),
            ("settings/unset", "settings unset", confirmations.unset_setting),
            ("config/set", "config set", confirmations.set_variable),
            ("config/unset", "config unset", confirmations.unset_variable),
            ("pool", "db pool", confirmations.pool),
            ("pool/off", "db pool", confirmations.pool_off),
            ("jobs/run", "jobs run", confirmations.run_job),
            ("jobs/cancel", "jobs cancel", confirmations.cancel_job),
        )
    ),
)  # fmt: skip
