"""An instance of a release in a free slot: started, waited for, and stopped when it is no good."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from msgspec import structs

from gatling import process
from gatling.cleanup import cleaning, finally_
from gatling.deploy.evidence import health
from gatling.errors import UnhealthyRelease
from gatling.platform.logs import CHECK, WEB, Wanted
from gatling.runtime import crash_excerpt, crash_hints, spec
from gatling.times import now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.platform.open import Gatling
    from gatling.project.settings import Settings
    from gatling.state.apps import App
    from gatling.state.releases import Release

CHECK_VARIABLE = "GATLING_BOOT_CHECK"
"""Set to 1 in an instance that never serves, and so in no other."""
STAYS_SHARE, STAYS_AT_MOST_SECONDS = 2, 5.0
"""An instance that has to stay up does so for half the time of its boot, within limits."""
LOG_LINES = 2000


def start(
    gatling: Gatling,
    app: App,
    release: Release,
    slot: int,
    settings: Settings,
    *,
    check: bool = False,
) -> None:
    """Start a release in a slot, whatever a killed deployment has left there; raises PortTaken.

    With `check`, one that never serves.
    """
    gatling.instances.stop(app.name, slot, settings.instance.stop)
    gatling.instances.check_free(app, slot)
    instance = spec.instance(gatling.apps.surroundings(app.name), app, release, slot)
    if check:
        env = instance.env | {CHECK_VARIABLE: "1"} | spec.quiet(instance.cwd, release)
        instance = structs.replace(instance, nice=process.BACKGROUND, check=True, env=env)
    gatling.instances.start(instance)


def boot(
    gatling: Gatling, app: App, release: Release, slot: int, settings: Settings, stays: float = 0
) -> None:
    """Start a release in a slot, not to serve, and wait until it is healthy.

    And is so after `stays` seconds more: it listens before its last child is started. A machine on
    which a boot is slow takes longer for a crash as well. The environment says that it is a second
    instance. Raises UnhealthyRelease and PortTaken.
    """
    since, began = now(), time.monotonic()
    try:
        start(gatling, app, release, slot, settings, check=True)
        process_ = health.wait_healthy(gatling.instances, app, slot, settings.health)
        if stays:
            share = (time.monotonic() - began) / STAYS_SHARE
            time.sleep(max(stays, min(share, STAYS_AT_MOST_SECONDS)))
            health.wait_healthy(gatling.instances, app, slot, settings.health, process_)
    except BaseException as error:
        give_up(gatling, app, release, slot, settings, since, error, CHECK)
        raise


def give_up(
    gatling: Gatling,
    app: App,
    release: Release,
    slot: int,
    settings: Settings,
    since: str,
    error: BaseException,
    process_: str = WEB,
) -> None:
    """Stop an instance that nobody has talked to; first, so that its last words are in the log.

    `error` stays the one that is reported: what fails here is added to its log.
    """
    with cleaning(error):  # recovery, which follows, tries again
        stop_unused(gatling, app, slot, settings)
        if isinstance(error, UnhealthyRelease):
            error.log = last_words_since(gatling, app, release.label, since, process_)
            more = f"Full output: `gatling logs {app.name} --release {release.label}`."
            error.hint = f"{crash_hints.fitting(error.log, app.name) or error.hint} {more}".lstrip()


def stop_unused(gatling: Gatling, app: App, slot: int, settings: Settings) -> None:
    """Stop an instance that serves nobody."""
    limit = min(spec.UNUSED_STOP_SECONDS, settings.instance.stop)
    gatling.instances.stop(app.name, slot, limit, unused=True)


@contextlib.contextmanager
def throw_away(gatling: Gatling, app: App, slot: int, settings: Settings) -> Iterator[None]:
    """Stop what the block starts in a slot. The block's own error is the one that is reported."""
    with finally_(lambda: stop_unused(gatling, app, slot, settings)):
        yield


def last_words_since(
    gatling: Gatling,
    app: App,
    label: str,
    since: str,
    process_: str = WEB,
    *,
    only_causes: bool = False,
) -> tuple[str, ...]:
    """Return the output since `since` of an instance booted as `label`, chosen for its errors.

    With `only_causes`, the result is empty when the output names no cause.
    """
    wanted = Wanted(label, process_)
    said = gatling.logs.read(app.name, lines=LOG_LINES, since=since, wanted=wanted)
    return crash_excerpt.choose([line.text for line in said], only_causes=only_causes)
