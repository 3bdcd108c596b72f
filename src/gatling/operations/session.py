"""A home, opened for a command.

The modules that open a home are loaded then: help and completion pass this module, and open none.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from gatling.errors import GatlingError, NotOnCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatling.platform.open import Gatling
    from gatling.state.apps import App


CERTIFICATES = (
    "cert-manager obtains certificates there: `gatling settings set APP cluster.issuer=NAME`"
    " (docs/kubernetes.md, Certificates)."
)
"""The advice for commands for certificates of an app on a cluster."""
DATABASES = (
    "`gatling config set APP DATABASE_URL=ecto://…` names a database that pods can reach. Those of"
    " this machine cannot be reached from a cluster."
)
"""The same for commands for databases."""
PASSWORDS = "The ingress controller can ask for passwords: docs/kubernetes.md, Passwords."


@contextlib.contextmanager
def opened(
    app: str | None = None, *, clusters: bool = False, instead: str = ""
) -> Iterator[Gatling]:
    """Gatling with the home in use. A home that does not exist is not created: it has no apps.

    A command that changes an app names it. Raises NotFound for an app that does not exist. The app
    is first recovered from a killed deployment. No command recovers another app, and one that only
    reads recovers none. The hint of an error that is raised in the block names the app as well.

    Raises NotOnCluster for an app that runs on a cluster, unless the command names `clusters`.
    `instead` is what to do there.
    """
    from gatling.platform.open import open_gatling
    from gatling.state import apps, watches

    with _about(app), open_gatling(create=False) as gatling:
        if app is not None:
            _check(apps.get(gatling.db, app), clusters=clusters, instead=instead)
            if _unfinished(gatling, app):
                from gatling.deploy import recovery

                recovery.report(recovery.recover_unfinished(gatling, app))
            if watches.of_app(gatling.db, app) is not None:
                from gatling.deploy import watch

                watch.resume(gatling, app)  # its process may have been killed
        yield gatling


@contextlib.contextmanager
def created(check: Callable[[Gatling], object]) -> Iterator[Gatling]:
    """Gatling with the home in use, for a command that creates a home if none exists.

    `check` raises for what the command would refuse. It runs first, on the home as it is, so that
    a refused command leaves no home behind.
    """
    from gatling.platform.open import open_gatling

    with open_gatling(create=False) as gatling:
        check(gatling)
    with open_gatling() as gatling:
        yield gatling


@contextlib.contextmanager
def reading(app: str, *, clusters: bool = False) -> Iterator[Gatling]:
    """Gatling with the home in use, for a command that only reads about an app.

    Raises NotFound for an app that does not exist, and NotOnCluster as `opened` does.
    Says when a deployment of the app was killed and waits for its recovery.
    """
    from gatling.platform.open import open_gatling
    from gatling.state import apps

    with _about(app), open_gatling(create=False) as gatling:
        _check(apps.get(gatling.db, app), clusters=clusters)
        if _unfinished(gatling, app):
            from gatling.deploy import recovery

            for deployment in recovery.interrupted(gatling, app):
                sys.stderr.write(
                    f"{app}: deployment {deployment.id} was interrupted; the next push to {app},"
                    f" or `gatling recover {app}`, repairs it\n"
                )
        yield gatling


def _check(app: App, *, clusters: bool, instead: str = "") -> None:
    if app.platform is not None and not clusters:
        raise NotOnCluster(
            f"{app.name} runs on the cluster {app.platform}, where this does not work yet.",
            hint=instead,
        )


@contextlib.contextmanager
def _about(app: str | None) -> Iterator[None]:
    try:
        yield
    except GatlingError as error:
        if app is not None:
            error.about(app)
        raise


def _unfinished(gatling: Gatling, app: str) -> bool:
    wanted = "SELECT 1 FROM deployments WHERE outcome = 'running' AND app = ? LIMIT 1"
    return gatling.db.row(wanted, app) is not None
