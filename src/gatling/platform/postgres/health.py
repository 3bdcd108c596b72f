"""The faults of a running cluster, present and coming ones, by its own statistics. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gatling.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.platform.postgres.clusters import Facts

MOST_CONNECTIONS = 0.9
MOST_AGE = 0.5
"""PostgreSQL freezes rows by itself from a share of 0.1 on: something keeps it from that."""
LONG_SECONDS = 6 * 3600
SLOT_BYTES = 1 << 30
MOST_LOG = 4
"""Times its own limit, for a log that nothing else explains."""
DEAD_SHARE, DEAD_BYTES = 0.5, 1 << 30


class Fault(NamedTuple):
    """A fault, and advice about it."""

    what: str
    hint: str


def faults(database: str, app: str, facts: Facts) -> list[Fault]:
    """The faults of a database of an app, the most urgent first."""
    named = f"{app}{'' if app == database else f' --name {database}'}"
    return [*_log(database, named, facts), *_room(database, facts), *_use(database, named, facts)]


def _log(database: str, named: str, facts: Facts) -> Iterator[Fault]:
    """The one reason for which the write-ahead log may fill the disk."""
    log, free = gigabytes(facts.log_bytes), gigabytes(facts.free_bytes)
    if facts.archiving_failed and facts.log_waiting:
        yield Fault(
            f"{database}: its log cannot be archived. {counted(facts.log_waiting, 'segment')} of it"
            f" wait, it takes {log}, and {free} of the disk are free.",
            f"`gatling db backup {named}` shows the reason.",
        )
    elif facts.slot_bytes > SLOT_BYTES:
        yield Fault(
            f"{database}: a replication slot keeps {gigabytes(facts.slot_bytes)} of the log, and"
            f" {free} of the disk are free.",
            "The view pg_replication_slots shows it. As the superuser, pg_drop_replication_slot"
            " removes one that nobody uses.",
        )
    elif facts.log_bytes > MOST_LOG * facts.log_limit:
        yield Fault(
            f"{database}: its log takes {log}, and {free} of the disk are free.",
            "PostgreSQL's own log names the reason.",
        )


def _room(database: str, facts: Facts) -> Iterator[Fault]:
    if facts.free_bytes < facts.bytes:
        yield Fault(
            f"{database} takes {gigabytes(facts.bytes)}, and {gigabytes(facts.free_bytes)} of the"
            " disk are free: a restore, the proof of a backup or a last copy needs as much as the"
            " database.",
            "Free some of the disk, or enlarge it.",
        )
    if facts.dead_bytes > max(DEAD_BYTES, DEAD_SHARE * facts.bytes):
        yield Fault(
            f"{database}: deleted rows take about {gigabytes(facts.dead_bytes)} of"
            f" {gigabytes(facts.bytes)}.",
            "VACUUM makes their room usable again. It runs by itself, unless a transaction is open"
            " for long.",
        )


def _use(database: str, named: str, facts: Facts) -> Iterator[Fault]:
    if facts.age > MOST_AGE:
        yield Fault(
            f"{database} has used {facts.age:.0%} of its transaction numbers. At 100% it takes no"
            " writes.",
            "End transactions that are open for long, and prepared ones, then"
            f" `gatling db psql {named} -- -c 'VACUUM (FREEZE)'`.",
        )
    if facts.connections >= MOST_CONNECTIONS * facts.max_connections:
        yield Fault(
            f"{database}: {facts.connections} of {facts.max_connections} connections are in use.",
            "Use a smaller pool (`pool_size` of the repo, usually POOL_SIZE), or fewer workers.",
        )
    if facts.longest_transaction > LONG_SECONDS:
        yield Fault(
            f"{database}: a transaction has been open for {facts.longest_transaction / 3600:.0f}"
            " hours. The rows that it may read cannot be removed.",
            f"`gatling db psql {named}`: the view pg_stat_activity shows it, and"
            " `SELECT pg_terminate_backend(PID)` ends it.",
        )


def gigabytes(count: int) -> str:
    """`12.3 GB`, in powers of ten."""
    return f"{count / 1e9:.1f} GB"
