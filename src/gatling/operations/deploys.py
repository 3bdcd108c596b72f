"""What can be deployed: a commit, a kept release, a change of config, the live release anew."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from typing import TYPE_CHECKING

import msgspec

from gatling import free_space
from gatling.build import callbacks
from gatling.deploy import deployment_log, new_release, project_domains, published
from gatling.deploy.migrations import runner
from gatling.deploy.plan import exclusive, plan
from gatling.deploy.run import Attempt, attempt, is_decided
from gatling.errors import (
    GatlingError,
    InvalidInput,
    NodeUnreachable,
    NotFound,
    PlannerFailed,
)
from gatling.operations import lifecycle
from gatling.platform import lock
from gatling.project import refs, repository
from gatling.project import settings as project_settings
from gatling.releases import distillery, store
from gatling.runtime import jobs, spec, workers
from gatling.state import apps, audit, config, deployments, releases
from gatling.state.database import now
from gatling.ui.output import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gatling.platform.open import Engine
    from gatling.project.refs import Update
    from gatling.state.apps import App
    from gatling.state.releases import Release
    from gatling.ui.progress import Progress


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of one deployment beyond the app's settings."""

    strategy: str | None = None
    rehearse: bool = False


NO_WISH = Wish()
NOTICED_SECONDS = 1.0
"""Time in no step that the summary names."""


def deploy_commit(
    engine: Engine,
    name: str,
    commit: str,
    *,
    cause: str,
    progress: Progress,
    updates: Sequence[Update] = (),
    wish: Wish = NO_WISH,
) -> None:
    """Build a commit and make it live. For a push, `updates` are all refs that git sets after it.

    They must stand where the push found them until the decision.
    """
    for directory in (engine.home.root, engine.home.app(name).root):
        free_space.check(directory, f"A build of {name}")
    lifecycle.ensure_up(engine, progress)
    # The cut-over's libraries load while mix works, instead of after it.
    threading.Thread(target=_load_cutover, daemon=True).start()
    with attempt(
        engine,
        name,
        cause=cause,
        commit=commit,
        progress=progress,
        # on a server the hook does that, which is not this process
        watch_pusher=bool(updates) and not engine.home.server,
    ) as this:
        refs.check_still(engine.home.app(name).repository, updates)
        release = new_release.make(engine, this, commit)
        with project_domains.in_force(engine, this):
            _go_live(engine, this, release, updates, wish)


def deploy_release(
    engine: Engine,
    name: str,
    number: int,
    *,
    cause: str,
    progress: Progress,
    wish: Wish = NO_WISH,
) -> None:
    """Make a kept release live again, with the config it had."""
    releases.kept(engine.db, name, number)
    lifecycle.ensure_up(engine, progress)
    with attempt(engine, name, cause=cause, commit=None, progress=progress) as this:
        release = releases.kept(engine.db, name, number)
        dropped = config.pending(engine.db, name)
        _go_live(engine, this, release, wish=wish)
        if dropped:
            this.progress.note(
                f"{release.label} has its own config: changes that were stored for the next"
                f" deployment are dropped ({', '.join(dropped)})"
            )


def deploy_config(
    engine: Engine,
    name: str,
    changes: Mapping[str, str | None],
    *,
    progress: Progress,
    restart: bool = True,
) -> None:
    """Set variables (None: unset). The live release goes on as a new one that has them.

    Without `restart`, or when nothing is live, they wait for the next deployment. When the new
    release does not become healthy the variables stay as they were.
    """
    app = apps.get(engine.db, name)
    cause = "config " + " ".join(
        f"{'unset' if value is None else 'set'} {key}" for key, value in sorted(changes.items())
    )
    if not restart or app.live_release is None or app.wanted == "stopped":
        _store_config(engine, name, changes, cause, progress)
        return
    lifecycle.ensure_up(engine, progress)
    with attempt(engine, name, cause=cause, commit=None, progress=progress) as this:
        if this.app.live_release is None:
            raise InvalidInput(f"Nothing of {name} is live any more.", hint="Try again.")
        live = releases.kept(engine.db, name, this.app.live_release)
        values = changed(config.of_app(engine.db, name), changes)
        paths = engine.home.app(name)
        with this.journal.step("store_release"):
            number, _ = new_release.next_number(engine, name)
            store.copy(paths, live.number, number)
            release = dataclasses.replace(
                live, number=number, origin="config", base=live.number, config=values, bytes=0,
                created_at=now(),
            )  # fmt: skip
            releases.add(engine.db, release)
        _go_live(engine, this, release)


def restart(engine: Engine, name: str, *, progress: Progress) -> None:
    """Start the live release anew beside itself, switch, end the old instance."""
    app = apps.get(engine.db, name)
    if app.live_release is None:
        raise InvalidInput(f"Nothing of {name} has been deployed yet.")
    lifecycle.ensure_up(engine, progress)
    with attempt(engine, name, cause="restart", commit=None, progress=progress) as this:
        release = releases.kept(engine.db, name, this.app.live_release or app.live_release)
        _go_live(engine, this, release)


def rollback_target(engine: Engine, name: str, wish: int | None) -> int:
    """The release that a rollback goes to: the one wished for, or the one live before.

    Raises NotFound or InvalidInput.
    """
    live = apps.get(engine.db, name).live_release
    if live is None:
        raise InvalidInput(f"Nothing of {name} has been deployed yet.")
    if wish == live:
        raise InvalidInput(
            f"v{live} is live already.", hint=f"`gatling restart {name}` starts it anew."
        )
    target = wish if wish is not None else deployments.live_before(engine.db, name, live)
    if target is None:
        raise NotFound(f"No release of {name} was live before v{live}.")
    return releases.kept(engine.db, name, target).number


