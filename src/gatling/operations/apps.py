"""Making an app, and taking it away again."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING

from gatling import names, process
from gatling.cleanup import cleaning
from gatling.errors import ClusterFailed
from gatling.operations import databases, drains
from gatling.paths import exclusively
from gatling.platform import lock
from gatling.project import repository as repository_settings
from gatling.project import settings as project_settings
from gatling.runtime import jobs, notifying, workers
from gatling.state import apps, audit, config, moves, platforms, samples

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatling.paths import AppPaths
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.ui.progress import Progress

HOOK = """\
#!/bin/sh
# Written by Gatling: a push to the deploy branch is deployed, and rejected when that fails.
exec {command} receive {app}
"""


def check(
    gatling: Gatling, name: str, settings: Mapping[str, str], platform: str | None = None
) -> None:
    """Raise InvalidInput for a name that is not valid or taken, or settings that are not valid.

    Also for a platform without a registry, and NotFound for one that there is not. Nothing is
    changed, and the home need not exist. Also raises for what this process' environment says of
    the ports of apps and of the proxy.
    """
    names.app_name(name)
    project_settings.parse(dict(settings))
    apps.check_new(gatling.db, name)
    gatling.router.check_listen(None)
    if platform is not None:
        from gatling.platform.kubernetes import place, pods

        pods.checked_app(name)
        place.store(platforms.get(gatling.db, platform))


def load(
    gatling: Gatling,
    name: str,
    settings: Mapping[str, str] | None = None,
    platform: str | None = None,
) -> App:
    """Make an app: repository with hook, ports, generated secrets, and its place in the proxy.

    With `platform` it will run on that cluster. Raises InvalidInput as `check` does; then nothing
    has been made.
    """
    own = dict(settings or {})
    check(gatling, name, own, platform)
    with exclusively(gatling.home, "load"):
        return _load(gatling, name, own, platform)


def ensure(gatling: Gatling, name: str) -> bool:
    """Make an app unless it is there, as two first pushes at once ask for; whether it was made."""
    names.app_name(name)
    with exclusively(gatling.home, "load"):
        if apps.is_whole(gatling.db, name):
            return False
        _load(gatling, name, {})
        return True


def _load(gatling: Gatling, name: str, own: dict[str, str], platform: str | None = None) -> App:
    if not apps.is_whole(gatling.db, name):
        apps.delete(gatling.db, name)  # what was being made when the power was cut, say
    app = apps.create(gatling.db, name, gatling.apps.may_have, platform)
    paths = gatling.home.app(name)
    try:
        gatling.apps.make(app)
        make_repository(paths)
        paths.lock.touch(mode=0o600)
        if own:
            apps.change_settings(gatling.db, name, lambda _: own)
        gatling.router.point(name, None)
        gatling.apps.sync()
        config.replace(  # by which it is whole
            gatling.db,
            name,
            {
                "SECRET_KEY_BASE": secrets.token_urlsafe(48),  # Phoenix asks for 64 bytes
                "RELEASE_COOKIE": secrets.token_hex(20),
            },
        )
        gatling.configure_router()
    except BaseException as error:
        for step in (
            lambda: workers.stop(gatling, name),
            lambda: gatling.apps.remove(app),
            lambda: apps.delete(gatling.db, name),
            lambda: gatling.apps.clear(name),
            gatling.configure_router,  # it may have come to know the app before this failed
        ):
            with cleaning(error):
                step()
        raise
    audit.record(gatling.db, gatling.actor, name, "load")
    return app


def unload(
    gatling: Gatling, name: str, progress: Progress, *, leave_objects: bool = False
) -> list[str]:
    """Stop an app and remove everything of it: instances, repository, releases, logs, records.

    Its databases stay, closed to everybody; their names. Raises ClusterFailed, with everything as
    before, for an app whose cluster cannot be reached, unless its objects are to be left there.
    """
    app = apps.get(gatling.db, name)
    paths = gatling.home.app(name)
    with contextlib.ExitStack() as held:
        if paths.lock.exists():  # it is not when a power cut has ended the one before this
            held.enter_context(lock.hold_app(paths, progress.say))
        if app.platform is not None and not leave_objects:
            from gatling.operations import clusters

            clusters.remove(gatling, app)
        for place in moves.others(gatling.db, name):
            if place != moves.HERE and not leave_objects:
                _leave(gatling, app, place)
        timeout = project_settings.parse(app.effective).instance.stop
        gatling.router.point(name, None)
        gatling.schedule.set(name, {})
        drains.end(gatling, name)
        jobs.end(gatling, name)
        for slot in apps.SLOTS:
            gatling.instances.stop(name, slot, timeout)
        workers.stop(gatling, name)
        kept = databases.leave(gatling, name)
        gatling.apps.remove(app)
        apps.delete(gatling.db, name)
        notifying.forget(gatling, name)
        samples.forget(gatling.home.root, name)
        gatling.configure_router()
        gatling.apps.clear(name)
    audit.record(gatling.db, gatling.actor, name, "unload")
    return kept


def _leave(gatling: Gatling, app: App, place: str) -> None:
    """Remove an app from a cluster that it has left."""
    from gatling.deploy import places

    try:
        places.remove(gatling, app, place)
    except ClusterFailed as error:
        raise ClusterFailed(
            error.what, reason=error.reason,
            hint=f"{error.hint} `gatling unload {app.name} --leave-objects` removes it here alone.",
        ) from error  # fmt: skip


def make_repository(paths: AppPaths) -> None:
    """Make an app's bare repository, with its configuration and the hook that deploys."""
    repository = paths.repository
    process.output(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(repository)])
    repository_settings.configure(repository)
    for sample in (repository / "hooks").glob("*.sample"):
        sample.unlink()
    hook = repository / "hooks" / "pre-receive"
    hook.write_text(HOOK.format(app=paths.name, command=paths.hook_command))
    hook.chmod(0o755)
