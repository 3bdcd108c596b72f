"""Backups of databases, each proved by a restore."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from gatling.cleanup import cleaning
from gatling.errors import BackupUnproved, GatlingError, InvalidInput, NotAllowed
from gatling.operations import databases, growth, restore_points
from gatling.operations.restore_points import Before  # noqa: TC001 (msgspec reads it)
from gatling.platform.homes import is_missing
from gatling.platform.postgres.clusters import Policy
from gatling.project.schedule import here
from gatling.runtime import backup_times, notifying
from gatling.state import audit, backups, notices
from gatling.state import databases as records
from gatling.times import now, stamp_of

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.platform.postgres.pgbackrest import Backup
    from gatling.state.databases import Record
    from gatling.ui.progress import Progress


MAX_COUNT, MAX_DAYS = 1000, 3650


class BackupEntry(Struct, frozen=True):
    """A backup."""

    database: str
    generation: int
    """The cluster that it is a backup of."""
    label: str
    kind: str
    made_at: str
    bytes: int
    """The size of the database."""
    stored: int
    """The bytes that this backup takes."""
    state: str
    """`proved`, `refuted` or `unproved`."""
    reason: str
    """Why it is not proved."""
    proved_at: str
    tables: int
    rows: int
    restore_points: list[Before]
    """The moments before migrations for which this backup is restored."""


class BackupDone(Struct, frozen=True):
    """A backup that was made and proved, with how long both took, in seconds."""

    backup: BackupEntry
    migrations: str
    """The number and the newest of Ecto's migrations, `12|20260101000000`; empty without them."""
    written: int
    """Tables that were written to during the comparison, and compared only roughly."""
    backup_seconds: float
    proof_seconds: float
    full_kept: int


def make(
    gatling: Gatling,
    app: str,
    name: str | None,
    progress: Progress,
    *,
    full: bool = False,
    may_install: bool = True,
) -> BackupDone:
    """Back a database of an app up, and prove the backup.

    Raises BackupUnproved when the proof fails or cannot be completed, and as the platform does. A
    failure is recorded and notified.
    """
    record = databases.ready(gatling, app, name)
    return _make(gatling, record, app, progress, full=full, may_install=may_install)


def scheduled(gatling: Gatling, progress: Progress) -> list[str]:
    """Make the backups that are due; the databases whose backup failed."""
    if is_missing(gatling.home):
        return []
    failed = []
    for record in records.every(gatling.db):
        plan = backups.plans(gatling.db).get(record.name)
        if record.state != "ready" or plan is None or not plan.at:
            continue
        last = backups.every(gatling.db).get(record.name)
        if time.time() < backup_times.due_at(plan, last, here()):
            continue
        try:
            _make(gatling, record, record.app or record.name, progress)
        except GatlingError as error:
            progress.fail(error)
            failed.append(record.name)
    _plan_next(gatling)
    return failed


def schedule(
    gatling: Gatling,
    app: str,
    name: str | None,
    *,
    at: str | None = None,
    count: int | None = None,
    days: int | None = None,
) -> backups.Plan:
    """Change when a database is backed up and which backups stay, as far as it is given; the plan.

    An empty `at` ends the schedule. Raises InvalidInput.
    """
    record = databases.ready(gatling, app, name)
    before = backups.plans(gatling.db).get(record.name) or backups.Plan(
        record.name, "", Policy.count, Policy.days, record.created_at
    )
    if at is None and count is None and days is None:
        return before
    wanted = backups.Plan(
        record.name,
        before.at if at is None else at and backup_times.time_of_day(at),
        _within("keep", before.count if count is None else count, 1, MAX_COUNT),
        _within("days", before.days if days is None else days, 0, MAX_DAYS),
        now(),
    )
    backups.plan(gatling.db, wanted)
    _plan_next(gatling)
    detail = f"{record.name} at={wanted.at or 'off'} keep={wanted.count} days={wanted.days}"
    audit.record(gatling.db, gatling.actor, app, "db schedule", detail)
    return wanted


def follow(gatling: Gatling, before: str, database: str) -> None:
    """Back a database up like the one in whose place it is used, unless it has a plan already."""
    plans = backups.plans(gatling.db)
    if before in plans and database not in plans:
        backups.plan(gatling.db, structs.replace(plans[before], database=database))
        _plan_next(gatling)


