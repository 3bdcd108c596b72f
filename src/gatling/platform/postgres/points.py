"""Named restore points in the log of a cluster. Pure.

A release's restore point is made before its migrations run. A restore that replays the log up to it
yields the database as it was at that moment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gatling.platform.postgres import pgbackrest
from gatling.platform.postgres.sql import literal

NAME = re.compile(r"gatling-v[1-9][0-9]{0,8}-[0-9a-f]{1,16}")
SECONDS = 30.0
"""The time limit for making one, which keeps a deployment waiting."""


@dataclass(frozen=True)
class Place:
    """The place of a restore point."""

    stanza: str
    """pgBackRest's name for the cluster."""
    lsn: int
    """Its place in the log."""


def name(release: int, unique: int) -> str:
    """The name of the restore point of a release.

    A replay ends at the first one of a name. So a name is never used twice, also if the program
    that made one was killed before it recorded that.
    """
    return f"gatling-v{release}-{unique:x}"


def create(name: str) -> str:
    """SQL of the superuser: make a restore point, and have its part of the log archived soon."""
    script = (
        "SELECT system_identifier FROM pg_control_system();",
        f"SELECT pg_create_restore_point({literal(name)});",
        "SELECT pg_switch_wal();",
    )
    return "".join(f"{line}\n" for line in script)


def place(label: str, output: str) -> Place:
    """The place that this SQL printed, in a cluster with a label."""
    system, lsn, _ = output.split()
    return Place(pgbackrest.stanza(label, system), pgbackrest.lsn(lsn))
