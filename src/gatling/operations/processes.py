"""The further processes of an app: how many of each run, and starting them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.errors import GatlingError, InvalidInput, NotFound, SupervisorFailed
from gatling.platform import lock
from gatling.project import settings as project_settings
from gatling.runtime import workers
from gatling.state import apps, audit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from gatling.platform.open import Gatling
    from gatling.ui.progress import Progress


class Process(Struct, frozen=True):
    """A process that the live release names."""

    process: str
    instances: int
    """How many of it run while the app does."""
    command: str


def every(gatling: Gatling, name: str) -> list[Process]:
    """The processes of an app; raises NotFound for an app that there is not.

    An app on a cluster has its instances as `web`.
    """
    app = apps.get(gatling.db, name)
    found = project_settings.parse(app.effective)
    named = found.processes
    web = [Process("web", found.cluster.instances, "")] if app.platform is not None else []
    return web + [
        Process(process, described.instances, described.command)
        for process, described in named.items()
        if described.command
    ]


def scale(
    gatling: Gatling, name: str, counts: Mapping[str, int], *, progress: Progress
) -> list[Process]:
    """Let so many of each process run, from now on; returns all processes as they are then.

    Raises InvalidInput for what is no process of the live release, or too many; GatlingError when
    it is recorded and could not be done.
    """
    if apps.get(gatling.db, name).platform is not None:
        from gatling.operations import clusters  # which loads the client of Kubernetes

        clusters.scaled(gatling, name, counts, progress)
        return every(gatling, name)
    with _held(gatling, name, progress):
        app = apps.get(gatling.db, name)
        named = [each.process for each in every(gatling, name)]
        for process in counts:
            if process not in named:
                own = "web is the app itself, of which one instance runs. " * (process == "web")
                raise InvalidInput(
                    f"{name} has no worker {process!r}.",
                    hint=f"{own}It has: {', '.join(named) or 'none'}. They are defined in"
                    " gatling.toml.",
                )
        changes = {f"processes.{process}.instances": str(n) for process, n in counts.items()}
        project_settings.parse(app.effective | changes)
        apps.change_settings(gatling.db, name, lambda now: now.settings | changes)
        said = " ".join(f"{process}={n}" for process, n in counts.items())
        audit.record(gatling.db, gatling.actor, name, "scale", said)
        problems = workers.follow(gatling, name)
    again = " ".join(f"`gatling restart {name} --process {process}`" for process in counts)
    _raise(problems, hint=f"The numbers are recorded. To try again: {again}")
    return every(gatling, name)


def restart(gatling: Gatling, name: str, process: str, *, progress: Progress) -> None:
    """End one process, or all of its name, and start it again.

    Raises NotFound for what does not run, GatlingError when it cannot be done.
    """
    if apps.get(gatling.db, name).platform is not None:
        from gatling.operations import clusters

        clusters.restart(gatling, name, process, progress)
        return
    with _held(gatling, name, progress):
        app = apps.get(gatling.db, name)
        there = workers.wanted(gatling, app)
        if not any(process in (slot, slot.partition(".")[0]) for slot in there):
            raise NotFound(
                f"{name} runs no worker {process!r}.",
                hint=f"It runs: {', '.join(there) or 'none'}.",
            )
        if not gatling.instances.statuses([(name, app.live_slot or 1)]):
            raise SupervisorFailed("This home is down.", hint="`gatling up`")
        problems = workers.follow(gatling, name, again=[process])
        audit.record(gatling.db, gatling.actor, name, "restart", process)
    _raise(problems)


def _held(gatling: Gatling, name: str, progress: Progress) -> AbstractContextManager[None]:
    apps.get(gatling.db, name)
    return lock.hold_app(gatling.home.app(name), progress.say)


def _raise(problems: list[str], hint: str = "") -> None:
    if problems:
        raise GatlingError(f"{problems[0]}.", hint=hint, log=problems[1:])