def changed(values: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Variables after changes, None meaning unset."""
    merged = {**values, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _go_live(
    engine: Engine,
    this: Attempt,
    release: Release,
    updates: Sequence[Update] = (),
    wish: Wish = NO_WISH,
) -> None:
    """Make a release the live one, by the strategy that its plan says."""
    app, live = this.app, None
    this.settings = project_settings.parse(release.manifest | app.settings)
    if wish.rehearse:
        hot = msgspec.structs.replace(this.settings.hot, rehearse=True)
        this.settings = msgspec.structs.replace(this.settings, hot=hot)
    strategy = wish.strategy or this.settings.deploy.strategy
    if app.live_release is not None:
        live = releases.get(engine.db, app.name, app.live_release)
    this.callbacks.at(*callbacks.BEFORE_MIGRATE)
    runner.run(engine, this, live, release)
    this.callbacks.at(*callbacks.AFTER_MIGRATE)
    published.prepare(engine, this, release)
    try:
        _cut_over(engine, this, live, release, updates, strategy)
    except Exception as error:
        if not is_decided(engine, this):
            raise
        this.warn(error)
    _settle(engine, this, release)


def _cut_over(
    engine: Engine,
    this: Attempt,
    live: Release | None,
    release: Release,
    updates: Sequence[Update],
    strategy: str,
) -> None:
    """Decide on a strategy and carry it out."""
    app = this.app
    decided = plan.simple(live, release, strategy)
    # and not when all is decided: the node that is asked for the plan waits for no callback
    this.callbacks.at(*callbacks.BEFORE_CUT_OVER)
    if live is not None and strategy != "restart":
        this.alone = exclusive.reasons(engine, app, live, this.settings)
    if decided is None and live is not None:
        decided = _upgrade(engine, this, live, release, updates, strategy)
    assert decided is not None  # noqa: S101 (for the type checker: nothing live has a plan)
    if decided.strategy == "hot":
        return
    decided = plan.beside(decided, this.alone)
    from gatling.deploy.cutover import rolling  # noqa: PLC0415 (loaded while mix works)

    _announce(engine, this, release, decided, app.free_slot)
    carry_out = rolling.replace if decided.strategy == "restart" else rolling.roll

    def before_decision() -> None:
        this.callbacks.at(*callbacks.BEFORE_DECISION)
        refs.check_still(engine.home.app(app.name).repository, updates)

    this.proof = carry_out(
        engine,
        app,
        release,
        this.settings,
        journal=this.journal,
        interruption=this.interruption,
        before_decision=before_decision,
        on_live=lambda: this.progress.note(f"{release.label} is live"),
        tolerated=this.tolerated,
    )


def _settle(engine: Engine, this: Attempt, release: Release) -> None:
    """What follows the decision: no failure of it takes the decision back or stops the rest."""
    steps: tuple[Callable[[], None], ...] = (
        lambda: _say_flags(engine, this, release),
        lambda: published.follow(engine, this),
        lambda: published.warn_of_written(engine, this, release),
        lambda: workers.deployed(engine, this),
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


def _upgrade(
    engine: Engine,
    this: Attempt,
    live: Release,
    release: Release,
    updates: Sequence[Update],
    strategy: str,
) -> plan.Plan:
    """Upgrade the running node if that is safe; otherwise the plan says by what to go on."""
    from gatling.deploy.cutover import hot  # noqa: PLC0415 (loaded while mix works)

    app = this.app
    try:
        with (
            hot.connected(engine, app, hot.DEPLOYMENT_PATIENCE_SECONDS) as node,
            hot.listening(node),
            contextlib.ExitStack() as open_answers,
        ):
            with this.journal.step("plan"):
                differences = open_answers.enter_context(
                    hot.compared(engine, app, node, live, release)
                )
                decided = plan.decide(differences[0], strategy, this.settings.hot)
            if decided.strategy == "hot":
                _announce(engine, this, release, decided, app.live_slot)
                this.proof = hot.upgrade(
                    engine,
                    this,
                    node,
                    live,
                    release,
                    differences,
                    before_decision=lambda: refs.check_still(
                        engine.home.app(app.name).repository, updates
                    ),
                    on_live=lambda: this.progress.note(f"{release.label} runs"),
                )
            return decided
    except (NodeUnreachable, PlannerFailed) as error:
        if this.proof is not None or not this.interruption.armed:
            raise
        for line in error.log:  # what a planner printed before it failed
            this.progress.record(line)
        return plan.refuse_or_roll([error.what], strategy)
    except hot.NotPossible as refused:
        this.interruption.rearm()
        return plan.refuse_or_roll([str(refused)], strategy)


def _announce(
    engine: Engine, this: Attempt, release: Release, decided: plan.Plan, slot: int | None
) -> None:
    deployments.set_target(
        engine.db,
        this.deployment.id,
        release=release.number,
        slot=slot,
        strategy=decided.strategy,
        reasons=decided.reasons,
    )
    this.callbacks.facts |= {"strategy": decided.strategy, "port": this.app.ports.get(slot or 0)}
    this.progress.note(f"{release.label} by {decided.strategy}: {'; '.join(decided.reasons)}")


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


def _store_config(
    engine: Engine,
    name: str,
    changes: Mapping[str, str | None],
    cause: str,
    progress: Progress,
) -> None:
    with lock.hold_app(engine.home.app(name), progress.say):
        config.replace(engine.db, name, changed(config.of_app(engine.db, name), changes))
        audit.record(engine.db, engine.actor, name, cause, "for the next deployment")
    progress.say(f"{name}: stored for the next deployment")


def _load_cutover() -> None:
    with contextlib.suppress(ImportError):
        from gatling.deploy.cutover import hot  # noqa: F401, PLC0415
        from gatling.platform.embedded import rpc  # noqa: F401, PLC0415
