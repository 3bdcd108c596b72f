"""The kinds of deployment: a commit, a retained release, a config change, a restart."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gatling import files
from gatling.deploy import early
from gatling.deploy.run import attempt
from gatling.deploy.wish import NO_WISH, Wish
from gatling.errors import InvalidInput, NotFound, NotOnCluster
from gatling.operations import lifecycle
from gatling.project import refs
from gatling.state import apps, config, deployments, releases, watches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatling.build.vm import Vm
    from gatling.deploy.early import Waiting
    from gatling.platform.open import Gatling
    from gatling.project.refs import Update
    from gatling.state.apps import App
    from gatling.state.watches import Watch
    from gatling.ui.progress import Progress


def deploy_commit(
    gatling: Gatling,
    name: str,
    commit: str,
    *,
    cause: str,
    progress: Progress,
    updates: Sequence[Update] = (),
    wish: Wish = NO_WISH,
    watch_pusher: bool = False,
    beside: Callable[[], None] = lambda: None,
    waiting: Waiting | None = None,
) -> None:
    """Build a commit and make it live. For a push, `updates` are all refs that git sets after it.

    The refs must stand where the push found them until the decision. With `watch_pusher` the
    deployment is called off when the client that pushes is gone. While the VM of the build boots,
    `beside` is called, before anything is recorded. `waiting` may be that VM.
    """
    _check_rehearsal(gatling, name, wish)
    for directory in (gatling.home.root, gatling.home.app(name).root):
        files.need_space(directory, f"A build of {name}")
    is_up = lifecycle.ensure_started(gatling, progress, name)
    vm: Vm | None = None

    def first(app: App, mark: str) -> None:
        """Start the VM of the build; all that follows goes on while the VM boots."""
        nonlocal vm
        vm = early.start(gatling, app, commit, mark, waiting)
        if vm is not None:
            ends.callback(vm.close)
        if not is_up:
            lifecycle.ensure_served(gatling)
        beside()

    with (
        contextlib.ExitStack() as ends,
        attempt(
            gatling,
            name,
            cause=cause,
            commit=commit,
            progress=progress,
            watch_pusher=watch_pusher,
            waiting=waiting,
            first=first,
        ) as context,
    ):
        from gatling.deploy import new_release, project_domains  # loaded while the VM boots

        refs.check_still(gatling.home.app(name).repository, updates)
        built, release = new_release.make(gatling, context, commit, vm)
        from gatling.deploy.go_live import go_live  # loaded while mix worked

        with project_domains.in_force(gatling, built) as served:
            go_live(gatling, served, release, updates, wish)


def deploy_release(
    gatling: Gatling,
    name: str,
    number: int,
    *,
    cause: str,
    progress: Progress,
    wish: Wish = NO_WISH,
) -> None:
    """Make a retained release live again, with the config it had."""
    from gatling.deploy.go_live import go_live

    releases.kept(gatling.db, name, number)
    _check_rehearsal(gatling, name, wish)
    lifecycle.ensure_up(gatling, progress, name)
    with attempt(gatling, name, cause=cause, commit=None, progress=progress) as context:
        release = releases.kept(gatling.db, name, number)
        dropped = config.pending(gatling.db, name)
        go_live(gatling, context, release, wish=wish)
        if dropped:
            context.progress.note(
                f"{release.label} has its own config: changes that were stored for the next"
                f" deployment are dropped ({', '.join(dropped)})"
            )


def _check_rehearsal(gatling: Gatling, name: str, wish: Wish) -> None:
    """Raise NotOnCluster for a rehearsal on a cluster: it has neither forks nor spare nodes."""
    platform = apps.get(gatling.db, name).platform
    if wish.rehearse and platform is not None:
        raise NotOnCluster(
            f"{name} runs on the cluster {platform}, where nothing can be rehearsed: Gatling makes"
            " no copies of databases there. Nothing was changed.",
            hint="Try the migrations on a copy of the database that you make, then push without"
            " --rehearse. A hot upgrade that fails is undone in all pods in any case.",
        )


def undo(gatling: Gatling, watch: Watch, problem: str, *, progress: Progress) -> None:
    """Return from a release that is watched to the one before, while the watch lasts.

    Raises InvalidInput if another deployment came first, with nothing changed.
    """
    from gatling.deploy import watch as background
    from gatling.deploy.go_live import go_live

    with attempt(
        gatling, watch.app, cause=background.CAUSE, commit=None, progress=progress
    ) as context:
        if watches.of_app(gatling.db, watch.app) != watch:
            raise InvalidInput(f"v{watch.release} of {watch.app} is not watched any more.")
        context.progress.note(problem)
        release = releases.kept(gatling.db, watch.app, watch.previous)
        go_live(gatling, context, release)


def restart(gatling: Gatling, name: str, *, progress: Progress) -> None:
    """Start a new instance of the live release, switch to it, and stop the old instance."""
    from gatling.deploy.go_live import go_live

    app = apps.get(gatling.db, name)
    if app.live_release is None:
        raise InvalidInput(f"{name} has not been deployed yet.")
    lifecycle.ensure_up(gatling, progress, name)
    with attempt(
        gatling, name, cause="restart", commit=None, progress=progress, same_release=True
    ) as context:
        release = releases.kept(gatling.db, name, context.app.live_release or app.live_release)
        go_live(gatling, context, release)


def passed_migrations(gatling: Gatling, name: str, number: int) -> list[str]:
    """The files of the migrations of the live release that a release does not know.

    They stay applied when that release goes live.
    """
    from gatling.deploy.migrations import runner

    live = apps.get(gatling.db, name).live_release
    if live is None or number >= live:
        return []
    target = releases.kept(gatling.db, name, number)
    found = runner.pending(gatling.home.app(name), target, releases.get(gatling.db, name, live))
    return [each.rpartition("/")[2] for each in found]


def rollback_target(gatling: Gatling, name: str, wish: int | None) -> int:
    """The release that a rollback goes to: the one wished for, or the one live before.

    Raises NotFound or InvalidInput.
    """
    live = apps.get(gatling.db, name).live_release
    if live is None:
        raise InvalidInput(f"{name} has not been deployed yet.")
    if wish == live:
        raise InvalidInput(
            f"v{live} is already live.", hint=f"`gatling restart {name}` restarts it."
        )
    target = wish if wish is not None else deployments.live_before(gatling.db, name, live)
    if target is None:
        raise NotFound(f"No release of {name} was live before v{live}.")
    return releases.kept(gatling.db, name, target).number
