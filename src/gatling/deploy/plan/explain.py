"""Plans for people who ask: what a deployment of a kept release would do now."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gatling.beam.channel import NodeInUse
from gatling.beam.control import NodeBusy
from gatling.deploy import live_node
from gatling.deploy.plan import exclusive, inspection, plan
from gatling.deploy.plan.by_files import Glance, glance
from gatling.errors import Busy, NodeUnreachable, NotFound, PlannerFailed
from gatling.platform import lock
from gatling.project import settings as project_settings
from gatling.state import apps, deployments, releases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.platform.open import Gatling
    from gatling.project.settings import Settings
    from gatling.state.apps import App
    from gatling.state.releases import Release


def target(gatling: Gatling, name: str, number: int | None, commit: str | None) -> Release:
    """The kept release that is meant: by its number, its commit, or the newest one.

    Raises NotFound.
    """
    if number is not None:
        return releases.kept(gatling.db, name, number)
    for release in releases.every(gatling.db, name):
        if release.removed_at is None and commit in (None, release.commit):
            return release
    if commit is None:
        raise NotFound(f"{name} has no release yet.")
    raise NotFound(
        f"No kept release of {name} was built from {commit[:9]}.",
        hint=f"`gatling deploy {name} {commit[:9]}` builds and deploys it.",
    )


@contextlib.contextmanager
def undisturbed(gatling: Gatling, name: str) -> Iterator[None]:
    """Plan while no other command works on the app; deployments wait until the block ends.

    Raises Busy.
    """
    with lock.try_hold(gatling.home.app(name).lock) as held:
        if not held:
            raise Busy(_whose(gatling, name), hint="Try again when it has ended.")
        yield


def _whose(gatling: Gatling, name: str) -> str:
    running = deployments.running(gatling.db, name)
    if not running:
        return f"Another command is working on {name}."
    other = running[-1]
    step = other.steps[-1].name if other.steps else "its beginning"
    return (
        f"Deployment {other.id} of {name} is in progress"
        f" ({other.cause} by {other.actor}, now at {step})."
    )


def at_a_glance(
    gatling: Gatling, name: str, release: Release, wish: str | None
) -> tuple[Release | None, plan.Plan | None, Glance | None]:
    """The same as far as files and records tell, with nothing of the app started or asked.

    The plan is None where only the node could tell.
    """
    app = apps.get(gatling.db, name)
    settings = project_settings.parse(release.manifest | app.settings)
    live = releases.get(gatling.db, name, app.live_release) if app.live_release else None
    decided = plan.simple(live, release, wish or settings.deploy.strategy)
    if live is None or live.number == release.number:
        return live, decided, None
    paths = gatling.home.app(name)
    return live, decided, glance(paths.release(live.number), paths.release(release.number))


def planned(
    gatling: Gatling, name: str, release: Release, wish: str | None
) -> tuple[Release | None, plan.Plan]:
    """The live release, and how `release` would replace it.

    Raises NodeInUse or NodeBusy while another command works with the running node.
    """
    app = apps.get(gatling.db, name)
    settings = project_settings.parse(release.manifest | app.settings)
    wish = wish or settings.deploy.strategy
    if app.live_release is None:
        return None, plan.Plan("start", ("nothing is live yet",))
    live = releases.get(gatling.db, name, app.live_release)
    alone = () if wish == "restart" else exclusive.reasons(gatling, app, live, settings)
    return live, plan.beside(_decided(gatling, app, live, release, wish, settings), alone)


def _decided(
    gatling: Gatling, app: App, live: Release, release: Release, wish: str, settings: Settings
) -> plan.Plan:
    simple = plan.simple(live, release, wish)
    if simple is not None:
        return simple
    try:
        with (
            live_node.connected(gatling, app) as node,
            inspection.compared(gatling, app, node, live, release) as (comparison, _),
        ):
            return plan.decide(comparison, wish, settings.hot)
    except (NodeInUse, NodeBusy) as busy:
        if isinstance(busy, NodeBusy) and busy.broken:
            return plan.refuse_or_roll([busy.what], wish)
        # a plan made without the node would not be what a deployment does
        busy.hint = f"`gatling deployments {app.name} --follow` shows it; then ask again."
        raise
    except (NodeUnreachable, PlannerFailed) as error:
        return plan.refuse_or_roll([error.what], wish)