def _within(what: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise InvalidInput(f"--{what} is a number from {least} to {most}.")
    return value


def _plan_next(gatling: Gatling) -> None:
    """Have the platform start the next backup when it is due."""
    last, zone = backups.every(gatling.db), here()
    gatling.schedule.back_up_at(min(
        (backup_times.due_at(plan, last.get(plan.database), zone)
         for plan in backups.plans(gatling.db).values() if plan.at),
        default=None,
    ))  # fmt: skip


def _make(
    gatling: Gatling,
    record: Record,
    app: str,
    progress: Progress,
    *,
    full: bool = False,
    may_install: bool = False,
) -> BackupDone:
    if not gatling.databases.can_back_up():
        install(gatling, progress, may_install=may_install)
    progress.phase(f"Backing up the database {record.name}")
    plan = backups.plans(gatling.db).get(record.name)
    policy = Policy(full, plan.count, plan.days) if plan else Policy(full)
    try:
        cluster, access = databases.cluster(record), databases.allowed(gatling, record.name)
        made = gatling.databases.backup(cluster, access, policy, progress.say)
        entry = next(one for one in _every(gatling, record, app) if one.label == made.label)
        if entry.state != "proved":
            word = "cannot be restored" if entry.state == "refuted" else "is not proved"
            raise BackupUnproved(
                f"The backup {entry.label} of {record.name} {word}: {made.reason.rstrip('.')}.",
                hint=f"`gatling db backups {app}` lists all backups.",
            )
    except GatlingError as error:
        with cleaning(error):
            _record(gatling, record, error.what)
            audit.record(gatling.db, gatling.actor, app, "db backup failed", record.name)
        raise
    _record(gatling, record, "")
    growth.record(gatling, record)
    audit.record(gatling.db, gatling.actor, app, "db backup", f"{record.name} {entry.label}")
    return BackupDone(entry, made.migrations, made.written, made.backup_seconds, made.proof_seconds,
                made.full_kept)  # fmt: skip


def every(gatling: Gatling, app: str, name: str | None) -> list[BackupEntry]:
    """The backups of a database that an app uses, the oldest first."""
    return _every(gatling, databases.ready(gatling, app, name), app)


def of_database(gatling: Gatling, name: str) -> list[BackupEntry]:
    """The backups of a database, the newest first, for a caller who may see it."""
    return [_entry(name, one, []) for one in reversed(gatling.databases.backups(name))]


def _every(gatling: Gatling, record: Record, app: str) -> list[BackupEntry]:
    found = gatling.databases.backups(record.name)
    points = restore_points.reached(gatling, app, record.name, found)
    return [_entry(record.name, one, points.get(one.label, [])) for one in found]


def install(gatling: Gatling, progress: Progress, *, may_install: bool) -> None:
    """Install pgBackRest; raises NotAllowed where only an admin may."""
    if not may_install:
        raise NotAllowed(
            "pgBackRest, which makes backups, is not installed on this server, and only an admin"
            " may install it.",
            hint="Ask an admin to make the first backup.",
        )
    progress.phase("Installing pgBackRest, which this host does not have")
    gatling.databases.install_backups(progress.say)
    audit.record(gatling.db, gatling.actor, None, "db install", "pgBackRest")


def _record(gatling: Gatling, record: Record, fault: str) -> None:
    """Record how an attempt ended, and notify a failure, and the first success after one."""
    before = backups.every(gatling.db).get(record.name)
    failed_before = before is not None and before.fault != ""
    with gatling.db.transaction(durable=True):
        backups.record(gatling.db, record.name, fault)
        data = {"database": record.name}
        if fault and not failed_before:
            title = f"{record.name}: the database was not backed up"
            notices.add(gatling.db, "backup.failed", title, fault, app=record.app, data=data)
        elif failed_before and not fault:
            title = f"{record.name}: a backup was made and proved"
            notices.add(gatling.db, "backup.proved", title, app=record.app, data=data)
    notifying.soon(gatling)


def _entry(database: str, one: Backup, points: list[Before]) -> BackupEntry:
    return BackupEntry(
        database, one.generation, one.label, one.kind, stamp_of(one.stopped), one.bytes,
        one.stored, one.state, one.reason, one.proved, one.tables, one.rows,
        points,
    )  # fmt: skip
