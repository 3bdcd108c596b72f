"""Whether the databases of apps are complete, and their clusters run."""

from __future__ import annotations

import subprocess
from datetime import datetime
from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import GatlingError
from gatling.platform.postgres import health
from gatling.platform.postgres.clusters import Cluster
from gatling.platform.server import backing_up, cluster_units

LATE_DAYS = 2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gatling.platform.postgres.clusters import Facts
    from gatling.state.backups import Attempts, Plan
    from gatling.state.databases import Record


def unproved(
    every: Sequence[Record], attempts: Mapping[str, Attempts]
) -> Iterator[tuple[str, str]]:
    """The databases whose last backup failed, or is not proved, each with its remedy."""
    for one in every:
        last = attempts.get(one.name)
        if last is not None and last.fault:
            proved = f" The last proved backup is of {last.proved_at}." if last.proved_at else ""
            yield (f"The last backup of {one.name} failed: {last.fault.rstrip('.')}.{proved}",
                   f"`gatling db backup {_name(one)}` makes another one.")  # fmt: skip


def late(
    every: Sequence[Record], attempts: Mapping[str, Attempts], plans: Mapping[str, Plan], now: float
) -> Iterator[tuple[str, str]]:
    """The databases that have a schedule and no backup of the last two days, with the remedy."""
    for one in every:
        plan, last = plans.get(one.name), attempts.get(one.name)
        if plan is None or not plan.at or (last is not None and last.fault):
            continue
        proved = last.proved_at if last is not None and last.proved_at else plan.changed_at
        days = (now - datetime.fromisoformat(proved).timestamp()) / 86400
        if days > LATE_DAYS:
            yield (f"{one.name} has a schedule for backups, and none for {days:.0f} days.",
                   f"`systemctl status {backing_up.TIMER}` says why.")  # fmt: skip


def without(every: Sequence[Record], attempts: Mapping[str, Attempts]) -> list[str]:
    """The databases that have no proved backup."""
    proved = {name for name, last in attempts.items() if last.proved_at}
    return [one.name for one in every if one.state == "ready" and one.name not in proved]


def faults(every: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """The faults of databases, each with its remedy."""
    for one in every:
        name = _name(one)
        if one.begun:
            what, verb = {"restoring": ("restore", "restore"), "forking": ("fork", "fork")}[
                one.begun]  # fmt: skip
            yield (f"The {what} of the database {one.name} was not completed.",
                   f"The same `gatling db {verb}` completes it.")  # fmt: skip
        elif one.state == "creating":
            yield (f"The database {one.name} was not completed.",
                   f"`gatling db create {name}` completes it.")  # fmt: skip
        elif one.state == "removing":
            yield (f"The removal of the database {one.name} was not completed.",
                   f"`gatling db destroy {name}` completes it.")  # fmt: skip
        else:
            unit = cluster_units.unit(Cluster(one.name, one.version, one.generation))
            state = _state(unit)
            if state != "active":
                yield (f"The database {one.name} does not run: {unit} is {state}.",
                       f"`systemctl status {unit}` says why.")  # fmt: skip


def weak(
    every: Sequence[Record], facts: Callable[[Cluster], Facts] | None = None
) -> Iterator[tuple[str, str]]:
    """The faults that the statistics of running databases show, each with its remedy."""
    ask = facts or _facts
    for one in every:
        cluster = Cluster(one.name, one.version, one.generation)
        if one.state != "ready" or _state(cluster_units.unit(cluster)) != "active":
            continue  # `faults` reports it
        try:
            found = ask(cluster)
        except (GatlingError, OSError, ValueError, subprocess.SubprocessError):
            yield (f"The database {one.name} does not answer.",
                   f"`journalctl -u {cluster_units.unit(cluster)} -n 50` says why.")  # fmt: skip
        else:
            yield from health.faults(one.name, one.app or one.name, found)


def _facts(cluster: Cluster) -> Facts:
    from gatling.platform.server.helper import databases

    return databases.read_facts(cluster)


def _name(one: Record) -> str:
    return f"{one.app or one.name}{'' if one.app == one.name else f' --name {one.name}'}"


def _state(unit: str) -> str:
    shown = process.run(["systemctl", "is-active", unit], timeout=30, check=False)
    return shown.text or "unknown"
