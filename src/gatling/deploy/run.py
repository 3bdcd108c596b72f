"""One attempt to make a release live: the lock, the record, the log, the clean-up."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from typing import TYPE_CHECKING

from gatling import text
from gatling.cleanup import text_of
from gatling.deploy import deployment_log, heartbeat, outcome
from gatling.deploy.context import Context
from gatling.deploy.journal import Journal
from gatling.deploy.watcher import Watcher
from gatling.errors import DiskFull, GatlingError, Interrupted, Locked, is_full
from gatling.interrupt import interruptible
from gatling.platform import lock
from gatling.project import settings as project_settings
from gatling.state import apps, audit, deployments, locks, moves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatling.deploy.early import Waiting
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.ui.progress import Progress


@contextlib.contextmanager
def attempt(
    gatling: Gatling,
    name: str,
    *,
    cause: str,
    commit: str | None,
    progress: Progress,
    watch_pusher: bool = False,
    same_release: bool = False,
    moves_app: bool = False,
    waiting: Waiting | None = None,
    first: Callable[[App, str], None] = lambda _app, _mark: None,
) -> Iterator[Context]:
    """Hold the app's lock, record the deployment and how it ends.

    Raises Locked for an app that an operator has locked, unless it is the `same_release` that runs
    afterwards, and InvalidInput while two places serve it, unless the deployment `moves_app`.
    `first` is called with the app and the mark of the deployment's programs before anything is
    recorded; whatever it raises leaves no record. The mark is that of `waiting`, if it is there: a
    VM that is ended when the lock has to be waited for.

    An error of the block before the decision is raised here, and the live release stays live. An
    error after the decision is recorded as a warning: the deployment has succeeded.
    """
    paths = gatling.home.app(name)
    app = apps.get(gatling.db, name)
    with (
        interruptible(watch_pusher=watch_pusher) as interruption,
        lock.hold(paths.lock, lambda: _wait(gatling, name, progress, waiting)),
    ):
        if deployments.running(gatling.db, name):
            from gatling.deploy import recovery

            recovery.reconcile(gatling, name)
        app = apps.get(gatling.db, name)
        if not same_release:
            _refuse_if_locked(gatling, app, cause)
        if not moves_app:
            moves.need_one(gatling.db, name)
        mark = waiting.mark if waiting else f"{gatling.home.root}:{os.urandom(8).hex()}"
        first(app, mark)
        deployment = deployments.begin(
            gatling.db,
            name,
            cause=cause,
            actor=gatling.actor,
            mark=mark,
            commit=commit,
        )
        watcher = Watcher(gatling.home, name)
        progress.open_log(paths.deployment_log(deployment.id))
        context = Context(
            app=app,
            deployment=deployment,
            settings=project_settings.parse(app.effective),
            journal=Journal(gatling.db, deployment.id, progress),
            interruption=interruption,
            progress=progress,
        )
        try:
            with heartbeat.beating(progress, context.journal.doing):
                yield context
        except BaseException as error:
            interruption.shield()
            if not is_decided(gatling, context):
                _failed(gatling, context, error)
                if isinstance(error, OSError) and is_full(error):
                    raise DiskFull(
                        f"No space is left on the disk: {error.filename or ''}"
                    ) from error
                raise
            context.warn(error)
            _succeeded(gatling, context)
        else:
            interruption.shield()
            _succeeded(gatling, context)
        finally:
            _close_callbacks(context)
            progress.close()
            watcher.end(recovered=_has_ended(gatling, deployment.id))
            from gatling.runtime import notifying

            notifying.soon(gatling)


def _refuse_if_locked(gatling: Gatling, app: App, cause: str) -> None:
    """Raise Locked, with the reason, for an app that takes no deployment."""
    held = locks.of_app(gatling.db, app.name)
    if held is None:
        return
    audit.record(gatling.db, gatling.actor, app.name, "refused", f"{cause}: the app is locked")
    serving = f" v{app.live_release} still serves." if app.live_release is not None else ""
    raise Locked(
        f"{app.name} is {locks.describe(held)}. Nothing was changed.{serving}",
        hint=f"`gatling unlock {app.name}` allows deployments again.",
    )


def _close_callbacks(context: Context) -> None:
    """End the project's callbacks. The outcome of the deployment is recorded already."""
    try:
        context.callbacks.close()
    except Exception as error:  # noqa: BLE001
        context.progress.note(f"The project's callbacks did not end cleanly: {text_of(error)}")


