"""The pages below an app: deployments, logs, jobs, settings, audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gatling import names
from gatling.dashboard import clusters, stream
from gatling.deploy.plan import explain
from gatling.errors import GatlingError
from gatling.operations import (
    audit,
    certificates,
    deployments,
    deploys,
    jobs,
    plans,
    processes,
    releases,
    settings,
)
from gatling.platform import logs
from gatling.state import apps, config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.dashboard.visit import Visit
    from gatling.deploy.evidence.prober import Sample
    from gatling.operations.deployments import DeploymentEntry
    from gatling.operations.plans import PlanResult
    from gatling.operations.releases import ReleaseEntry
    from gatling.platform.open import Gatling

LINES = 500
SEARCHED = 20_000
"""The newest lines of a log, in which is searched."""
LISTED = 100
BAR = 600.0
"""The width of a timeline, in units of its own."""
LEAST = 2.0
"""The width of a bar that would not be seen."""
HELD = 3.0
"""The height of the line of a request that was held open, from above."""


class Bar(Struct, frozen=True):
    """A step of a deployment on its time axis."""

    name: str
    outcome: str
    seconds: float | None
    x: float
    width: float


class Dot(Struct, frozen=True):
    """A request of the prober."""

    x: float
    y: float
    width: float
    """Of the line that shows a request that was held open; otherwise 0."""
    ms: float
    at: float
    """Seconds since the first one."""
    failed: bool


def plan(gatling: Gatling, app: str, release: str) -> PlanResult | GatlingError:
    """How a release would replace the live one, by files and records; or why that is not known."""
    try:
        target = explain.target(gatling, app, names.release_number(release), None)
        return plans.proposed(gatling, app, target, None, files_only=True).result
    except GatlingError as error:
        return error


def previous(gatling: Gatling, app: str, known: Sequence[ReleaseEntry]) -> ReleaseEntry | None:
    """The release that a rollback leads to; None if there is none."""
    try:
        number = deploys.rollback_target(gatling, app, None)
    except GatlingError:
        return None
    return next((one for one in known if one.release == f"v{number}"), None)


def deployments_of(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The deployments of an app."""
    return {"deployments": deployments.every(gatling, visit.app, LISTED)}


def deployment(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """One deployment."""
    found = deployments.get(gatling, visit.app, visit.number())
    return {
        "one": found,
        "bars": bars(found),
        "dots": dots(deployments.samples(gatling, visit.app, found.id)),
        "probe": found.probe,
        "log": deployments.output(gatling, visit.app, found.id),
    }


def bars(found: DeploymentEntry) -> list[Bar]:
    """The steps one after the other. A step that runs reaches to the end."""
    took = [step.seconds or 0.0 for step in found.steps]
    total = max(sum(took), 0.001)
    made, at = [], 0.0
    for step, seconds in zip(found.steps, took, strict=True):
        x = BAR * at / total
        width = BAR * seconds / total if step.seconds is not None else BAR - x
        at += seconds
        width = max(LEAST, width)
        made.append(
            Bar(step.name, step.outcome, step.seconds, round(min(x, BAR - width), 1),
                round(width, 1))
        )  # fmt: skip
    return made


def dots(samples: Sequence[Sample]) -> list[Dot]:
    """The requests of the prober, by when they began and how long they took.

    One that was held open is a line as long as it lasted, above the others: its time is not that of
    a client, and the others are not measured by it.
    """
    held_until = [one.at_ms + one.took_ms for one in samples if one.held]
    end = max([1.0, *(one.at_ms for one in samples), *held_until])
    longest = max([1.0, *(one.took_ms for one in samples if not one.held)])
    return [
        Dot(
            round(BAR * one.at_ms / end, 1),
            HELD if one.held else round(100 - 92 * one.took_ms / longest, 1),
            max(LEAST, round(BAR * one.took_ms / end, 1)) if one.held else 0.0,
            one.took_ms,
            one.at_ms / 1000,
            one.failed,
        )
        for one in samples
    ]


def logs_of(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The newest lines of an app's log that a filter lets through."""
    query = visit.query
    stream.chosen(visit)
    text, since = query.get("q", ""), query.get("since", "")
    number = names.release_number(query.get("release", ""))
    wanted = logs.Wanted(f"v{number}" if number else None, query.get("process") or None)
    found, unknown = clusters.log(
        gatling, apps.get(gatling.db, visit.app), lines=SEARCHED if text else LINES,
        since=logs.parse_since(since) if since else None, wanted=wanted,
    )  # fmt: skip
    chosen = [line for line in found if text.casefold() in str(line).casefold()]
    live = [one for one in releases.every(gatling, visit.app) if one.kept]
    return {
        "lines": chosen[-LINES:],
        "unknown": unknown,
        "shown": {key: query.get(key, "") for key in ("q", "since", "release", "process")},
        "processes": list(
            dict.fromkeys(["web", *(one.process for one in processes.every(gatling, visit.app))])
        ),
        "releases": [one.release for one in live],
        "query": "&".join(
            f"{key}={_quoted(query[key])}" for key in ("q", "release", "process") if query.get(key)
        ),
    }


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def jobs_of(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The jobs of an app, and their runs."""
    return {
        "jobs": jobs.every(gatling, visit.app),
        "runs": jobs.history(gatling, visit.app, None)[:LISTED],
    }


def settings_of(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The settings of an app that were asked for, its domains, and the names of its variables."""
    found = settings.effective(gatling, visit.app)
    app, variables = apps.get(gatling.db, visit.app), config.of_app(gatling.db, visit.app)
    waiting = config.pending(gatling.db, visit.app)
    if app.live_release is None:
        waiting = sorted(variables)
    sections: dict[str, list[tuple[str, Any, str]]] = {}
    wanted, own = visit.query.get("q", "").strip().casefold(), bool(visit.query.get("own"))
    for key, value in found.values.items():
        section, source = key.partition(".")[0], found.sources.get(key, "")
        if wanted in key.casefold() and not (own and source == "default"):
            sections.setdefault(section, []).append((key, value, source))
    return {
        "sections": sections,
        "q": visit.query.get("q", ""),
        "own": own,
        "at": set(visit.query.get("at", "").split(",")),
        "domains": app.domains,
        "variables": sorted({*variables, *waiting}),
        "waiting": waiting,
        "processes": processes.every(gatling, visit.app),
        "certificates": certificates.of(gatling, visit.app),
    }


def audit_of(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The newest changes: of an app, or all."""
    return {"entries": audit.latest(gatling, visit.app or None)}
