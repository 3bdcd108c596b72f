"""Jobs: commands of the live release that are run at certain times, on either kind of home alike.

The home (systemd timers, the embedded home's clock) or a person starts a run; what
becomes of it is decided here, in the process that attends to it: whether it is its turn, its time
limit, its log, its record. While it runs that process holds a lock (flock(2)) on a file of the
run's own, so that a run whose process was killed is known for one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import time
from typing import TYPE_CHECKING

from msgspec import structs

from gatling import times
from gatling.cleanup import cleaning, finally_, text_of
from gatling.errors import GatlingError, Interrupted, InvalidInput, NotFound, TimedOut
from gatling.files import open_lock
from gatling.interrupt import interruptible
from gatling.platform.applog import AppLog
from gatling.platform.base import run_mark
from gatling.project import processes
from gatling.project import settings as project_settings
from gatling.runtime import notifying, spec
from gatling.state import apps, releases, runs
from gatling.ui.output import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TextIO

    from gatling.paths import AppPaths
    from gatling.platform.open import Gatling
    from gatling.project.processes import Job
    from gatling.state.apps import App
    from gatling.state.releases import Release
    from gatling.state.runs import Cause, Outcome, Run

    Elsewhere = Callable[[Gatling, App, Release, Run, Job, Callable[[str], None]], None]

ENDING_SECONDS = 40.0
"""Time for a cancelled run to end, in seconds: its program has some of them."""
NAME_VARIABLE = "GATLING_PROCESS"
"""The variable that names the job to the program that is run for it."""


def defined(app: App) -> dict[str, Job]:
    """The jobs that the live release has, with what was set on the host."""
    if app.live_release is None:
        return {}
    every = project_settings.parse(app.effective).schedule
    return {name: job for name, job in every.items() if job.cron and job.command}


def scheduled(app: App) -> dict[str, Job]:
    """Those that are to be run now: none of an app that was stopped."""
    return defined(app) if app.wanted == "running" else {}


def follow(gatling: Gatling, name: str) -> list[str]:
    """Have an app's jobs run at their times, as the records are now; what could not be done.

    It raises nothing: a release that is live is so whatever becomes of its jobs. The caller holds
    the app's lock.
    """
    try:
        jobs = scheduled(apps.get(gatling.db, name))
        gatling.schedule.set(name, {job: found.cron for job, found in jobs.items()})
    except (GatlingError, OSError) as error:
        return [f"the times of the jobs of {name}: {text_of(error).rstrip('.')}"]
    return []


def known(gatling: Gatling, name: str, job: str) -> str:
    """The name of a job that the app has, or had; raises NotFound."""
    app = apps.get(gatling.db, name)
    if not re.match(processes.NAME, job) or (
        job not in defined(app) and not runs.of_app(gatling.db, name, job)
    ):
        raise NotFound(f"{name} has no job {job!r}.", hint=f"`gatling jobs list {name}`")
    return job


def run(
    gatling: Gatling,
    name: str,
    job: str,
    *,
    cause: Cause,
    on_line: Callable[[str], None] = lambda _: None,
    on_wait: Callable[[], None] = lambda: None,
    elsewhere: Elsewhere | None = None,
) -> Run:
    """Run a job to its end, or record that it is skipped; what was recorded.

    `elsewhere` runs the program of an app that does not run on this machine.

    Raises NotFound when there is no such job, InvalidInput when the app is not to run; Interrupted
    when it is called off while it waits for its turn.
    """
    _, found = _job(gatling, name, job, cause)
    paths = gatling.home.app(name)
    paths.jobs.mkdir(mode=0o700, exist_ok=True)
    try:
        with interruptible() as interruption, _turn(paths, job, found.overlap, on_wait) as ours:
            app, found = _job(gatling, name, job, cause)  # as they are after what was waited for
            settle(gatling, name)
            with _recorded(gatling, app, job, cause) as this:
                log, started = _log(paths, this), time.monotonic()
                if not ours:
                    return _ended(gatling, log, this, "skipped", "The previous run has not ended.")
                outcome, error = _program(gatling, app, found, this, log, on_line, elsewhere)
                interruption.shield()
                return _ended(gatling, log, this, outcome, error, time.monotonic() - started)
    except Interrupted:
        raise Interrupted(f"{job} was cancelled before it began.") from None


def settle(gatling: Gatling, name: str) -> None:
    """Mark runs whose process was killed as interrupted, and stop their remaining processes."""
    paths = gatling.home.app(name)
    for one in runs.running(gatling.db, name):
        if _holder(_file(paths, one.mark)) is None:
            gatling.tasks.end_runs(paths, one.mark)
            _end_elsewhere(gatling, name, one)
            runs.end(gatling.db, one.id, "interrupted", error="Its process was killed.")
            _file(paths, one.mark).unlink(missing_ok=True)


def object_name(run: Run) -> str:
    """The name of the Job of a run on a cluster, before that of its app."""
    return f"job-{run.mark}"


def _end_elsewhere(gatling: Gatling, name: str, run: Run) -> None:
    """Delete the Job of a run on a cluster; one that is left ends by its own time limit."""
    app = apps.get(gatling.db, name)
    if app.platform is None:
        return
    from gatling.platform.kubernetes import place
    from gatling.platform.kubernetes.pods import part_name

    with contextlib.suppress(GatlingError), place.opened(gatling.db, app) as api:
        api.remove("Job", part_name(name, object_name(run)))


def end(gatling: Gatling, name: str, job: str | None = None) -> list[Run]:
    """Call off what runs of an app, or of one job, or waits to; what ran until then."""
    paths = gatling.home.app(name)
    settle(gatling, name)
    ending = [one for one in runs.running(gatling.db, name) if job in (None, one.job)]
    files = [*paths.jobs.glob(f"{job or '*'}.next"), *(_file(paths, one.mark) for one in ending)]
    for file in files:  # who waits for a turn first
        _tell(file, signal.SIGTERM)
    deadline = time.monotonic() + ENDING_SECONDS
    while any(_holder(file) is not None for file in files):
        if time.monotonic() > deadline:
            for file in files:
                _tell(file, signal.SIGKILL)
        time.sleep(0.05)
    settle(gatling, name)
    if job is None:
        gatling.tasks.end_runs(paths)
    return ending


def releases_in_use(gatling: Gatling, name: str) -> set[int]:
    """The releases whose trees runs under way are using."""
    settle(gatling, name)
    return {one.release for one in runs.running(gatling.db, name)}


def forget(gatling: Gatling, name: str) -> None:
    """Remove the logs and records of jobs that no retained release has.

    The caller holds the lock.
    """
    recorded, paths = runs.latest(gatling.db, name).keys(), gatling.home.app(name)
    if not recorded:
        return
    keys = apps.get(gatling.db, name).settings.keys() | releases.kept_settings(gatling.db, name)
    known = {key.split(".")[1] for key in keys if key.startswith("schedule.")}
    known |= {one.job for one in runs.running(gatling.db, name)}
    for job in recorded - known:
        log = paths.job_log(job)
        for file in (log, *log.parent.glob(f"{log.name}.*"), *paths.jobs.glob(f"{job}.*")):
            file.unlink(missing_ok=True)
        runs.forget(gatling.db, name, job)


def _job(gatling: Gatling, name: str, job: str, cause: Cause) -> tuple[App, Job]:
    """A job that may be run now."""
    app = apps.get(gatling.db, name)
    if app.live_release is None:
        raise InvalidInput(f"{name} has not been deployed yet.")
    if app.wanted == "stopped":
        raise InvalidInput(f"{name} has been stopped.", hint=f"`gatling start {name}`")
    if job not in defined(app):
        raise NotFound(f"{name} has no job {job!r}.", hint=f"`gatling jobs list {name}`")
    slot, here = app.live_slot or app.free_slot, app.platform is None
    if here and cause == "schedule" and not gatling.instances.statuses([(name, slot)]):
        raise InvalidInput("This home is down.", hint="`gatling up`")
    return app, defined(app)[job]


@contextlib.contextmanager
def _turn(paths: AppPaths, job: str, overlap: str, waiting: Callable[[], None]) -> Iterator[bool]:
    """Hold the turn of a job as its policy says; yields False when it is to be skipped."""
    with open_lock(paths.jobs / f"{job}.lock") as file:
        if overlap == "allow":
            _taken(file, fcntl.LOCK_SH)  # seen by the next one if the policy is another then
            yield True
        elif _taken(file, fcntl.LOCK_EX):
            yield True
        elif overlap == "skip":
            yield False
        else:
            with open_lock(paths.jobs / f"{job}.next") as queue:
                first = _taken(queue, fcntl.LOCK_EX, seconds=0.2)
                if first:
                    _hold(queue)
                    waiting()
                    fcntl.flock(file, fcntl.LOCK_EX)
            yield first


@contextlib.contextmanager
def _recorded(gatling: Gatling, app: App, job: str, cause: Cause) -> Iterator[Run]:
    """The record of a run, whose file is locked for as long as this process attends to it."""
    paths, token = gatling.home.app(app.name), os.urandom(8).hex()
    with (
        open_lock(_file(paths, token)) as held,
        finally_(lambda: _file(paths, token).unlink(missing_ok=True)),
    ):
        fcntl.flock(held, fcntl.LOCK_EX)
        _hold(held)
        this = runs.begin(
            gatling.db,
            app.name,
            job,
            cause=cause,
            actor=gatling.actor if cause == "by hand" else None,
            mark=token,
            release=app.live_release or 0,
        )
        try:
            yield this
        except (Interrupted, KeyboardInterrupt) as error:
            with cleaning(error):
                runs.end(gatling.db, this.id, "cancelled", error="The run was cancelled.")
            raise
        except BaseException as error:
            with cleaning(error):
                runs.end(gatling.db, this.id, "interrupted", error=text_of(error))
            raise


def _program(
    gatling: Gatling,
    app: App,
    job: Job,
    this: Run,
    log: Callable[[str], None],
    on_line: Callable[[str], None],
    elsewhere: Elsewhere | None,
) -> tuple[Outcome, str | None]:
    """Run the program of a run; how that ended."""

    def line(text: str) -> None:
        log(text)
        on_line(text)

    log(f"-- run {this.id} begins ({this.cause})")
    outcome: Outcome = "succeeded"
    try:
        paths, slot = gatling.home.app(app.name), app.live_slot or app.free_slot
        release = releases.kept(gatling.db, app.name, this.release)
        if elsewhere is not None:
            elsewhere(gatling, app, release, this, job, line)
            return outcome, None
        around = gatling.apps.surroundings(app.name)
        task = spec.task(around, app, release, slot, processes.words(job.command))
        env = task.env | {NAME_VARIABLE: this.job}
        task = structs.replace(task, kind="run", mark=run_mark(paths, this.mark), env=env)
        gatling.tasks.run(task, timeout=job.timeout, on_line=line)
    except TimedOut as error:
        outcome, said = "timed out", error.what
    except (Interrupted, KeyboardInterrupt):
        outcome, said = "cancelled", "The run was cancelled."
    except GatlingError as error:
        outcome, said = "failed", error.what
    except OSError as error:
        outcome, said = "failed", f"It could not be run: {error}."
    else:
        return outcome, None
    return outcome, said


def _ended(
    gatling: Gatling,
    log: Callable[[str], None],
    this: Run,
    outcome: Outcome,
    error: str | None,
    seconds: float | None = None,
) -> Run:
    took = f" after {duration(seconds)}" if seconds is not None else ""
    log(f"-- run {this.id} {outcome}{took}" + (f": {error}" if error else ""))
    ended = runs.end(gatling.db, this.id, outcome, seconds=seconds, error=error)
    notifying.soon(gatling)
    return ended or structs.replace(this, outcome=outcome, seconds=seconds, error=error)


def _log(paths: AppPaths, this: Run) -> Callable[[str], None]:
    """Return a function that writes lines to the job's log. A full disk ends no run."""
    opened: list[AppLog] = []

    def write(text: str) -> None:
        with contextlib.suppress(OSError):
            if not opened:
                opened.append(AppLog(paths.job_log(this.job)))
            opened[0].write(f"v{this.release}", text.encode("utf-8", "replace"))

    return write


def _holder(path: Path) -> int | None:
    """The process that holds such a file; None when there is none any more."""
    try:
        with path.open() as file:
            return None if _taken(file, fcntl.LOCK_EX) else int(file.read() or 0)
    except FileNotFoundError:
        return None


def _hold(file: TextIO) -> None:
    """Say who holds a file that was taken."""
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


def _tell(path: Path, number: signal.Signals) -> None:
    holder = _holder(path)
    if holder:
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder, number)


def _file(paths: AppPaths, mark: str) -> Path:
    return paths.jobs / f"{mark}.run"


def _taken(file: TextIO, how: int, seconds: float = 0) -> bool:
    """Take a lock that is free.

    A process that only checks (_holder) holds it briefly, hence `seconds`.
    """
    for _ in times.looks(seconds, 0.02):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, how | fcntl.LOCK_NB)
            return True
    return False
