"""Runs of jobs: when, with which release, how they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from gatling.state import notices
from gatling.times import now

if TYPE_CHECKING:
    import sqlite3

    from gatling.state.database import Database

Cause = Literal["schedule", "by hand"]
Outcome = Literal[
    "running", "succeeded", "failed", "timed out", "skipped", "cancelled", "interrupted"
]
FAILED = ("failed", "timed out", "interrupted")
"""The outcomes that are reported."""
KEPT = 100
"""Runs of each job; what is older is forgotten."""


class Run(Struct, frozen=True):
    """One run of a job, or one that was skipped since another had not ended."""

    id: int
    app: str
    job: str
    cause: Cause
    actor: str | None
    """The user who started it by hand."""
    mark: str
    """Names the file that is locked while it runs."""
    release: int
    outcome: Outcome
    error: str | None
    started_at: str
    seconds: float | None


def begin(
    db: Database, app: str, job: str, *, cause: Cause, actor: str | None, mark: str, release: int
) -> Run:
    """Record that a run begins, and forget old ones."""
    with db.transaction():
        ident = db.insert(
            "INSERT INTO runs (app, job, cause, actor, mark, release, started_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            app,
            job,
            cause,
            actor,
            mark,
            release,
            now(),
        )
        db.execute(
            "DELETE FROM runs WHERE app = ? AND job = ? AND outcome != 'running' AND id <="
            " (SELECT id FROM runs WHERE app = ? AND job = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
            app,
            job,
            app,
            job,
            KEPT,
        )
    return get(db, ident)


def end(
    db: Database,
    ident: int,
    outcome: Outcome,
    *,
    seconds: float | None = None,
    error: str | None = None,
) -> Run | None:
    """Record how a run ended, unless that is known; None when its app has been removed."""
    with db.transaction():
        ended = db.execute(
            "UPDATE runs SET outcome = ?, seconds = ?, error = ?"
            " WHERE id = ? AND outcome = 'running'",
            outcome,
            seconds,
            error,
            ident,
        )
        row = db.row("SELECT * FROM runs WHERE id = ?", ident)
        run = None if row is None else _run(row)
        if ended and run and outcome in FAILED:
            data = {"run": run.id, "job": run.job, "release": run.release, "outcome": outcome}
            title = f"{run.app}: the job {run.job} {outcome}"
            notices.add(db, "job.failed", title, error or "", app=run.app, data=data)
    return run


def forget(db: Database, app: str, job: str) -> None:
    """Remove the runs of a job."""
    with db.transaction():
        db.execute("DELETE FROM runs WHERE app = ? AND job = ?", app, job)


def get(db: Database, ident: int) -> Run:
    """A run that is there."""
    (row,) = db.rows("SELECT * FROM runs WHERE id = ?", ident)
    return _run(row)


def of_app(db: Database, app: str, job: str | None = None) -> list[Run]:
    """The runs of an app, or of one job, the newest first."""
    rows = db.rows(
        "SELECT * FROM runs WHERE app = ? AND (? IS NULL OR job = ?) ORDER BY id DESC",
        app,
        job,
        job,
    )
    return [_run(row) for row in rows]


def running(db: Database, app: str) -> list[Run]:
    """Runs without an outcome: under way, or left behind by a process that was killed."""
    rows = db.rows("SELECT * FROM runs WHERE app = ? AND outcome = 'running' ORDER BY id", app)
    return [_run(row) for row in rows]


def latest(db: Database, app: str) -> dict[str, Run]:
    """The newest run of each job."""
    rows = db.rows(
        "SELECT * FROM runs WHERE id IN (SELECT max(id) FROM runs WHERE app = ? GROUP BY job)", app
    )
    return {row["job"]: _run(row) for row in rows}


def _run(row: sqlite3.Row) -> Run:
    return Run(**{key: row[key] for key in row.keys()})  # noqa: SIM118 (a Row's own are its values)
