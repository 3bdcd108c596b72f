"""The refs of a push: which of them is deployed, and what becomes of the others."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from gatling.deploy.watcher import JOB
from gatling.deploy.wish import Wish
from gatling.errors import PushRefused
from gatling.project import manifest, refs, source
from gatling.project import repository as keeping
from gatling.project import settings as project_settings
from gatling.project.refs import HEADS, Update, parse
from gatling.ssh import push_options
from gatling.state import apps, releases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gatling.deploy.early import Waiting
    from gatling.platform.open import Gatling
    from gatling.ui.progress import Progress


def choose(
    updates: list[Update],
    branches: tuple[str, ...],
    named: Callable[[Update], str] = lambda _: "",
    protected: tuple[str, ...] = (),
) -> Update | None:
    """The update that deploys, if any; raises PushRefused for one that deletes a deploy branch.

    `named` is the deploy branch that the pushed source itself names, if any; `branches` are
    those that deploy otherwise, the preferred one first.
    """
    by_branch = {u.ref.removeprefix(HEADS): u for u in updates if u.ref.startswith(HEADS)}
    for branch in protected or branches:
        if branch in by_branch and by_branch[branch].deletes:
            raise PushRefused(
                f"{branch} is deployed and cannot be deleted.",
                hint=(
                    "To deploy another branch, change the setting deploy.branch. `gatling unload`"
                    " removes the app."
                ),
            )
    own = {branch: named(u) for branch, u in by_branch.items() if not u.deletes}
    candidates = [branch for branch, name in own.items() if name and name == branch]
    candidates += [branch for branch in branches if own.get(branch) == ""]
    return next((by_branch[branch] for branch in candidates), None)


def receive(
    gatling: Gatling,
    name: str,
    lines: Iterable[str],
    progress: Progress,
    waiting: Waiting | None = None,
) -> None:
    """Handle a push; an error raised rejects it. `waiting` may be the VM of its build."""
    app = apps.get(gatling.db, name)
    settings = project_settings.parse(app.effective)
    # what the live release says of branches protects its own; a pushed source says it for itself
    branches = project_settings.parse(app.settings).branches
    updates = parse(lines)
    repository = gatling.home.app(name).repository
    path = "/".join(filter(None, (settings.build.directory, manifest.NAME)))
    look = refs.Look(repository, updates, path)
    from gatling.operations import deploys  # loaded while git looks

    @functools.cache
    def named(update: Update) -> str:
        if app.settings.get("deploy.branch"):
            return ""  # the host's word counts
        if not look.kind(f"{update.new}:{path}"):
            return ""
        raw = source.file_at(repository, update.new, path, manifest.MAX_BYTES)
        return manifest.branch(raw) if raw is not None else ""

    chosen = choose(updates, branches, named, protected=settings.branches)
    there = refs.check(repository, updates, look)

    def keep() -> None:
        """Let git keep the commits of releases, before a branch moves away from them."""
        keeping.try_to_keep_commits(repository, releases.kept_commits(gatling.db, name), there)

    for update in updates:
        if update is not chosen:
            done = "deleted" if update.deletes else "stored"
            own = named(update) if update.ref.startswith(HEADS) and not update.deletes else ""
            progress.note(
                f"{update.what} is {done}, not deployed"
                f" (deploy branch: {own or ' or '.join(branches)})"
            )
    if chosen is None:
        keep()
        return
    if app.live_release is not None:
        live = releases.get(gatling.db, name, app.live_release)
        if live.commit == chosen.new and app.wanted == "running":
            keep()
            progress.say(f"{name}: {live.label} of {chosen.new[:9]} is already live; nothing to do")
            return
    deploys.deploy_commit(
        gatling,
        name,
        chosen.new,
        cause="push",
        progress=progress,
        updates=updates,
        wish=Wish(rehearse=push_options.rehearses()),
        watch_pusher=JOB not in os.environ,  # on a server the hook does that, in another process
        beside=keep,
        waiting=waiting,
    )
