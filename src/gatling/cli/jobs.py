"""`gatling jobs …`: what an app runs by a schedule; and what timers call when a job is due."""

from __future__ import annotations

import contextlib
import signal
import threading
from datetime import datetime
from typing import TYPE_CHECKING

import click

from gatling.cli.common import app_argument, as_json, opened
from gatling.cli.groups import Group
from gatling.errors import Interrupted, InvalidInput, NotFound
from gatling.ui.output import ago, duration, echo, print_json, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.operations.jobs import JobEntry, RunEntry

job_argument = click.argument("job", metavar="JOB")


@click.group("jobs", cls=Group)
def jobs_command() -> None:
    """Manage the scheduled jobs of an app: [schedule.NAME] in gatling.toml.

    \b
    Examples:
      gatling jobs list shop
      gatling jobs run shop report
    """


@jobs_command.command("list")
@app_argument
@as_json
def list_command(app: str, as_json: bool) -> None:
    """List the jobs of APP with their next times and last results.

    \b
    Example:
      gatling jobs list shop
    """
    from gatling.operations import jobs

    with opened() as gatling:
        found = jobs.every(gatling, app)
    if as_json:
        print_json(found)
    elif not found:
        echo(f"The live release of {app} has no jobs.")
    else:
        table(
            ("job", "cron", "command", "next", "last run", "outcome"), [_job(one) for one in found]
        )


@jobs_command.command("runs")
@app_argument
@click.argument("job", metavar="[JOB]", required=False)
@as_json
def runs_command(app: str, job: str | None, as_json: bool) -> None:
    """List the last runs of APP's jobs, or of one job, newest first.

    \b
    Examples:
      gatling jobs runs shop
      gatling jobs runs shop report
    """
    from gatling.operations import jobs

    with opened() as gatling:
        found = jobs.history(gatling, app, job)
    if as_json:
        print_json(found)
    elif not found:
        echo(f"No job of {app} has run yet.")
    else:
        header = ("id", "job", "cause", "release", "outcome", "when", "took", "")
        table(header, [_row(one) for one in found])


@jobs_command.command("run")
@app_argument
@job_argument
def run_command(app: str, job: str) -> None:
    """Run a job of APP now and wait for its end. A failed job fails the command.

    The job's time limit and overlap policy apply, and its log has the output. Ctrl-C stops the run.

    \b
    Example:
      gatling jobs run shop report
    """
    from gatling.operations import jobs
    from gatling.platform import logs

    def waiting() -> None:
        echo(f"{job}: waiting for the current run to end", err=True)

    main = threading.main_thread().ident or 0
    logs.end_with_reader(1, lambda: signal.pthread_kill(main, signal.SIGHUP))
    with opened(app, clusters=True) as gatling:
        jobs.run(gatling, app, job, on_line=_printed(), on_wait=waiting)


@jobs_command.command("cancel")
@app_argument
@job_argument
def cancel_command(app: str, job: str) -> None:
    """Stop the runs of a job that are in progress. Later runs are not affected.

    \b
    Example:
      gatling jobs cancel shop report
    """
    from gatling.operations import jobs

    with opened(app, clusters=True) as gatling:
        ended = jobs.cancel(gatling, app, job)
    echo(f"{ended[0].job}: run {', '.join(str(one.id) for one in ended)} has ended.")


@click.command("job", hidden=True)
@click.argument("which", metavar="APP.JOB")
def job_command(which: str) -> None:
    """Run a job that is due; by the timers of a server, or the clock of an embedded home.

    \b
    Example:
      gatling job shop.report
    """
    from gatling import names
    from gatling.operations import jobs
    from gatling.platform.open import open_gatling

    app, _, job = which.partition(".")
    with (
        open_gatling(create=False) as gatling,
        # how it has ended is recorded, and no fault of who calls; what was stopped, removed or
        # deployed without that job just now is not due any more
        contextlib.suppress(NotFound, InvalidInput, Interrupted),
    ):
        jobs.due(gatling, names.app_name(app), job)


def _printed() -> Callable[[str], None]:
    """Return a function that prints a job's output for as long as somebody reads it."""

    def line(text: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # its end comes by a signal
            echo(text)

    return line


def _job(job: JobEntry) -> tuple[object, ...]:
    command = job.command if len(job.command) < 40 else f"{job.command[:39]}…"
    due = f"{datetime.fromisoformat(job.next):%Y-%m-%d %H:%M}" if job.next else "the app is stopped"
    last = (ago(job.last.started_at), job.last.outcome) if job.last else (None, None)
    return (job.job, job.cron, command, due, *last)


def _row(run: RunEntry) -> tuple[object, ...]:
    cause = f"{run.cause}, {run.actor}" if run.actor else run.cause
    took = duration(run.seconds) if run.seconds is not None else None
    return (run.id, run.job, cause, run.release, run.outcome, ago(run.started_at), took,
            run.error)  # fmt: skip
