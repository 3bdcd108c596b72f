"""The jobs of an app: what there are, how they ran; run one by hand, or end what runs of one."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.errors import CommandFailed, Interrupted, InvalidInput, NotFound
from gatling.project import schedule
from gatling.runtime import jobs
from gatling.state import apps, audit, runs
from gatling.state.runs import Cause, Outcome  # noqa: TC001 (msgspec reads it)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.platform.open import Gatling
    from gatling.state.runs import Run


class RunEntry(Struct, frozen=True):
    """One run of a job, or one that was skipped since another had not ended."""

    id: int
    job: str
    cause: Cause
    actor: str | None
    """The user who started it by hand."""
    release: str
    outcome: Outcome
    error: str | None
    started_at: str
    seconds: float | None


class JobEntry(Struct, frozen=True):
    """A job of the live release."""

    job: str
    cron: str
    command: str
    timeout: float
    """Seconds."""
    overlap: str
    next: str | None
    """When it is due, in the host's time zone; None while the app is stopped."""
    last: RunEntry | None


def every(gatling: Gatling, app: str) -> list[JobEntry]:
    """The jobs of an app's live release; raises NotFound."""
    found = apps.get(gatling.db, app)
    jobs.settle(gatling, app)
    last = runs.latest(gatling.db, app)
    scheduled = jobs.scheduled(found)
    now = datetime.now(schedule.here())
    return [
        JobEntry(
            job=name,
            cron=job.cron,
            command=job.command,
            timeout=job.timeout,
            overlap=job.overlap,
            next=schedule.following(job.cron, now).isoformat() if name in scheduled else None,
            last=_entry(last[name]) if name in last else None,
        )
        for name, job in jobs.defined(found).items()
    ]


def history(gatling: Gatling, app: str, job: str | None) -> list[RunEntry]:
    """The runs of an app's jobs, or of one, the newest first; raises NotFound."""
    apps.get(gatling.db, app)
    jobs.settle(gatling, app)
    name = jobs.known(gatling, app, job) if job is not None else None
    return [_entry(one) for one in runs.of_app(gatling.db, app, name)]


def _entry(run: Run) -> RunEntry:
    return RunEntry(
        id=run.id,
        job=run.job,
        cause=run.cause,
        actor=run.actor,
        release=f"v{run.release}",
        outcome=run.outcome,
        error=run.error,
        started_at=run.started_at,
        seconds=run.seconds,
    )


def run(
    gatling: Gatling,
    app: str,
    job: str,
    *,
    on_line: Callable[[str], None],
    on_wait: Callable[[], None],
) -> RunEntry:
    """Run a job as `run_to_end` does, for a caller that wants it to succeed.

    Raises NotFound, InvalidInput when the run was skipped, Interrupted when it was cancelled, else
    CommandFailed when it has not succeeded.
    """
    ended = run_to_end(gatling, app, job, on_line=on_line, on_wait=on_wait)
    if ended.outcome == "succeeded":
        return ended
    what = f"Run {ended.id} of {job}: {ended.outcome}. {ended.error or ''}".rstrip()
    if ended.outcome == "skipped":
        raise InvalidInput(what, hint=f"`gatling jobs runs {app} {job}`; schedule.{job}.overlap")
    if ended.outcome == "cancelled":
        raise Interrupted(what)
    raise CommandFailed(what)


def run_to_end(
    gatling: Gatling,
    app: str,
    job: str,
    *,
    on_line: Callable[[str], None] = lambda _: None,
    on_wait: Callable[[], None] = lambda: None,
) -> RunEntry:
    """Run a job now, and return the run once it has ended, however that was.

    Its time limit and its overlap policy hold. `on_line` gets its output, `on_wait` is called when
    another run is waited for. Raises NotFound, and InvalidInput when the app is stopped.
    """
    name = jobs.known(gatling, app, job)  # before the audit has it: the app, and the job, are there
    audit.record(gatling.db, gatling.actor, app, "jobs run", name)
    return _entry(
        jobs.run(
            gatling, app, job, cause="by hand", on_line=on_line, on_wait=on_wait,
            elsewhere=_elsewhere(gatling, app),
        )
    )  # fmt: skip


def due(gatling: Gatling, app: str, job: str) -> None:
    """Run a job whose time has come; how it ended is recorded. Raises as `jobs.run` does."""
    jobs.run(gatling, app, job, cause="schedule", elsewhere=_elsewhere(gatling, app))


def _elsewhere(gatling: Gatling, app: str) -> jobs.Elsewhere | None:
    if apps.get(gatling.db, app).platform is None:
        return None
    from gatling.operations import cluster_runs

    return cluster_runs.job


def cancel(gatling: Gatling, app: str, job: str) -> list[RunEntry]:
    """End what runs of a job, and return it; its next times stay. Raises NotFound for nothing."""
    name = jobs.known(gatling, app, job)
    ended = jobs.end(gatling, app, name)
    if not ended:
        raise NotFound(f"{name} of {app} is not running.")
    audit.record(gatling.db, gatling.actor, app, "jobs cancel", name)
    return [_entry(one) for one in ended]