def _has_ended(gatling: Gatling, ident: int) -> bool:
    try:
        return deployments.get(gatling.db, ident).outcome != "running"
    except (GatlingError, sqlite3.Error):
        return False


def is_decided(gatling: Gatling, context: Context) -> bool:
    """Whether the deployment's release is recorded as live; not, when the records are unreadable.

    Recovery reads them again then.
    """
    try:
        deployment = deployments.get(gatling.db, context.deployment.id)
        return outcome.decided(deployment, apps.get(gatling.db, context.app.name))
    except (GatlingError, sqlite3.Error):
        return False


def _succeeded(gatling: Gatling, context: Context) -> None:
    """Finish what the decision asks for if a step after it failed, and record the success."""
    name, ident = context.app.name, context.deployment.id
    if context.result.warnings:
        with context.tolerated():
            from gatling.deploy import recovery

            recovery.reconcile(gatling, name, own=ident)
    with context.tolerated():
        paths = gatling.home.app(name)
        deployment_log.keep_samples(paths, ident, context.result.proof)
    with context.tolerated():
        said = "; ".join(dict.fromkeys(context.result.warnings))
        live = deployments.get(gatling.db, ident).release
        deployments.end(
            gatling.db,
            ident,
            "succeeded",
            seconds=time.monotonic() - context.started,
            error=f"v{live} is live, but: {said}" if said else None,
            probe=context.result.proof.json() if context.result.proof else None,
            suspended_ms=context.result.proof.suspended_ms if context.result.proof else None,
        )
        detail = f"{context.deployment.cause}, deployment {ident}"
        audit.record(gatling.db, gatling.actor, name, "deploy", detail)


def _failed(gatling: Gatling, context: Context, error: BaseException) -> None:
    """Clean up, then record. Both as far as possible: on a full disk the record may fail.

    Recovery finds and ends a deployment that is not recorded as ended. The reported error stays
    `error`.
    """
    name, ident = context.app.name, context.deployment.id
    for line in error.log if isinstance(error, GatlingError) else ():
        context.progress.record(line)
    try:
        from gatling.deploy import recovery

        recovery.reconcile(gatling, name, own=ident)
        deployment = deployments.get(gatling.db, ident)
        ended = outcome.outcome_of(deployment, apps.get(gatling.db, name), error)
        if isinstance(error, Interrupted):
            error.what = ended.text or error.what
        elif isinstance(error, GatlingError):
            serves = outcome.remains(deployment, apps.get(gatling.db, name))
            error.hint = "\n".join(filter(None, (error.hint, serves)))
        deployments.end(
            gatling.db,
            ident,
            ended.outcome,
            seconds=time.monotonic() - context.started,
            error=ended.text,
            probe=context.result.proof.json() if context.result.proof else None,
        )
        deployment_log.keep_samples(gatling.home.app(name), ident, context.result.proof)
    except Exception as second:  # noqa: BLE001 (it must not hide why the deployment failed)
        context.progress.note(f"cleanup did not finish: {text_of(second)} Recovery will retry it.")
    context.progress.record(f" !     {text_of(error)}")


def _wait(gatling: Gatling, name: str, progress: Progress, waiting: Waiting | None) -> None:
    """Say what this deployment waits for, and end its VM, which would only need memory."""
    if waiting is not None:
        waiting.close()
    running = deployments.running(gatling.db, name)
    if not running:
        progress.say(f"{name}: waiting for another command")
        return
    other = running[-1]
    step = text.step(other.steps[-1].name) if other.steps else "beginning"
    what = f" of {other.commit[:9]}" if other.commit else ""
    progress.say(
        f"{name}: waiting for deployment {other.id} ({other.cause}{what} by {other.actor},"
        f" now at {step})"
    )
