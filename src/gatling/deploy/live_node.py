"""The running node of an app, reached over its control channel, and what it runs."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from gatling import names
from gatling.beam import compiler
from gatling.beam.channel import PATIENCE_SECONDS
from gatling.beam.control import Control, control, seen_chain
from gatling.errors import GatlingError, NodeUnreachable
from gatling.project import settings as project_settings
from gatling.runtime import spec
from gatling.state import releases, watches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from gatling.beam.sight import Sight
    from gatling.platform.base import Address
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.releases import Release

DEPLOYMENT_PATIENCE_SECONDS = 60.0
"""How long a deployment waits for `gatling plan`: without the node it would be rolling."""


@contextlib.contextmanager
def connected(gatling: Gatling, app: App, patience: float = PATIENCE_SECONDS) -> Iterator[Control]:
    """The control channel to the app's running node, as beam.control; raises NodeUnreachable."""
    booted = gatling.instances.started_as(app.name, app.live_slot or 0)
    if booted is None:
        raise NodeUnreachable(f"{app.name} is not running.")
    release = releases.kept(gatling.db, app.name, booted)
    compiler.ensure(gatling.tasks, gatling.apps.surroundings(app.name), app, release)
    with contextlib.ExitStack() as connection:
        try:
            opened = connection.enter_context(
                control(gatling.home.app(app.name), app, release, _address(gatling, app), patience)
            )
        except NodeUnreachable:
            faults = spec.flag_faults(gatling, app, release, app.live_slot or 0)
            if not faults:
                raise
            raise NodeUnreachable(f"{'; '.join(faults)}.") from None
        yield opened


@contextlib.contextmanager
def observed(gatling: Gatling, app: App) -> Iterator[Sight]:
    """A connection to the app's running node that measures it; raises NodeUnreachable."""
    with observer(gatling, app)() as node:
        yield node


def observer(gatling: Gatling, app: App) -> Callable[[], AbstractContextManager[Sight]]:
    """The function that connects to the app's running node; another thread may call it.

    All that needs the records, which belong to this thread, is done before. Raises NodeUnreachable.
    """
    from gatling.beam import sight

    booted = gatling.instances.started_as(app.name, app.live_slot or 0)
    if booted is None:
        raise NodeUnreachable(f"{app.name} is not running.")
    release = releases.kept(gatling.db, app.name, booted)
    address = _address(gatling, app)
    compiler.ensure(gatling.tasks, gatling.apps.surroundings(app.name), app, release)
    return functools.partial(sight.connected, gatling.home.app(app.name), app, release, address)


def count_events(gatling: Gatling, app: App) -> None:
    """Have the running node count what its libraries report; raises NodeUnreachable.

    Nothing is done for an app that does not want it.
    """
    if project_settings.parse(app.effective).stats.telemetry and app.live_slot is not None:
        with observed(gatling, app) as node:
            node.attach()


def seen(gatling: Gatling, app: App, patience: float) -> list[str]:
    """The releases that the running node went through; nothing is loaded into it or compiled.

    Raises NodeUnreachable.
    """
    booted = gatling.instances.started_as(app.name, app.live_slot or 0)
    if booted is None:
        raise NodeUnreachable(f"{app.name} is not running.")
    release = releases.kept(gatling.db, app.name, booted)
    address = _address(gatling, app)
    chain = seen_chain(gatling.home.app(app.name), app, release, address, patience)
    if releases.unknown(gatling.db, app.name, chain):
        raise NodeUnreachable(f"The node of {app.name} names a release that does not exist.")
    return chain or [f"v{booted}"]


def _address(gatling: Gatling, app: App) -> Address:
    if app.live_slot is None:
        raise NodeUnreachable(f"{app.name} has no running node.")
    return gatling.instances.node_address(app, app.live_slot)


@contextlib.contextmanager
def listening(node: Control) -> Iterator[None]:
    """Note the errors that the node logs during the block, to compare with those of an upgrade."""
    node.listen()
    try:
        yield
    finally:
        with contextlib.suppress(GatlingError):
            node.deaf()


def running(node: Control, booted: int) -> int:
    """The number of the release that a node runs. The release may not exist."""
    chain = node.chain()
    return names.release_number(chain[-1][0]) or booted if chain else booted


def prepare(gatling: Gatling, app: App, release: Release) -> None:
    """Let the node's next start be that of the release, or of the last one known to boot."""
    number = watches.boots(gatling.db, app.name, release.number)
    if number is not None and number != release.number:
        release = releases.kept(gatling.db, app.name, number)
    prepare_proven(gatling, app, release)


def prepare_proven(gatling: Gatling, app: App, release: Release) -> None:
    """Let the node's next start be that of a release that is known to boot."""
    around = gatling.apps.surroundings(app.name)
    gatling.instances.prepare(spec.instance(around, app, release, app.live_slot or 1))
