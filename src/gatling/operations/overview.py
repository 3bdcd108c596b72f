"""The present state of apps: the typed results behind `gatling apps` and `gatling status`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType, structs

from gatling.errors import NodeUnreachable
from gatling.operations.status import AppDetails, AppStatus, LastEnd, Lately, WorkerStatus
from gatling.platform import ports, restarts
from gatling.project import history
from gatling.project import settings as project_settings
from gatling.proxy import certificates, request_log
from gatling.proxy.figures import Figures
from gatling.state import apps, config, deployments, issuance, moves, releases
from gatling.times import stamp_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatling.platform.base import Slot, Status
    from gatling.platform.open import Gatling
    from gatling.platform.usage import Usage
    from gatling.proxy.request_log import Window
    from gatling.state.apps import App

    Known = Mapping[tuple[str, Slot], Status]
    Used = Mapping[tuple[str, Slot], Usage]

LATELY_SECONDS = 60.0
LATELY_BYTES = 4 << 20
"""The part of the log of requests that is read for them: 100,000 requests, 0.2 s."""
CHAIN_PATIENCE_SECONDS = 0.5
"""How long another command that talks to the node is waited for."""


def every(gatling: Gatling, found: Sequence[App]) -> list[AppStatus]:
    """Return the status of each of these apps."""
    here = [app for app in found if app.platform is None]
    known = statuses(gatling, here)
    used = gatling.instances.usages(known)
    seen = lately(gatling)
    away: dict[str, AppStatus] = {}
    if len(here) != len(found):
        from gatling.operations import clusters  # which loads the client of Kubernetes

        away = clusters.statuses(gatling, [app for app in found if app.platform is not None])
    return [away.get(app.name) or _status(gatling, app, known, used, seen) for app in found]


def details(gatling: Gatling, name: str) -> AppDetails:
    """Return an app's status and addresses; raises NotFound. Nothing is loaded into its node."""
    app = apps.get(gatling.db, name)
    if app.platform is not None:
        from gatling.operations import clusters

        return clusters.details(gatling, app)
    known = statuses(gatling, [app])
    used = gatling.instances.usages(known)
    last = next(iter(deployments.of_app(gatling.db, name, limit=1)), None)
    live = known.get((name, app.live_slot)) if app.live_slot else None
    chain, unknown = _chain(gatling, app) if live and live.process else ([], None)
    return AppDetails(
        **structs.asdict(_status(gatling, app, known, used, lately(gatling))),
        domains=list(app.domains),
        password_domains=list(app.passwords),
        ports=[app.ports[slot] for slot in sorted(app.ports)],
        repository=gatling.apps.push_address(name),
        last_deployment=last.id if last else None,
        last_outcome=last.outcome if last else None,
        chain=chain,
        chain_unknown=unknown,
        processes=_workers(gatling, name),
    )


def lately(gatling: Gatling) -> Window | None:
    """The requests of the last minute to all apps; None where they are not known.

    The end is a moment ago, because nginx may hold lines back.
    """
    log = gatling.router.request_log()
    if log is None:
        return None
    until = time.time() - request_log.HELD_BACK_SECONDS
    try:
        return request_log.read(log, until - LATELY_SECONDS, until, limit=LATELY_BYTES)
    except OSError:
        return None


def _lately(seen: Window | None, app: str) -> Lately | None:
    if seen is None:
        return None
    found = seen.apps.get(app, Figures())
    # less than a minute where so much is logged that only its end was read
    seconds = max(1.0, seen.until - seen.since) if seen.cut else LATELY_SECONDS
    return Lately(round(found.requests / seconds, 2), found.failed, found.quantile(0.95))


