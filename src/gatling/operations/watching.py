"""Watch a release in the background, and return to the one before if it serves worse."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from gatling import times
from gatling.deploy import watch as background
from gatling.deploy.cutover import previous
from gatling.deploy.evidence import judgement, traffic
from gatling.errors import GatlingError, NotFound
from gatling.operations import deploys
from gatling.operations.proving import Proving
from gatling.platform import lock
from gatling.runtime import notifying
from gatling.state import apps, audit, deployments, watches
from gatling.text import counted
from gatling.ui.output import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.platform.open import Gatling
    from gatling.state.watches import Watch
    from gatling.ui.progress import Progress

LOOK_SECONDS = 2.0
SURE = 3
"""A problem must be there for so many looks in a row."""
HANDOVER_SECONDS = 5.0


def attend(gatling: Gatling, name: str, progress: Progress) -> None:
    """Watch an app's release until its time is over; at once nothing where another process does."""
    proving, missed = Proving(gatling, name, LOOK_SECONDS), 0
    with _alone(gatling, name) as alone:
        while alone:
            try:
                watch, app = watches.of_app(gatling.db, name), apps.get(gatling.db, name)
            except NotFound:  # it was unloaded
                return
            if watch is None:
                return
            if not background.concerns(watch, app):
                if watches.unproven(gatling.db, name, app.live_release):
                    return  # a start of the app ends it
                watches.end(gatling.db, watch)
                continue
            pending = watch.unproven == ""
            if not background.runs(gatling, app):
                missed += 1
                if not pending or missed > SURE:
                    return
                time.sleep(LOOK_SECONDS)  # it may just be started again, as another release
                continue
            missed = 0
            problem = proving.look(watch) if pending else ""
            over = time.time() >= watch.until
            if watch.judges and not problem and not (pending and over):
                problem = _lasting(gatling, watch)
            if problem:
                _undo(gatling, watch, problem, progress)
            elif over and watch.unproven:
                return  # it stays recorded that the release does not boot
            elif over and not pending:
                _end_well(gatling, watch)


@contextlib.contextmanager
def _alone(gatling: Gatling, name: str) -> Iterator[bool]:
    """Whether this process may watch; one that is just ending is waited for."""
    for last in times.looks(HANDOVER_SECONDS, LOOK_SECONDS / 10):
        with lock.try_hold(gatling.home.app(name).watch_lock) as held:
            if held or last:
                yield held
                return


def _lasting(gatling: Gatling, watch: Watch) -> str:
    """The problem of a release that is there in each of some looks; empty after one without."""
    problem, pause = "", max(0.0, min(LOOK_SECONDS, watch.until - time.time()))
    for _ in range(SURE):
        time.sleep(pause)
        app = apps.get(gatling.db, watch.app)
        if watches.of_app(gatling.db, watch.app) != watch or not background.concerns(watch, app):
            return ""
        problem = background.problem(gatling, app, watch)
        if not problem:
            return ""
        # Not shortened by the end of the watch: looks at the same moment would be one look.
        pause = LOOK_SECONDS
    return problem


def _undo(gatling: Gatling, watch: Watch, problem: str, progress: Progress) -> None:
    """Return to the release before, unless a deployment is under way."""
    with lock.try_hold(gatling.home.app(watch.app).lock) as free:
        pass
    if not free:
        return
    what = f"v{watch.release} after {duration(time.time() - watch.switched)}: {problem}"
    audit.record(gatling.db, gatling.actor, watch.app, "undo", what)
    progress.say(f"{watch.app}: undoing {what}")
    try:
        deploys.undo(gatling, watch, problem, progress=progress)
    except GatlingError as error:
        if watch.unproven is None:
            watches.end(gatling.db, watch)
        else:
            watches.prove(gatling.db, watch, problem)  # what starts next is the release before
        failed = f"v{watch.release} is still live: {error.what}"
        audit.record(gatling.db, gatling.actor, watch.app, "undo failed", failed)
        raise
    deployments.undone(gatling.db, watch.deployment, f"v{watch.release} was undone. {problem}")
    notifying.soon(gatling)


def _end_well(gatling: Gatling, watch: Watch) -> None:
    """Record that a release has served well until the end of its watch."""
    app = apps.get(gatling.db, watch.app)
    seen = traffic.since(gatling, app, app.live_slot or 1, watch.switched)
    cut = previous.let_go(gatling, watch)
    if cut is None:
        time.sleep(LOOK_SECONDS)
        return  # a deployment is under way, which another look will find done
    if not watch.judges:
        watches.end(gatling.db, watch)
        return
    seconds = time.time() - watch.switched
    said = judgement.in_words(background.before(watch), seen, seconds)
    said = said or "too few requests to compare"
    if cut:
        said = f"{said}; {counted(cut, 'connection')} to v{watch.previous} closed"
    if watches.end(gatling.db, watch):
        audit.record(gatling.db, gatling.actor, watch.app, "watched", f"v{watch.release}: {said}")
