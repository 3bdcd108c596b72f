"""The calls behind the routes for jobs, databases and their data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.api.calls import deployed, number_of
from gatling.api.contract import PoolChange, RewindPlan
from gatling.operations import backups, databases, jobs, pools, rewinding
from gatling.ui.progress import Progress

if TYPE_CHECKING:
    from gatling.api.contract import Call
    from gatling.operations.jobs import JobEntry, RunEntry
    from gatling.operations.pools import Pooled
    from gatling.platform.open import Gatling


def list_jobs(gatling: Gatling, call: Call) -> list[JobEntry]:
    """The jobs of an app."""
    return jobs.every(gatling, call.app)


def list_runs(gatling: Gatling, call: Call) -> list[RunEntry]:
    """Their runs."""
    return jobs.history(gatling, call.app, call.query.job)


def run_job(gatling: Gatling, call: Call) -> RunEntry:
    """Run a job to its end."""
    return jobs.run_to_end(gatling, call.app, call.name)


def cancel_job(gatling: Gatling, call: Call) -> list[RunEntry]:
    """End the runs of a job."""
    return jobs.cancel(gatling, call.app, call.name)


def list_databases(gatling: Gatling, call: Call) -> list[databases.DatabaseEntry]:
    """The databases of the apps that the token may see."""
    return databases.every(gatling, call.grant.covers)


def get_database(gatling: Gatling, call: Call) -> databases.DatabaseEntry:
    """A database of an app."""
    found = databases.info(gatling, call.app, call.query.name)
    return databases.visible(found, call.grant.covers)


def list_backups(gatling: Gatling, call: Call) -> list[backups.BackupEntry]:
    """Its backups."""
    return backups.every(gatling, call.app, call.query.name)


def back_up(gatling: Gatling, call: Call) -> backups.BackupDone:
    """Make a backup, and prove it."""
    wanted, may_install = call.body, call.grant.role == "admin"
    return backups.make(
        gatling, call.app, wanted.name, Progress(), full=wanted.full, may_install=may_install
    )


def set_pool(gatling: Gatling, call: Call) -> PoolChange:
    """Turn a pool of connections on, or change its size."""
    wanted, may_install = call.body, call.grant.role == "admin"
    done: list[Pooled] = []
    deployment = deployed(
        gatling, call.app,
        lambda: done.append(pools.turn_on(
            gatling, call.app, wanted.name, wanted.size, Progress(), may_install=may_install,
            restart=wanted.restart,
        )),
    )  # fmt: skip
    (found,) = done
    return PoolChange(found.changed, found, pools.notes(found), deployment)


def remove_pool(gatling: Gatling, call: Call) -> PoolChange:
    """Turn it off."""
    deployment = deployed(
        gatling, call.app,
        lambda: pools.turn_off(gatling, call.app, call.query.name, Progress()),
    )  # fmt: skip
    return PoolChange(changed=True, pool=None, notes=[], deployment=deployment)


def get_rewind(gatling: Gatling, call: Call) -> RewindPlan:
    """The effects of a rollback with data."""
    wanted = call.query.release
    found = rewinding.plan(gatling, call.app, number_of(wanted) if wanted else None)
    return RewindPlan(
        f"v{found.release}", f"v{found.live}", found.database, f"v{found.before}", found.at,
        found.lost,
    )  # fmt: skip
