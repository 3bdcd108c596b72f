"""The boot check: a release is started where nobody is served by it.

A swap runs no `start/2` and no `init/1`, so an upgraded node may serve and its release be unable to
boot. The release is started in the free slot, beside the watch. A deployment waits for it until
WAITED_SECONDS after the switch. If it takes longer, the records say that the release is unproven
(state.watches), and another process goes on with the check (operations/proving.py). Until it has
passed, a start of the app starts the release before (deploy/fallback.py).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling import cleanup
from gatling.deploy.cutover import instance, previous
from gatling.deploy.evidence import health
from gatling.deploy.plan import exclusive
from gatling.platform.logs import CHECK
from gatling.state import deployments, watches
from gatling.times import now

if TYPE_CHECKING:
    from gatling.deploy.context import Context
    from gatling.platform.open import Gatling
    from gatling.project.settings import Settings
    from gatling.state.apps import App
    from gatling.state.releases import Release

WAITED_SECONDS = 1.2
"""How long after the switch a deployment waits. Most of it is the watch's anyway."""
LAST_LOOK_SECONDS = 0.05


class BootCheck:
    """A release that is started in the free slot, without traffic."""

    def __init__(self, gatling: Gatling, app: App, release: Release, settings: Settings) -> None:
        self.release = release
        self._gatling, self._app, self._settings = gatling, app, settings
        self._since, self._began = now(), time.monotonic()
        self._process: str | None = None
        self._runs = False

    @property
    def seconds(self) -> float:
        """How long the instance has run."""
        return time.monotonic() - self._began

    def start(self) -> None:
        """Start the instance; raises PortTaken."""
        app, slot = self._app, self._app.free_slot
        self._since, self._began, self._runs = now(), time.monotonic(), True
        try:
            instance.start(self._gatling, app, self.release, slot, self._settings, check=True)
            self._process = self._gatling.instances.status(app.name, slot).process
        except BaseException as error:
            self.give_up(error)
            raise

    def adopt(self) -> bool:
        """Go on with an instance that another process has started; whether there is one."""
        app, slot = self._app, self._app.free_slot
        status = self._gatling.instances.status(app.name, slot)
        booted = self._gatling.instances.started_as(app.name, slot)
        self._runs = status.up and booted == self.release.number
        if self._runs:
            self._process = status.process
        return self._runs

    def has_booted(self, patience: float) -> bool:
        """Whether the instance has become healthy within so many seconds; False: it may still.

        Raises UnhealthyRelease. The instance is left as it is: a deployment may have put its own
        in the slot, and only the holder of the app's lock knows.
        """
        try:
            health.wait_healthy(
                self._gatling.instances,
                self._app,
                self._app.free_slot,
                self._settings.health,
                self._process,
                since=self._began,
                patience=patience,
            )
        except health.StillBootsError:
            return False
        return True

    def begin_to_stop(self) -> None:
        """Have the instance stop, and do not wait: a node takes a second to end.

        Whatever uses the slot next waits for that.
        """
        if self._runs:
            self._runs = False
            self._gatling.instances.begin_to_stop([(self._app.name, self._app.free_slot)])

    def stop(self) -> None:
        """Stop the instance, if it runs."""
        if self._runs:
            self._runs = False
            instance.stop_unused(self._gatling, self._app, self._app.free_slot, self._settings)

    def give_up(self, error: BaseException) -> None:
        """Stop the instance because of an error, which gets its last words as its log.

        The caller holds the app's lock.
        """
        self._runs = False
        instance.give_up(
            self._gatling, self._app, self.release, self._app.free_slot, self._settings,
            self._since, error, CHECK,
        )  # fmt: skip


def before(gatling: Gatling, context: Context, release: Release, stays: float = 0) -> None:
    """Start a release, wait until it is healthy, for `stays` seconds more, and stop it again."""
    app, settings = context.app, context.settings
    previous.make_room(gatling, context)
    with (
        context.journal.step("boot_check"),
        exclusive.told(context, "boot check", release),
        instance.throw_away(gatling, app, app.free_slot, settings),
    ):
        instance.boot(gatling, app, release, app.free_slot, settings, stays)


def beside(
    gatling: Gatling, context: Context, release: Release, *, booted: bool
) -> BootCheck | None:
    """The check of a release that the node runs now; None if there is nothing to check.

    That is so for one that has `booted` already.
    """
    settings = context.settings
    why = context.alone or ("hot.boot_check=off",)
    if context.alone or settings.hot.boot_check == "off":
        context.progress.note(f"not checked whether {release.label} boots: {'; '.join(why)}")
        return None
    if booted or settings.hot.boot_check == "before" or _is_known(gatling, context, release):
        return None
    previous.make_room(gatling, context)
    return BootCheck(gatling, context.app, release, settings)


def _is_known(gatling: Gatling, context: Context, release: Release) -> bool:
    """Whether a release is the one that the next start of the app would start anyway."""
    live = context.app.live_release
    return watches.boots(gatling.db, context.app.name, live) == release.number != live


def finish(context: Context, check: BootCheck, switched: float) -> bool:
    """Wait for a check as long as a deployment does; whether the release has booted.

    Raises UnhealthyRelease.
    """
    patience = max(LAST_LOOK_SECONDS, switched + WAITED_SECONDS - time.time())
    if context.deployment.cause == deployments.WATCH:
        patience = context.settings.health.timeout  # nobody waits for it
    context.journal.begin("boot_check")
    booted = False
    try:
        booted = check.has_booted(patience)
    except BaseException as error:
        check.give_up(error)
        exclusive.tell(context, "boot check", check.release, check.seconds)
        raise
    if booted:
        check.begin_to_stop()
        context.journal.end("boot_check", check.seconds)
        exclusive.tell(context, "boot check", check.release, check.seconds)
    else:
        context.journal.leave("boot_check")
    return booted


def stop(check: BootCheck | None, error: BaseException) -> None:
    """Stop a check because of another error, which stays the one that is reported."""
    with cleanup.cleaning(error):
        if check is not None:
            check.stop()
