"""Go on with the boot check of a live release, after its deployment has returned."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling.deploy import fallback, live_node, recovery
from gatling.deploy import watch as background
from gatling.deploy.cutover.boot_check import BootCheck
from gatling.errors import GatlingError
from gatling.platform import lock
from gatling.project import settings as project_settings
from gatling.runtime import crash_excerpt
from gatling.state import apps, audit, deployments, releases, watches
from gatling.ui.output import duration

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.state.watches import Watch

SURE = 2
"""So many starts in a row must fail: `gatling down` ends an instance that boots, too."""


class Proving:
    """The boot check of an app's live release, in looks of some seconds."""

    def __init__(self, gatling: Gatling, name: str, seconds: float) -> None:
        self._gatling, self._name, self._seconds = gatling, name, seconds
        self._check: BootCheck | None = None
        self._newest = 0
        """The newest deployment when the check began; a later one may have taken the slot."""
        self._failures = 0

    def look(self, watch: Watch) -> str:
        """Look for some seconds; why the release does not boot, or empty."""
        app = apps.get(self._gatling.db, self._name)
        ends = self._gatling.instances.ends(self._name, app.live_slot or 1)
        if any(end.at > watch.switched for end in ends):
            self._fall_back()
            return ""
        try:
            if self._check is None and not self._begin(watch):
                time.sleep(self._seconds)
            check = self._check
            if check is not None and check.has_booted(self._seconds):
                self._passed(watch, check)
        except GatlingError as error:
            return self._failed(watch, error)
        return ""

    def _begin(self, watch: Watch) -> bool:
        """Take the check over, or start it; not while a deployment is under way, which may use it.

        Nor where another watch has come.
        """
        gatling, name = self._gatling, self._name
        with lock.try_hold(gatling.home.app(name).lock) as held:
            if not held or watches.of_app(gatling.db, name) != watch:
                return False
            app = apps.get(gatling.db, name)
            release = releases.kept(gatling.db, name, watch.release)
            check = BootCheck(gatling, app, release, project_settings.parse(app.effective))
            self._newest = self._deployment()
            if not check.adopt():
                check.start()
            self._check = check
            return True

    def _passed(self, watch: Watch, check: BootCheck) -> None:
        gatling, name = self._gatling, self._name
        with lock.try_hold(gatling.home.app(name).lock) as held:
            app = apps.get(gatling.db, name)
            checked = fallback.is_being_checked(gatling, app)
            self._check = None
            if not held or not checked or watches.of_app(gatling.db, name) != watch:
                return
            seconds = time.time() - watch.switched
            check.stop()
            live_node.prepare_proven(gatling, app, check.release)
            watches.prove(gatling.db, watch)
        deployments.end_boot_check(gatling.db, watch.deployment, "succeeded", seconds)
        what = f"v{watch.release} boots, as seen {duration(seconds)} after the switch"
        audit.record(gatling.db, gatling.actor, name, "boot check", what)

    def _failed(self, watch: Watch, error: GatlingError) -> str:
        """Why the release does not boot, once it is certain.

        Without the lock, or after a later deployment, what runs in the slot may be that one's.
        """
        check, self._check = self._check, None
        with lock.try_hold(self._gatling.home.app(self._name).lock) as held:
            app = apps.get(self._gatling.db, self._name)
            undisturbed = (
                held
                and watches.of_app(self._gatling.db, self._name) == watch
                and background.concerns(watch, app)
                and background.runs(self._gatling, app)
                and self._deployment() == self._newest
            )
            if undisturbed and check is not None:
                check.give_up(error)
        self._failures = self._failures + 1 if undisturbed else 0
        if self._failures < SURE:
            return ""
        cause = crash_excerpt.cause(error.log)
        return f"It does not boot: {error.what}{f' {cause}' if cause else ''}"

    def _deployment(self) -> int:
        newest = deployments.of_app(self._gatling.db, self._name, 1)
        return newest[0].id if newest else 0

    def _fall_back(self) -> None:
        """Bring the records into line with a node that was started again."""
        with lock.try_hold(self._gatling.home.app(self._name).lock) as held:
            app = apps.get(self._gatling.db, self._name)
            if held and fallback.was_started_again(self._gatling, app):
                recovery.reconcile(self._gatling, self._name)
        time.sleep(self._seconds)
