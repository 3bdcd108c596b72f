"""What follows the decision for a release: nothing of it can take the decision back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.build import callbacks
from gatling.deploy import deployment_log, published
from gatling.errors import GatlingError, text_of
from gatling.project import repository
from gatling.releases import distillery, store
from gatling.runtime import jobs, spec, workers
from gatling.state import apps, deployments, releases
from gatling.ui.output import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.deploy.context import Attempt
    from gatling.platform.open import Engine
    from gatling.state.apps import App
    from gatling.state.releases import Release

NOTICED_SECONDS = 1.0
"""Time in no step that the summary names."""


def settle(engine: Engine, this: Attempt, release: Release) -> None:
    """What follows the decision: no failure of it takes the decision back or stops the rest."""
    steps: tuple[Callable[[], None], ...] = (
        lambda: _say_flags(engine, this, release),
        lambda: published.follow(engine, this),
        lambda: published.warn_of_written(engine, this, release),
        lambda: _replace_workers(engine, this),
        lambda: this.progress.notes(jobs.follow(engine, this.app.name)),
        lambda: this.callbacks.at(*callbacks.LIVE),
        lambda: _summary(engine, this, release),
        lambda: _retire(engine, this, release),
    )
    for step in steps:
        with this.tolerated():
            step()


def _say_flags(engine: Engine, this: Attempt, release: Release) -> None:
    """Say at once what the project's own flags take away, not when the next push cannot be hot."""
    app = apps.get(engine.db, this.app.name)
    for fault in spec.flag_faults(engine, app, release, app.live_slot or 0):
        this.progress.note(f"No hot upgrades from here: {fault}.")


def _replace_workers(engine: Engine, this: Attempt) -> None:
    """Replace the processes by those of the release that has gone live; failures are told."""
    name = this.app.name
    app = apps.get(engine.db, name)
    try:
        shall = list(workers.wanted(engine, app))
        if not shall and not engine.home.app(name).process_slots():
            return
        anew = shall if app.live_release == this.app.live_release else ()
        with this.journal.step("processes"):
            problems = workers.follow(engine, name, anew=anew) or workers.unwell(
                engine, name, shall
            )
    except (GatlingError, OSError) as error:
        problems = [f"the processes of {name}: {text_of(error)}"]
    for problem in problems:
        this.progress.note(problem)


def _summary(engine: Engine, this: Attempt, release: Release) -> None:
    app = apps.get(engine.db, this.app.name)
    strategy = deployments.get(engine.db, this.deployment.id).strategy
    spent = list(this.journal.seconds)
    if this.journal.idle > NOTICED_SECONDS:
        spent.append(("between steps", this.journal.idle))
    this.progress.say("       " + ", ".join(f"{name} {duration(took)}" for name, took in spent))
    this.progress.say(f"       proof: {this.proof}")
    if this.proof and this.proof.https and not engine.home.server:
        _say_of_https(this, app)
    url = engine.router.url(app)
    this.progress.done(f"=====> {this.app.name} {release.label} ({strategy}) serves {url}")


def _say_of_https(this: Attempt, app: App) -> None:
    from gatling.deploy.evidence import health  # noqa: PLC0415 (seldom needed)

    port = app.ports[app.live_slot or 1]
    if health.sends_to_https(port, this.settings.health.path, app.domain):
        this.progress.note(
            "the app sends browsers to https, which this proxy does not speak: in Phoenix, let"
            f" force_ssl (config/prod.exs) exclude the host {app.domain}"
        )


def _retire(engine: Engine, this: Attempt, live: Release) -> None:
    """Remove what is not kept any more. A failure here is told and fails nothing."""
    paths, name = engine.home.app(this.app.name), this.app.name
    kept = list(releases.kept_commits(engine.db, name))
    proven = deployments.ever_live(engine.db, name) | {live.number}
    # One that never became live may be tried again, until a newer one has.
    doomed = [n for n in kept if n not in proven and n < live.number]
    doomed += store.to_remove(
        [n for n in kept if n in proven], live.number, this.settings.releases.keep
    )
    try:
        # what was booted as a release uses files of it, whatever it was upgraded to since
        in_use = {engine.supervisor.booted(name, slot) for slot in apps.SLOTS}
        in_use |= workers.in_use(engine, name)
        in_use |= jobs.releases_in_use(engine, name)
        for number in (n for n in doomed if n not in in_use):
            with store.unused(paths, number) as free:  # not by `gatling run`, say
                if not free:
                    continue
                # first: a tree of which no record knows is removed by recovery
                releases.mark_removed(engine.db, name, number)
                store.remove(paths, number)
        distillery.sweep(paths.root / "tmp")
        repository.try_to_keep_commits(paths.repository, releases.kept_commits(engine.db, name))
        jobs.forget(engine, name)
        deployment_log.remove_old(paths)
    except (OSError, GatlingError) as error:
        this.progress.note(f"what is old could not all be removed: {error}")
