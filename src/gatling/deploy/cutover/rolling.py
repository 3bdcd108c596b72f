"""The cut-over, rolling: the new release beside the old one, the switch, the end of the old one.

The order is what makes it safe. Until `switch_proxy` nothing of the live release is touched; the
decision is one transaction in the state, on the disk before the proxy is told; whatever happens
after it, recovery finishes what was decided.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

from gatling import process
from gatling.deploy.evidence import health, probing
from gatling.errors import UnhealthyRelease, cleaning, finally_
from gatling.platform.logs import CHECK, WEB, Wanted
from gatling.runtime import crash_excerpt, crash_hints, spec
from gatling.state import apps, config
from gatling.text import counted
from gatling.times import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from gatling.deploy.evidence.prober import Prober, Proof
    from gatling.deploy.journal import Journal
    from gatling.interrupt import Interruption
    from gatling.platform.open import Gatling
    from gatling.project.settings import Settings
    from gatling.state.apps import App
    from gatling.state.releases import Release

CHECK_VARIABLE = "GATLING_BOOT_CHECK"
"""Set to 1 in an instance that never serves, and so in no other."""
DRAIN_POLL_SECONDS = 0.05
RESTART_DRAIN_SECONDS = 5.0
"""At most so long a drain while the app is down: sockets that last would only lengthen that."""
DRAIN_CHECKS = 3
"""So many looks in a row must find no connection: nginx may just be opening one."""
LOG_LINES = 2000


def roll(
    gatling: Gatling,
    app: App,
    release: Release,
    settings: Settings,
    *,
    journal: Journal,
    interruption: Interruption,
    before_decision: Callable[[], None],
    on_live: Callable[[], None],
    tolerated: Callable[[], AbstractContextManager[None]],
) -> Proof:
    """Make `release` the live one in the free slot; returns what the prober saw.

    Raises UnhealthyRelease, PortTaken or ProxyRefused with the old release untouched; the caller
    then brings the free slot into order (see recovery). `before_decision` may still raise. What
    fails after the decision is `tolerated`.
    """
    slot = app.free_slot
    since = now()
    try:
        with journal.step("start_instance"):
            _start(gatling, app, release, slot, settings)
            gatling.router.check()  # takes as long as the instance needs to boot anyway
        with journal.step("health_check"):
            health.wait_healthy(gatling.instances, app, slot, settings.health)
        before_decision()
        interruption.shield()
    except BaseException as error:
        _give_up(gatling, app, release, slot, settings, since, error)
        raise
    prober = probing.prober(gatling, app, settings)
    with contextlib.ExitStack() as asking:
        serves = app.live_slot is not None and gatling.router.pointed(app.name) == app.live_slot
        if serves:
            asking.enter_context(prober.asking())
        with journal.step("switch_proxy"):
            switch(gatling, app, release, slot)
        with tolerated():
            on_live()
            if not serves:
                asking.enter_context(prober.asking())
        cut = 0
        if app.live_slot is not None:
            with tolerated(), journal.step("drain"):
                seconds = settings.instance.drain
                cut = _drain(gatling, app, app.live_slot, seconds, journal, prober)
            with tolerated(), journal.step("stop_previous"):
                gatling.instances.stop(app.name, app.live_slot, settings.instance.stop)
    return dataclasses.replace(prober.proof, cut=cut)


def replace(
    gatling: Gatling,
    app: App,
    release: Release,
    settings: Settings,
    *,
    journal: Journal,
    interruption: Interruption,
    before_decision: Callable[[], None],
    on_live: Callable[[], None],
    tolerated: Callable[[], AbstractContextManager[None]],
) -> Proof:
    """As `roll`, for apps of which no two instances may run: the old one is stopped first.

    The app is down until the new release is healthy, so the drain is short. When the new release
    does not become healthy, the old one is started again.
    """
    slot, since = app.free_slot, now()
    gatling.router.check()
    before_decision()
    interruption.shield()
    prober = probing.prober(gatling, app, settings)
    cut = 0
    with prober.asking():
        try:
            if app.live_slot is not None:
                gatling.router.point(app.name, None)
                with journal.step("drain"):
                    seconds = min(RESTART_DRAIN_SECONDS, settings.instance.drain)
                    cut = _drain(gatling, app, app.live_slot, seconds, journal, prober)
                with journal.step("stop_previous"):
                    gatling.instances.stop(app.name, app.live_slot, settings.instance.stop)
            with journal.step("start_instance"):
                _start(gatling, app, release, slot, settings)
            with journal.step("health_check"):
                health.wait_healthy(gatling.instances, app, slot, settings.health)
        except BaseException as error:
            # recovery, which follows, starts the old one again
            _give_up(gatling, app, release, slot, settings, since, error)
            raise
        with journal.step("switch_proxy"):
            switch(gatling, app, release, slot)
        with tolerated():
            on_live()
    return dataclasses.replace(prober.proof, cut=cut)


def boot(
    gatling: Gatling, app: App, release: Release, slot: int, settings: Settings, stays: float = 0
) -> None:
    """Start a release in a slot, not to serve, and wait until it is healthy; errors as `roll`.

    And is so after some seconds more, if wanted: it listens before its last child is started. Its
    environment says that it is a second instance.
    """
    since = now()
    try:
        _start(gatling, app, release, slot, settings, check=True)
        process_ = health.wait_healthy(gatling.instances, app, slot, settings.health)
        if stays:
            time.sleep(stays)
            health.wait_healthy(gatling.instances, app, slot, settings.health, process_)
    except BaseException as error:
        _give_up(gatling, app, release, slot, settings, since, error, CHECK)
        raise


def switch(gatling: Gatling, app: App, release: Release, slot: int) -> None:
    """Decide for a release and tell the proxy; taken back when the proxy cannot be told."""
    before = config.of_app(gatling.db, app.name)
    # a release that is started anew leaves alone what is stored for the next one
    values = None if release.number == app.live_release else release.config
    apps.make_live(gatling.db, app.name, release=release.number, slot=slot, config=values)
    try:
        gatling.router.point(app.name, slot)
    except BaseException as error:
        with cleaning(error):
            apps.make_live(
                gatling.db,
                app.name,
                release=app.live_release,
                slot=app.live_slot,
                config=before,
                wanted=app.wanted,
            )
        raise


def _start(
    gatling: Gatling,
    app: App,
    release: Release,
    slot: int,
    settings: Settings,
    *,
    check: bool = False,
) -> None:
    gatling.instances.stop(app.name, slot, settings.instance.stop)
    gatling.instances.check_free(app, slot)
    instance = spec.instance(gatling.apps.surroundings(app.name), app, release, slot)
    if check:
        env = instance.env | {CHECK_VARIABLE: "1"}
        instance = dataclasses.replace(instance, nice=process.BACKGROUND, check=True, env=env)
    gatling.instances.start(instance)


def _give_up(
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
            more = f"All it said: `gatling logs {app.name} --release {release.label}`."
            error.hint = f"{crash_hints.fitting(error.log, app.name) or error.hint} {more}".lstrip()


def stop_unused(gatling: Gatling, app: App, slot: int, settings: Settings) -> None:
    """Stop an instance that serves nobody."""
    gatling.instances.stop(app.name, slot, min(spec.UNUSED_STOP_SECONDS, settings.instance.stop))


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
    """What an instance that was booted as a release said since then, chosen for its errors.

    With `only_causes`, nothing where it named none.
    """
    wanted = Wanted(label, process_)
    said = gatling.logs.read(app.name, lines=LOG_LINES, since=since, wanted=wanted)
    return crash_excerpt.choose([line.text for line in said], only_causes=only_causes)


def _drain(
    gatling: Gatling, app: App, slot: int, seconds: float, journal: Journal, prober: Prober
) -> int:
    """Wait until nobody is connected to the old instance, for so many seconds at most.

    How many connections are left then; they are closed when the instance ends.
    """
    if not gatling.instances.status(app.name, slot).up:
        return 0
    count = gatling.instances.connections(app, slot)
    deadline = time.monotonic() + seconds
    idle, told, connections = 0, False, 0
    while idle < DRAIN_CHECKS and time.monotonic() < deadline:
        connections = count()
        idle = 0 if connections else idle + 1
        prober.slow_down()
        if connections and not told and time.monotonic() > deadline - seconds + 1:
            journal.line(
                f"waiting up to {seconds:g} s for the end of"
                f" {counted(connections, 'connection')} to the previous instance"
            )
            told = True
        time.sleep(DRAIN_POLL_SECONDS)
    return connections
