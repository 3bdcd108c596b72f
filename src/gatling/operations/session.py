"""A home, opened for a command."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from gatling.platform.open import open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.platform.open import Engine


@contextlib.contextmanager
def opened(app: str | None = None, *, create: bool = False) -> Iterator[Engine]:
    """The engine of the home in use. Only with `create` is a home created that does not exist.

    A command that changes an app names it: what a killed deployment has left of that app is put in
    order first. No command recovers another app, and one that only reads recovers none.
    """
    with open_engine(create=create) as engine:
        if app is not None and _unfinished(engine, app):
            from gatling.deploy import recovery  # noqa: PLC0415 (slow to load, seldom needed)

            recovery.report(recovery.recover_unfinished(engine, app))
        yield engine


@contextlib.contextmanager
def reading(app: str) -> Iterator[Engine]:
    """The engine of the home in use, for a command that only reads about an app.

    Says when a deployment of the app was killed and waits for its recovery.
    """
    with open_engine(create=False) as engine:
        if _unfinished(engine, app):
            from gatling.deploy import recovery  # noqa: PLC0415 (slow to load, seldom needed)

            for deployment in recovery.interrupted(engine, app):
                sys.stderr.write(
                    f"{app}: deployment {deployment.id} was interrupted; the next push to {app},"
                    f" or `gatling recover {app}`, brings it back into order\n"
                )
        yield engine


def _unfinished(engine: Engine, app: str) -> bool:
    wanted = "SELECT 1 FROM deployments WHERE outcome = 'running' AND app = ? LIMIT 1"
    return engine.db.row(wanted, app) is not None
