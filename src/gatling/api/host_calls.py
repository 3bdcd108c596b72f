"""The calls behind the routes for notifications, numbers over time, and metrics."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from gatling.operations import metrics, notices, timeline
from gatling.platform import logs
from gatling.state import apps

if TYPE_CHECKING:
    from gatling.api.contract import Call
    from gatling.operations.notices import ChannelAdded, ChannelEntry
    from gatling.operations.timeline import Timeline, WatchStatus
    from gatling.platform.open import Gatling


def list_channels(gatling: Gatling, _: Call) -> list[ChannelEntry]:
    """The channels."""
    return notices.every(gatling)


def add_channel(gatling: Gatling, call: Call) -> ChannelAdded:
    """Add a channel."""
    new = call.body
    return notices.add(gatling, new.name, new.target, new.apps, new.events, new.quiet)


def test_channel(gatling: Gatling, call: Call) -> ChannelEntry:
    """Send a notification through a channel, and wait until it is accepted."""
    notices.test(gatling, call.name)
    return next(one for one in notices.every(gatling) if one.name == call.name)


def remove_channel(gatling: Gatling, call: Call) -> list[ChannelEntry]:
    """Remove a channel; those that stay."""
    notices.remove(gatling, call.name)
    return notices.every(gatling)


def get_timeline(gatling: Gatling, call: Call) -> Timeline:
    """The numbers of an app over time."""
    since = datetime.fromisoformat(logs.parse_since(call.query.since)).timestamp()
    return timeline.of_app(gatling, call.app, since, points=call.query.points)


def get_watch(gatling: Gatling, call: Call) -> WatchStatus:
    """The state of the sampler, and the alerts that are on."""
    known = apps.every(gatling.db, clusters=True)
    shown = [app.name for app in known if call.grant.covers(app.name)]
    return timeline.status(gatling, shown)


def get_metrics(gatling: Gatling, call: Call) -> str:
    """The numbers of the apps that the token may see, as Prometheus reads them."""
    shown = [app for app in apps.every(gatling.db, clusters=True) if call.grant.covers(app.name)]
    return metrics.of_apps(gatling, shown)
