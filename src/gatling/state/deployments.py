"""Deployments: every attempt to make a release live, with its steps, its proof and its outcome."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from gatling.errors import NotFound
from gatling.state import notices
from gatling.times import now

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from gatling.state.database import Database

Outcome = Literal["running", "succeeded", "failed", "cancelled", "interrupted"]


class Step(Struct, frozen=True):
    """One step of a deployment; `seconds` is None while it runs."""

    name: str
    started_at: str
    seconds: float | None
    outcome: str


BOOT_CHECK = "boot_check"
"""The step that may go on when its deployment has ended."""
WATCH = "watch"
"""The cause of deployments that return from a release that served worse."""


class Deployment(Struct, frozen=True):
    """One attempt to make a release live."""

    id: int
    app: str
    cause: str
    actor: str
    mark: str
    """Carried in the environment of everything this deployment starts."""
    commit: str | None
    release: int | None
    previous: int | None
    slot: int | None
    strategy: str | None
    reasons: tuple[str, ...]
    outcome: Outcome
    error: str | None
    started_at: str
    seconds: float | None
    probe: dict[str, Any] | None
    suspended_ms: float | None
    steps: tuple[Step, ...]


def begin(
    db: Database, app: str, *, cause: str, actor: str, mark: str, commit: str | None
) -> Deployment:
    """Record that a deployment begins."""
    previous = db.value("SELECT live_release FROM apps WHERE name = ?", app)
    with db.transaction():
        ident = db.insert(
            "INSERT INTO deployments (app, cause, actor, mark, commit_id, previous, started_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            app,
            cause,
            actor,
            mark,
            commit,
            previous,
            now(),
        )
    return get(db, ident)


def set_target(
    db: Database,
    ident: int,
    *,
    release: int,
    slot: int | None,
    strategy: str,
    reasons: Sequence[str],
) -> None:
    """Record what the deployment is going to do."""
    with db.transaction():
        db.execute(
            "UPDATE deployments SET release = ?, slot = ?, strategy = ?, reasons = ? WHERE id = ?",
            release,
            slot,
            strategy,
            json.dumps(list(reasons)),
            ident,
        )


def end(
    db: Database,
    ident: int,
    outcome: Outcome,
    *,
    seconds: float | None = None,
    error: str | None = None,
    probe: dict[str, Any] | None = None,
    suspended_ms: float | None = None,
) -> None:
    """Record how a deployment ended; steps still open end with it.

    The boot check of a release that is live goes on (state.watches).
    """
    with db.transaction(durable=True):
        was = db.value("SELECT outcome FROM deployments WHERE id = ?", ident)
        db.execute(
            "UPDATE steps SET outcome = ?1 WHERE deployment = ?2 AND outcome = 'running' AND NOT"
            " (name = ?3 AND EXISTS"
            " (SELECT 1 FROM watches WHERE deployment = ?2 AND unproven = ''))",
            "failed" if outcome == "succeeded" else outcome,
            ident,
            BOOT_CHECK,
        )
        db.execute(
            "UPDATE deployments SET outcome = ?, seconds = ?, error = ?, probe = ?,"
            " suspended_ms = ? WHERE id = ?",
            outcome,
            seconds,
            error,
            json.dumps(probe) if probe else None,
            suspended_ms,
            ident,
        )
        if was == "running" and outcome != "cancelled":
            _notify(db, get(db, ident))


def _notify(db: Database, ended: Deployment) -> None:
    """Report the end of a deployment."""
    what = ended.cause if ended.release is None else f"{ended.cause} of v{ended.release}"
    data = {
        "deployment": ended.id, "cause": ended.cause, "actor": ended.actor,
        "commit": ended.commit, "release": ended.release, "previous": ended.previous,
        "strategy": ended.strategy, "seconds": ended.seconds,
    }  # fmt: skip
    title = f"{ended.app}: deployment {ended.id} {ended.outcome} ({what} by {ended.actor})"
    notices.add(
        db, f"deployment.{ended.outcome}", title, ended.error or "", app=ended.app, data=data
    )


def closed(db: Database, ident: int, connections: int) -> None:
    """Complete a deployment's report with the connections that its drain, or its end, closed."""
    _report(db, ident, cut=connections)


def asked(db: Database, ident: int, sockets: int) -> None:
    """Complete a deployment's report with the sockets that were asked to reconnect."""
    _report(db, ident, reconnected=sockets)


def _report(db: Database, ident: int, **numbers: int) -> None:
    with db.transaction():
        probe = (get(db, ident).probe or {}) | numbers
        db.execute("UPDATE deployments SET probe = ? WHERE id = ?", json.dumps(probe), ident)


def undone(db: Database, ident: int, text: str) -> None:
    """Record that a deployment's release was undone after it had succeeded."""
    with db.transaction(durable=True):
        db.execute("UPDATE deployments SET error = ? WHERE id = ?", text, ident)
        one = get(db, ident)
        data = {"deployment": one.id, "release": one.release, "commit": one.commit}
        title = f"{one.app}: v{one.release} was undone (deployment {one.id} by {one.actor})"
        notices.add(db, "deployment.failed", title, text, app=one.app, data=data)


def begin_step(db: Database, ident: int, position: int, name: str) -> None:
    """Record that a step begins."""
    with db.transaction():
        db.execute(
            "INSERT INTO steps (deployment, position, name, started_at) VALUES (?, ?, ?, ?)",
            ident,
            position,
            name,
            now(),
        )


