"""Whether the databases of apps are complete, and their clusters run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling import process
from gatling.platform.postgres.clusters import Cluster
from gatling.platform.server import cluster_units

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatling.state.databases import Record


def faults(every: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """The faults of databases, each with its remedy."""
    for one in every:
        name = f"{one.app or one.name}{'' if one.app == one.name else f' --name {one.name}'}"
        if one.state == "creating":
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


def _state(unit: str) -> str:
    shown = process.run(["systemctl", "is-active", unit], timeout=30, check=False)
    return shown.text or "unknown"
