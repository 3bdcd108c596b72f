"""Make a release the live one on a cluster: image, migrations, rolling replacement, decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.build import callbacks
from gatling.deploy.cluster import image, once, workers
from gatling.deploy.cluster import objects as applied
from gatling.deploy.migrations import runner
from gatling.errors import CommandFailed, NotOnCluster
from gatling.platform.kubernetes import place
from gatling.project import refs
from gatling.runtime import jobs
from gatling.state import apps, deployments, releases

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatling.deploy.context import Context
    from gatling.deploy.wish import Wish
    from gatling.platform.open import Gatling
    from gatling.project.refs import Update
    from gatling.state.releases import Release

SLOT = 1
"""A cluster has no slots; records need one."""


def go_live(
    gatling: Gatling,
    context: Context,
    release: Release,
    updates: Sequence[Update],
    wish: Wish,
) -> None:
    """Replace the instances one by one, and decide when all of them serve.

    Raises UnhealthyRelease and others with nothing decided; recovery then applies the release
    that is live. `context` has the settings of the release.
    """
    app, settings, journal = context.app, context.settings, context.journal
    if wish.strategy in ("hot", "restart") or wish.rehearse:
        raise NotOnCluster(
            "Deployments on a cluster are rolling, other strategies do not exist yet."
        )
    applied.check(gatling, app, release, settings)
    platform = place.of(gatling.db, app)
    journal.phase(f"Preparing {release.label} for {platform.name}")
    release = image.ensure(gatling, context, release)
    live = None
    if app.live_release is not None:
        live = releases.get(gatling.db, app.name, app.live_release)
    deployments.set_target(
        gatling.db, context.deployment.id, release=release.number, slot=SLOT, strategy="rolling",
        reasons=(f"{app.name} runs on the cluster {platform.name}",),
    )  # fmt: skip
    context.callbacks.facts["strategy"] = "rolling"
    with place.opened(gatling.db, app) as api:
        tree = gatling.home.app(app.name).release(release.number)

        def in_a_job(
            words: tuple[str, ...], timeout: float, on_line: Callable[[str], None]
        ) -> None:
            status = once.run(
                api, app, release, platform, tree, words, what="migrate", timeout=timeout,
                on_line=on_line,
            )  # fmt: skip
            if status:
                raise CommandFailed(f"{' '.join(words)[:80]} ended with status {status}.")

        context.callbacks.at(*callbacks.BEFORE_MIGRATE)
        runner.run(gatling, context, live, release, elsewhere=in_a_job)
        context.callbacks.at(*callbacks.AFTER_MIGRATE)
        journal.phase(f"Replacing the instances on {platform.name}")
        with journal.step("replace_instances"):
            pods = applied.apply(api, app, release, platform, context.deployment.id)
            applied.wait(api, app, settings, context.deployment.id, settings.cluster.instances)
        context.callbacks.at(*callbacks.BEFORE_DECISION)
        refs.check_still(gatling.home.app(app.name).repository, updates)
        context.interruption.shield()
        # a restart of the live release keeps the config that is stored for the next one
        values = None if release.number == app.live_release else release.config
        apps.make_live(
            gatling.db, app.name, release=release.number, slot=SLOT, config=values,
            deployment=context.deployment.id,
        )  # fmt: skip
        with context.tolerated():
            context.progress.note(f"{release.label} is live")
        with context.tolerated():
            now = apps.get(gatling.db, app.name)
            context.progress.notes(workers.follow(gatling, api, now, release, platform))
            context.progress.notes(jobs.follow(gatling, app.name))
        with context.tolerated():
            applied.remove(api, app.name, keep=pods)
