"""Moving apps between this machine and clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.deploy.run import attempt
from gatling.errors import ClusterFailed, InvalidInput
from gatling.operations import lifecycle
from gatling.platform import lock
from gatling.state import apps, audit, drains, moves, platforms, runs

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.ui.progress import Progress


class Moved(Struct, frozen=True):
    """An app in its new place."""

    app: str
    place: str
    """The name of a cluster, or `here`."""
    domains: list[str]
    """The domains whose DNS records must lead to the new place."""
    address: str
    """The address of the new place; empty where it is not known."""
    also: str | None = None
    """The place before, if it serves as well."""


def move(
    gatling: Gatling, name: str, to: str, *, progress: Progress, finish: bool = False
) -> Moved:
    """Move an app to a cluster, or `here`.

    The place before serves until the live release is proved in the new one. It serves on after
    that until `finish`, for clients whose DNS still leads there; with `finish` it does not. Raises
    InvalidInput, NotFound, ClusterFailed, UnhealthyRelease and others; then the app runs where it
    did.
    """
    place = moves.HERE if to == moves.HERE_NAME else to
    app = apps.get(gatling.db, name)
    _check(gatling, app, place)
    if app.live_release is None:
        with lock.hold_app(gatling.home.app(name), progress.say):
            _check_free(gatling, name, place)
            moves.decide(gatling.db, name, place, slot=None, deployment=None)
            _reconciled(gatling, name, progress)
    else:
        from gatling.deploy import moving  # which loads the client of Kubernetes

        if place == moves.HERE:
            lifecycle.ensure_up(gatling, progress)
        with attempt(
            gatling, name, cause=f"move to {to}", commit=None, progress=progress, moves_app=True
        ) as context:
            _check(gatling, context.app, place)
            moving.move(gatling, context, place, finish=finish)
        for one in drains.of_app(gatling.db, name):  # they read the output of the place before
            gatling.logs.forward(name, one.id, wanted=False)
            gatling.logs.forward(name, one.id, wanted=True)
    audit.record(gatling.db, gatling.actor, name, "move", to)
    return _moved(gatling, apps.get(gatling.db, name))


def finish(gatling: Gatling, name: str, *, progress: Progress) -> str:
    """Stop an app in the place that serves it as well since it was moved; which one, in words.

    Raises InvalidInput if no other place serves it. A cluster that cannot be reached is left to
    recovery, which says so.
    """
    with lock.hold_app(gatling.home.app(name), progress.say):
        place = moves.leave(gatling.db, name)
        if place is None:
            raise InvalidInput(f"No other place serves {name}.")
        _reconciled(gatling, name, progress)
    audit.record(gatling.db, gatling.actor, name, "move", f"finished on {moves.said(place)}")
    return moves.said(place)


def _check_free(gatling: Gatling, app: str, place: str) -> None:
    """Raise ClusterFailed or InvalidInput for a cluster that cannot have the app."""
    if place == moves.HERE:
        return
    from gatling.deploy import moving
    from gatling.platform.kubernetes import place as places

    with places.namespace(platforms.get(gatling.db, place)) as api:
        moving.check_free(api, app, place)


def _reconciled(gatling: Gatling, name: str, progress: Progress) -> None:
    from gatling.deploy import recovery

    for problem in recovery.reconcile(gatling, name):
        progress.say(f"{name}: {problem}")


def _check(gatling: Gatling, app: App, place: str) -> None:
    """Raise InvalidInput or NotFound for a move that is not possible."""
    name = app.name
    if place == (app.platform or moves.HERE):
        raise InvalidInput(f"{name} runs on {moves.said(place)} already.")
    if moves.serving(gatling.db, name) not in (None, place):
        moves.need_one(gatling.db, name)
    if app.live_release is not None and app.wanted == "stopped":
        raise InvalidInput(
            f"{name} is stopped, so it cannot be proved in another place.",
            hint=f"`gatling start {name}` comes first.",
        )
    under_way = [one.job for one in runs.running(gatling.db, name)]
    if under_way:
        raise InvalidInput(
            f"The job {under_way[0]} of {name} is under way, and would be cut off.",
            hint=f"Wait for its end, or `gatling jobs cancel {name} {under_way[0]}`.",
        )
    if app.maintenance is not None:
        raise InvalidInput(
            f"{name} is in maintenance, and would be served in its new place.",
            hint=f"`gatling maintenance off {name}` comes first.",
        )
    if place == moves.HERE:
        return
    from gatling.platform.kubernetes import place as places
    from gatling.platform.kubernetes import pods

    pods.checked_app(name)
    places.store(platforms.get(gatling.db, place))


def _moved(gatling: Gatling, app: App) -> Moved:
    public = [one for one in app.domains if not one.endswith(".localhost")]
    also = moves.serving(gatling.db, app.name)
    address = ""
    if app.platform is None:
        address = gatling.router.public_address() or ""
    elif public and app.live_release is not None:
        from gatling.platform.kubernetes import place as places

        try:
            with places.opened(gatling.db, app) as api:
                address = _address(api.find("Ingress", app.name) or {})
        except ClusterFailed:  # it has moved, and this is only advice
            pass
    return Moved(
        app.name, app.platform or moves.HERE_NAME, public, address,
        None if also is None else moves.said(also),
    )  # fmt: skip


def _address(ingress: dict[str, object]) -> str:
    """The address that the ingress controller of a cluster has given to an Ingress."""
    match ingress:
        case {"status": {"loadBalancer": {"ingress": [{"ip": str(found)}, *_]}}}:
            return found
        case {"status": {"loadBalancer": {"ingress": [{"hostname": str(found)}, *_]}}}:
            return found
    return ""
