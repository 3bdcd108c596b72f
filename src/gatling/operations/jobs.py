"""Jobs by hand: run one now, or end what runs of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import CommandFailed, Interrupted, InvalidInput, NotFound
from gatling.runtime import jobs
from gatling.state import audit

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.platform.open import Gatling
    from gatling.state.runs import Run


def run(
    gatling: Gatling,
    app: str,
    job: str,
    *,
    on_line: Callable[[str], None],
    on_wait: Callable[[], None],
) -> Run:
    """Run a job now, and wait for its end; its time limit and its overlap policy hold.

    `on_line` gets its output, `on_wait` is called when another run is waited for. Raises NotFound,
    InvalidInput when the run was skipped, Interrupted when it was cancelled, else CommandFailed
    when it has not succeeded.
    """
    name = jobs.known(gatling, app, job)  # before the audit has it: the app, and the job, are there
    audit.record(gatling.db, gatling.actor, app, "jobs run", name)
    ended = jobs.run(gatling, app, job, cause="by hand", on_line=on_line, on_wait=on_wait)
    if ended.outcome == "succeeded":
        return ended
    what = f"Run {ended.id} of {job}: {ended.outcome}. {ended.error or ''}".rstrip()
    if ended.outcome == "skipped":
        raise InvalidInput(what, hint=f"`gatling jobs runs {app} {job}`; schedule.{job}.overlap")
    if ended.outcome == "cancelled":
        raise Interrupted(what)
    raise CommandFailed(what)


def cancel(gatling: Gatling, app: str, job: str) -> list[Run]:
    """End what runs of a job, and return it; its next times stay. Raises NotFound for nothing."""
    name = jobs.known(gatling, app, job)
    ended = jobs.end(gatling, app, name)
    if not ended:
        raise NotFound(f"{name} of {app} is not running.")
    audit.record(gatling.db, gatling.actor, app, "jobs cancel", name)
    return ended
