"""Plans for people who ask: what a deployment of a retained release would do now."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gatling import times
from gatling.deploy.plan import gather, plan
from gatling.deploy.plan.by_files import Glance, glance
from gatling.errors import Busy, NotFound
from gatling.platform import lock
from gatling.project import settings as project_settings
from gatling.state import apps, deployments, releases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.deploy.plan.plan import Facts
    from gatling.platform.open import Gatling
    from gatling.state.releases import Release

OTHERS_SECONDS = 3.0
"""How long a command that is no deployment may take, beside the end of an instance."""


def target(gatling: Gatling, name: str, number: int | None, commit: str | None) -> Release:
    """The retained release that is meant: by its number, its commit, or the newest one.

    Raises NotFound.
    """
    if number is not None:
        return releases.kept(gatling.db, name, number)
    if newest := releases.newest_kept(gatling.db, name, commit):
        return newest
    if commit is None:
        raise NotFound(f"{name} has no release yet.")
    raise NotFound(
        f"No retained release of {name} was built from {commit[:9]}.",
        hint=f"`gatling deploy {name} {commit[:9]}` builds and deploys it.",
    )


@contextlib.contextmanager
def undisturbed(gatling: Gatling, name: str) -> Iterator[None]:
    """Plan while no other command works on the app; deployments wait until the block ends.

    Raises Busy while a deployment is under way. Everything else is waited for: it takes no longer
    than to stop an instance, such as the previous one in the background.
    """
    settings = project_settings.parse(apps.get(gatling.db, name).effective).instance
    for last in times.looks(settings.stop + OTHERS_SECONDS, lock.POLL_SECONDS):
        with lock.try_hold(gatling.home.app(name).lock) as held:
            if held:
                yield
                return
        if deployments.running(gatling.db, name) or last:
            raise Busy(_whose(gatling, name), hint="Try again when it has ended.")


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
) -> tuple[Facts, plan.Plan | None, Glance | None]:
    """Plan from files and records alone, with nothing of the app started or asked.

    The plan is None where it depends on the node.
    """
    known = facts(gatling, name, release, wish)
    live = known.live
    decided = plan.at_once(known)
    if live is None or live.number == release.number:
        return known, decided, None
    return known, decided, glanced(gatling, name, live, release)


def glanced(gatling: Gatling, name: str, live: Release, release: Release) -> Glance:
    """How the files of two releases differ."""
    paths = gatling.home.app(name)
    return glance(paths.release(live.number), paths.release(release.number))


def planned(
    gatling: Gatling, name: str, release: Release, wish: str | None
) -> tuple[Facts, plan.Plan]:
    """How `release` would replace the live one: the very plan that a deployment carries out.

    Raises NodeInUse or NodeBusy while another command works with the running node, and InvalidInput
    for a strategy that is not possible.
    """
    known = facts(gatling, name, release, wish)
    with contextlib.ExitStack() as open_node:
        app = apps.get(gatling.db, name)
        found = gather.with_node(gatling, app, known, open_node, insists=True)
        return found.facts, plan.plan(found.facts)


def facts(gatling: Gatling, name: str, release: Release, wish: str | None) -> Facts:
    """The facts from records and files alone."""
    app = apps.get(gatling.db, name)
    settings = project_settings.parse(release.manifest | app.settings)
    live = releases.get(gatling.db, name, app.live_release) if app.live_release else None
    return gather.facts(gatling, app, live, release, settings, wish)
