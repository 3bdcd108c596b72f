"""One attempt to make a release live: the lock, the record, the log, the clean-up."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gatling.build.callbacks import Callbacks
from gatling.deploy import lock, recovery
from gatling.deploy.interrupt import Interruption, interruptible
from gatling.deploy.journal import Journal
from gatling.errors import DiskFull, GatlingError, Interrupted, text_of
from gatling.project import settings as project_settings
from gatling.state import apps, audit, deployments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.deploy.probe import Proof
    from gatling.engine import Engine
    from gatling.project.settings import Settings
    from gatling.state.apps import App
    from gatling.state.deployments import Deployment
    from gatling.ui.progress import Progress


@dataclass
class Attempt:
    """What the parts of a deployment share; `proof` is set by the cut-over."""

    app: App
    """As it was when the lock had been taken."""
    deployment: Deployment
    settings: Settings
    journal: Journal
    interruption: Interruption
    progress: Progress
    proof: Proof | None = None
    callbacks: Callbacks = field(default_factory=Callbacks)
    """The project's, in a deployment of a commit."""
    domains: tuple[str, ...] = ()
    """New ones that the project names."""
    started: float = field(default_factory=time.monotonic)


@contextlib.contextmanager
def attempt(
    engine: Engine,
    name: str,
    *,
    cause: str,
    commit: str | None,
    progress: Progress,
    watch_pusher: bool = False,
) -> Iterator[Attempt]:
    """Hold the app's lock, record the deployment and how it ends.

    Whatever the block raises, what was live before serves on when this has ended, unless the
    decision for the new release was made already.
    """
    paths = engine.home.app(name)
    app = apps.get(engine.db, name)
    with (
        interruptible(watch_pusher=watch_pusher) as interruption,
        lock.hold(paths.lock, lambda: _say_for_whom(engine, name, progress)),
    ):
        if deployments.running(engine.db, name):
            recovery.reconcile(engine, name)
        app = apps.get(engine.db, name)
        deployment = deployments.begin(
            engine.db,
            name,
            cause=cause,
            actor=engine.actor,
            mark=f"{engine.home.root}:{os.urandom(8).hex()}",
            commit=commit,
        )
        progress.open_log(paths.deployment_log(deployment.id))
        this = Attempt(
            app=app,
            deployment=deployment,
            settings=project_settings.parse(app.effective),
            journal=Journal(engine.db, deployment.id, progress),
            interruption=interruption,
            progress=progress,
        )
        try:
            yield this
        except BaseException as error:
            interruption.shield()
            _failed(engine, this, error)
            if isinstance(error, OSError) and error.errno in (28, 122):  # ENOSPC, EDQUOT
                raise DiskFull(f"No space is left on the disk: {error.filename or ''}") from error
            raise
        else:
            deployments.end(
                engine.db,
                deployment.id,
                "succeeded",
                seconds=time.monotonic() - this.started,
                probe=this.proof.json() if this.proof else None,
                suspended_ms=this.proof.suspended_ms if this.proof else None,
            )
            detail = f"{cause}, deployment {deployment.id}"
            audit.record(engine.db, engine.actor, name, "deploy", detail)
        finally:
            this.callbacks.close()
            progress.close()


def _failed(engine: Engine, this: Attempt, error: BaseException) -> None:
    """Clean up, then record. Both as far as they go: on a full disk the record may not be possible.

    What is not recorded as ended is found and ended by the next command.
    """
    what = text_of(error)
    for line in (*(error.log if isinstance(error, GatlingError) else ()), f" !     {what}"):
        this.progress.record(line)
    try:
        recovery.reconcile(engine, this.app.name, own=this.deployment.id)
        deployments.end(
            engine.db,
            this.deployment.id,
            "cancelled" if isinstance(error, (Interrupted, KeyboardInterrupt)) else "failed",
            seconds=time.monotonic() - this.started,
            error=what,
            probe=this.proof.json() if this.proof else None,
        )
    except (GatlingError, OSError, sqlite3.Error) as second:
        why = text_of(second)
        this.progress.note(f"cleaning up was not complete: {why} The next command goes on with it.")


def _say_for_whom(engine: Engine, name: str, progress: Progress) -> None:
    """Say what this deployment waits for."""
    running = deployments.running(engine.db, name)
    if not running:
        progress.say(f"{name}: waiting for another command")
        return
    other = running[-1]
    step = other.steps[-1].name if other.steps else "beginning"
    what = f" of {other.commit[:9]}" if other.commit else ""
    progress.say(
        f"{name}: waiting for deployment {other.id} ({other.cause}{what} by {other.actor},"
        f" now at {step})"
    )
