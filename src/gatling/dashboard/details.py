"""The pages below an app: deployments, logs, jobs, settings, audit, confirmations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gatling import names
from gatling.dashboard import stream
from gatling.deploy.plan import explain
from gatling.errors import GatlingError, InvalidInput, NotFound
from gatling.operations import (
    audit,
    backups,
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
    from gatling.operations.backups import BackupEntry
    from gatling.operations.databases import DatabaseEntry
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
    """The requests of the prober, by when they began and how long they took."""
    end = max([1.0, *(one.at_ms for one in samples)])
    longest = max([1.0, *(one.took_ms for one in samples)])
    return [
        Dot(
            round(BAR * one.at_ms / end, 1),
            round(100 - 92 * one.took_ms / longest, 1),
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
    found = gatling.logs.read(
        visit.app, lines=SEARCHED if text else LINES,
        since=logs.parse_since(since) if since else None, wanted=wanted,
    )  # fmt: skip
    chosen = [line for line in found if text.casefold() in str(line).casefold()]
    live = [one for one in releases.every(gatling, visit.app) if one.kept]
    return {
        "lines": chosen[-LINES:],
        "shown": {key: query.get(key, "") for key in ("q", "since", "release", "process")},
        "processes": ["web", *(one.process for one in processes.every(gatling, visit.app))],
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
    """The settings of an app, its domains, and the names of its variables."""
    found = settings.effective(gatling, visit.app)
    waiting = config.pending(gatling.db, visit.app)
    sections: dict[str, list[tuple[str, Any, str]]] = {}
    for key, value in found.values.items():
        section = key.partition(".")[0]
        sections.setdefault(section, []).append((key, value, found.sources.get(key, "")))
    return {
        "sections": sections,
        "domains": apps.get(gatling.db, visit.app).domains,
        "variables": sorted({*config.of_app(gatling.db, visit.app), *waiting}),
        "waiting": waiting,
        "processes": processes.every(gatling, visit.app),
        "certificates": certificates.of(gatling, visit.app),
    }


def audit_of(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The newest changes: of an app, or all."""
    return {"entries": audit.latest(gatling, visit.app or None)}


def backups_of(gatling: Gatling, one: DatabaseEntry) -> list[BackupEntry] | GatlingError:
    """The backups of a database, the newest first; or why they are not known."""
    user = one.app or next((use.app for use in one.used_by), None)
    if user is None:
        return []
    try:
        return backups.every(gatling, user, one.name)[:-6:-1]
    except GatlingError as error:
        return error


# ---------------------------------------------------------------- confirmations


def _confirm(action: str, title: str, text: str, button: str, **more: Any) -> dict[str, Any]:
    return {
        "action": action, "title": title, "text": text, "button": button, "danger": False,
        "release": None, "plan": None, "passed": [], **more,
    }  # fmt: skip


def rollback(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The confirmation of a rollback, with its plan."""
    wanted = visit.query.get("release", "")
    number = names.release_number(wanted) if wanted else None
    if wanted and number is None:
        raise InvalidInput(f"{wanted[:40]!r} is not a release.", hint="For example v4.")
    number = deploys.rollback_target(gatling, visit.app, number)
    known = releases.every(gatling, visit.app)
    target = next((one for one in known if one.release == f"v{number}"), None)
    if target is None:
        raise NotFound(f"{visit.app} has no release v{number}.")
    return _confirm(
        "rollback", f"Roll back to v{number}",
        f"v{number} becomes the live release of {visit.app} again, with the config that it had.",
        f"Roll back to v{number}",
        release=target, plan=plan(gatling, visit.app, f"v{number}"),
        passed=deploys.passed_migrations(gatling, visit.app, number),
    )  # fmt: skip


def restart(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The confirmation of a restart."""
    apps.get(gatling.db, visit.app)
    return _confirm(
        "restart", f"Restart {visit.app}",
        "A new instance of the live release replaces the running one. No request is lost, and open"
        " sockets connect again.",
        f"Restart {visit.app}",
    )  # fmt: skip


def stop(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The confirmation of a stop."""
    apps.get(gatling.db, visit.app)
    return _confirm(
        "stop", f"Stop {visit.app}",
        "The instance and all workers end. The domains of the app answer with status 503 until it"
        " is started or deployed.",
        f"Stop {visit.app}", danger=True,
    )  # fmt: skip


def maintenance(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The confirmation of the maintenance page."""
    apps.get(gatling.db, visit.app)
    return _confirm(
        "maintenance", f"Show the maintenance page of {visit.app}",
        "Visitors see the maintenance page with status 503. The app keeps running.",
        "Show the maintenance page",
    )  # fmt: skip