def _status(gatling: Gatling, app: App, known: Known, used: Used, seen: Window | None) -> AppStatus:
    place: tuple[str, Slot] | None = (app.name, app.live_slot) if app.live_slot else None
    status, took = (known.get(place), used.get(place)) if place else (None, None)
    live = app.live_release
    release = releases.get(gatling.db, app.name, live) if live is not None else None
    count, last = _ends(gatling, app.name, app.live_slot)
    repository = gatling.home.app(app.name).repository
    written = history.commit(repository, release.commit) if release else None
    uptime = _uptime(status)
    return AppStatus(
        app=app.name,
        state=_state(gatling, app, status),
        release=release.label if release else None,
        version=release.version if release else None,
        commit=release.commit if release else None,
        author=written.author if written else None,
        subject=written.subject if written else None,
        slot=app.live_slot,
        port=gatling.instances.address(app, app.live_slot).port if app.live_slot else None,
        pid=status.pid if status else None,
        instance=_instance(status),
        uptime=uptime,
        memory=took.memory if took else None,
        memory_limit=project_settings.parse(app.effective).limits.memory,
        cpu=round(100 * took.cpu / uptime, 1) if took and uptime else None,
        cpu_seconds=round(took.cpu, 2) if took else None,
        requests=_lately(seen, app.name),
        url=gatling.router.url(app),
        also=moves.serving_name(gatling.db, app.name),
        maintenance=app.maintenance is not None,
        waiting=config.pending(gatling.db, app.name),
        restarts=count,
        last_end=last,
        https_until=_https_until(gatling, app),
        https_error=issuance.of_app(gatling.db, app.name).error or None,
    )


def _https_until(gatling: Gatling, app: App) -> str | None:
    kept = gatling.certificates.of(app.name)
    serving = certificates.chosen(kept, app.domains, time.time()).values()
    return stamp_of(min(one.not_after for one in serving)) if serving else None


def _workers(gatling: Gatling, name: str) -> list[WorkerStatus]:
    slots = gatling.instances.process_slots(name)
    if not slots:
        return []
    from gatling.runtime import workers  # for apps that have some

    known = workers.statuses(gatling, name, slots)
    found = []
    for slot in slots:
        status = known.get(slot)
        count, last = _ends(gatling, name, slot)
        found.append(
            WorkerStatus(
                process=slot,
                state=str(status.state) if status else "down",
                release=workers.release(gatling, name, slot),
                pid=status.pid if status else None,
                instance=_instance(status),
                uptime=_uptime(status),
                restarts=count,
                last_end=last,
            )
        )
    return found


def _instance(status: Status | None) -> str | UnsetType:
    return status.process if status and status.process and status.pid is None else UNSET


def _uptime(status: Status | None) -> float | None:
    return round(status.uptime, 3) if status and status.process else None


def _ends(gatling: Gatling, app: str, slot: Slot | None) -> tuple[int, LastEnd | None]:
    """How often an instance was started again within the hour, and what it last ended with."""
    recent = restarts.recent(gatling.instances.ends(app, slot)) if slot is not None else []
    if not recent:
        return 0, None
    last = recent[-1]
    return len(recent), LastEnd(last.stamp, last.after, last.cause)


def _chain(gatling: Gatling, app: App) -> tuple[list[str], str | None]:
    from gatling.deploy import live_node  # loads what talks to nodes

    try:
        return live_node.seen(gatling, app, CHAIN_PATIENCE_SECONDS), None
    except NodeUnreachable as error:
        return [], f"unknown: {error.what}"


def statuses(gatling: Gatling, found: Sequence[App]) -> Known:
    """The status of the live instance of each of these apps that is to run."""
    live: list[tuple[str, Slot]] = [
        (app.name, app.live_slot) for app in found if app.live_slot and app.wanted == "running"
    ]
    return gatling.instances.statuses(live)


def _state(gatling: Gatling, app: App, status: Status | None) -> str:
    if app.live_release is None:
        return "empty"
    if app.wanted == "stopped":
        return "stopped"
    if status is None:
        return "down"
    # what the supervisor still watches after its start has passed its health check when it serves
    address = gatling.instances.address(app, app.live_slot or 1)
    if status.state == "starting" and ports.answers(address.port, address.host):
        return "running"
    return str(status.state)
