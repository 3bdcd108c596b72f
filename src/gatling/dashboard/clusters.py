"""Apps on clusters: what records say of them, and the questions to their clusters.

A cluster may be far away, or not answer at all. Pages show what the records say, and the latest
answer, until the next one comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import structs

from gatling.dashboard.live import Answer, Live
from gatling.errors import GatlingError
from gatling.operations import overview
from gatling.operations.session import opened
from gatling.state import apps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gatling.operations.stats import AppStats
    from gatling.operations.status import AppStatus
    from gatling.platform.logs import Line, Wanted
    from gatling.platform.open import Gatling
    from gatling.state.apps import App

Found = TypeVar("Found")
LOG_SECONDS = 1.0
"""For an answer of an API server that a page of a log waits for."""
FRESH_SECONDS, KEPT_SECONDS = 8.0, 120.0
"""How long an answer counts as new, and is shown while the cluster is asked again."""
SILENT_SECONDS = 6.0
"""After which a cluster that has not answered is shown as one that does not answer."""
ASKED = "asked"
"""The state of an app whose cluster has not answered yet."""


def asked(ask: Callable[[str], Found]) -> Live[Found]:
    """Questions to clusters, which take longer than those to nodes of this machine."""
    return Live(ask, fresh=FRESH_SECONDS, keep=KEPT_SECONDS, silent=SILENT_SECONDS)


def overviews(gatling: Gatling, shown: Sequence[App]) -> list[AppStatus]:
    """The status of apps; those on clusters by records alone."""
    here = {
        one.app: one
        for one in overview.every(gatling, [app for app in shown if app.platform is None])
    }
    return [here.get(app.name) or recorded(gatling, app) for app in shown]


def recorded(gatling: Gatling, app: App) -> AppStatus:
    """The status of an app on a cluster by records alone."""
    from gatling.operations import clusters  # which loads the client of Kubernetes

    found = clusters.described(gatling, app, [])
    runs = app.live_release is not None and app.wanted == "running"
    return structs.replace(found, state=ASKED) if runs else found


def places(shown: Sequence[App]) -> dict[str, str]:
    """The clusters of the apps that are on one."""
    return {app.name: app.platform for app in shown if app.platform is not None}


def ask(platform: str) -> dict[str, AppStatus]:
    """The status of all apps on a cluster, which is asked once."""
    from gatling.operations import clusters

    with opened() as gatling:
        known = apps.every(gatling.db, clusters=True)
        return clusters.statuses(gatling, [app for app in known if app.platform == platform])


def by_app(
    places: Mapping[str, str], answers: Mapping[str, Answer[dict[str, AppStatus]]]
) -> dict[str, Answer[AppStatus]]:
    """The answers of clusters by app, of those clusters that were asked."""
    return {
        app: Answer((found.value or {}).get(app), found.silent)
        for app, place in places.items()
        if (found := answers.get(place))
    }


def answered(
    known: Sequence[AppStatus], states: Mapping[str, Answer[AppStatus]]
) -> list[AppStatus]:
    """The same statuses, with the answers of clusters."""
    return [(states[one.app].value if one.app in states else None) or one for one in known]


def measured(known: AppStatus, stats: AppStats | None) -> AppStatus:
    """The same status, with the state and the numbers that a cluster has given."""
    if stats is None or known.state != ASKED:
        return known
    # those that end are not missing
    serving = [one for one in stats.instances if one.state != "stopping"]
    ready = sum(one.state == "running" for one in serving)
    return structs.replace(
        known, state=stats.state, memory=stats.memory, cpu_seconds=stats.cpu_seconds,
        instance=f"{ready} of {len(serving)}" if serving else "",
        restarts=sum(one.restarts for one in stats.instances),
    )  # fmt: skip


def log(gatling: Gatling, app: App, **which: Any) -> tuple[list[Line], str]:
    """The newest lines of an app, and why there are none if its cluster does not answer."""
    wanted: Wanted = which.pop("wanted")
    if app.platform is None:
        return gatling.logs.read(app.name, wanted=wanted, **which), ""
    from gatling.operations import cluster_logs

    try:
        found = cluster_logs.Logs(gatling, app, LOG_SECONDS)
        return found.read(app.name, wanted=wanted, **which), ""
    except GatlingError as error:
        return [], error.what