def end_step(db: Database, ident: int, position: int, outcome: str, seconds: float) -> None:
    """Record how a step ended."""
    with db.transaction():
        db.execute(
            "UPDATE steps SET outcome = ?, seconds = ? WHERE deployment = ? AND position = ?",
            outcome,
            seconds,
            ident,
            position,
        )


def end_boot_check(db: Database, ident: int, outcome: str, seconds: float | None = None) -> None:
    """Record how the boot check ended that went on when its deployment had ended."""
    with db.transaction():
        db.execute(
            "UPDATE steps SET outcome = ?, seconds = ?"
            " WHERE deployment = ? AND name = ? AND outcome = 'running'",
            outcome,
            seconds,
            ident,
            BOOT_CHECK,
        )


def get(db: Database, ident: int, app: str | None = None) -> Deployment:
    """The deployment of that id (of that app); raises NotFound."""
    row = db.row("SELECT * FROM deployments WHERE id = ?", ident)
    if row is None or (app is not None and row["app"] != app):
        raise NotFound(f"There is no deployment {ident}{f' of {app}' if app else ''}.")
    return _deployments(db, [row])[0]


def of_app(db: Database, app: str, limit: int = 1000) -> list[Deployment]:
    """The app's deployments, the newest first."""
    rows = db.rows("SELECT * FROM deployments WHERE app = ? ORDER BY id DESC LIMIT ?", app, limit)
    return _deployments(db, rows)


def newest(db: Database, limit: int, *, after: int = 0) -> list[Deployment]:
    """The newest deployments of all apps with an id above `after`, the oldest of them first."""
    rows = db.rows("SELECT * FROM deployments WHERE id > ? ORDER BY id DESC LIMIT ?", after, limit)
    return _deployments(db, rows[::-1])


def running(db: Database, app: str | None = None) -> list[Deployment]:
    """Deployments without an outcome: under way, or left behind by a process that was killed."""
    if app is None:
        rows = db.rows("SELECT * FROM deployments WHERE outcome = 'running' ORDER BY id")
    else:
        rows = db.rows(
            "SELECT * FROM deployments WHERE outcome = 'running' AND app = ? ORDER BY id", app
        )
    return _deployments(db, rows)


def ever_live(db: Database, app: str) -> set[int]:
    """The releases that have been live: made so by a deployment, or live when another began."""
    rows = db.rows(
        "SELECT release FROM deployments WHERE app = ?1 AND outcome = 'succeeded'"
        " UNION SELECT previous FROM deployments WHERE app = ?1 AND previous IS NOT NULL",
        app,
    )
    return {row["release"] for row in rows}


def has_done(db: Database, app: str, step: str) -> bool:
    """Whether a deployment of the app has come to the good end of this step."""
    found = db.row(
        "SELECT 1 FROM steps JOIN deployments ON deployments.id = steps.deployment"
        " WHERE app = ? AND name = ? AND steps.outcome = 'succeeded' LIMIT 1",
        app,
        step,
    )
    return found is not None


def lately_live(db: Database, app: str) -> list[int]:
    """The releases that deployments have made live, the latest first."""
    rows = db.rows(
        "SELECT release FROM deployments WHERE app = ? AND outcome = 'succeeded'"
        " AND release IS NOT NULL GROUP BY release ORDER BY max(id) DESC",
        app,
    )
    return [row["release"] for row in rows]


def first_of(db: Database, app: str, release: int) -> Deployment | None:
    """The deployment that first made a release live; None when none did."""
    ident = db.value(
        "SELECT min(id) FROM deployments WHERE app = ? AND release = ? AND outcome = 'succeeded'",
        app,
        release,
    )
    return None if ident is None else get(db, ident)


def live_before(db: Database, app: str, live: int) -> int | None:
    """The release that was live before `live` was made so, as far as it succeeded.

    The return from a release that a watch has undone does not count: that release served worse.
    """
    value: int | None = db.value(
        "SELECT previous FROM deployments WHERE app = ? AND release = ? AND outcome = 'succeeded'"
        " AND previous IS NOT NULL AND previous != ? AND cause != ? ORDER BY id DESC LIMIT 1",
        app,
        live,
        live,
        WATCH,
    )
    return value


def _deployments(db: Database, rows: Sequence[sqlite3.Row]) -> list[Deployment]:
    """Rows with their steps, which are asked for once."""
    steps: dict[int, list[Step]] = {row["id"]: [] for row in rows}
    if rows:
        span = (min(steps), max(steps))
        for s in db.rows(
            "SELECT * FROM steps WHERE deployment BETWEEN ? AND ? ORDER BY deployment, position",
            *span,
        ):
            if s["deployment"] in steps:
                steps[s["deployment"]].append(
                    Step(s["name"], s["started_at"], s["seconds"], s["outcome"])
                )
    return [_deployment(row, steps[row["id"]]) for row in rows]


def _deployment(row: sqlite3.Row, steps: Sequence[Step]) -> Deployment:
    return Deployment(
        id=row["id"],
        app=row["app"],
        cause=row["cause"],
        actor=row["actor"],
        mark=row["mark"],
        commit=row["commit_id"],
        release=row["release"],
        previous=row["previous"],
        slot=row["slot"],
        strategy=row["strategy"],
        reasons=tuple(json.loads(row["reasons"])),
        outcome=row["outcome"],
        error=row["error"],
        started_at=row["started_at"],
        seconds=row["seconds"],
        probe=json.loads(row["probe"]) if row["probe"] else None,
        suspended_ms=row["suspended_ms"],
        steps=tuple(steps),
    )
