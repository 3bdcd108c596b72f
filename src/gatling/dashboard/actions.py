"""Changes that pages make: the same calls as those of the HTTP API, by the same program."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from gatling.api import changes
from gatling.api.contract import Caller
from gatling.api.worker import Job
from gatling.errors import GatlingError
from gatling.state import deployments
from gatling.state.database import open_database

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    from gatling.api.worker import Done
    from gatling.dashboard.visit import Visit

AT_ONCE = 4
"""Changes that are under way at the same time."""
BEGIN_SECONDS = 10.0
"""How long the page of a change is waited for; then the app's page is shown."""
LOOK_SECONDS = 0.1


class Failed(GatlingError):
    """A change that failed, in the words of the operation."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(str(error["message"]), hint=str(error["hint"]), log=error["log"])
        self.status = status


class Action(NamedTuple):
    """A change of an app, made with one form."""

    name: str
    """The last part of its path."""
    command: str
    """The command whose permission it needs."""
    route: str
    """The operation of the HTTP API."""
    fields: tuple[str, ...]
    """The fields of the form that its body takes."""

    def job(self, visit: Visit, form: Mapping[str, str]) -> Job:
        """The request for the program."""
        grant = visit.grant
        body = {name: form[name] for name in self.fields if form.get(name)}
        return Job(
            self.route, Caller(grant.name, grant.role, sorted(grant.apps), ""), visit.app, {},
            msgspec.json.encode(body) if self.fields else b"",
        )  # fmt: skip


EVERY = (
    Action("rollback", "rollback", "rollback", ("release", "strategy", "confirm")),
    Action("restart", "restart", "restart", ("process",)),
    Action("stop", "stop", "stop", ()),
    Action("start", "start", "start", ()),
    Action("maintenance", "maintenance on", "begin_maintenance", ("message",)),
    Action("serve", "maintenance off", "end_maintenance", ()),
)


class Run:
    """A change under way."""

    def __init__(self, job: Job, root: Path, database: Path) -> None:
        self._job, self._root, self._database = job, root, database

    async def begun(self, pool: ThreadPoolExecutor) -> int | None:
        """Begin it; the number of the deployment that it is, or None for no deployment.

        Returns when the deployment is on record. It goes on without the page. Raises Failed.
        """
        loop = asyncio.get_running_loop()
        before = await loop.run_in_executor(None, self._newest, 0)
        work = loop.run_in_executor(pool, changes.carried_out, self._job, self._root)
        end = loop.time() + BEGIN_SECONDS
        while not work.done() and loop.time() < end:
            found = await loop.run_in_executor(None, self._newest, before)
            if found > before:
                return found
            await asyncio.wait([work], timeout=LOOK_SECONDS)
        return _deployment(work.result()) if work.done() else None

    def _newest(self, after: int) -> int:
        """The newest deployment of the app by this person after that one; `after` for none."""
        with contextlib.closing(open_database(self._database)) as db:
            found = deployments.of_app(db, self._job.app, limit=1)
        own = [one.id for one in found if not after or one.actor == self._job.caller.name]
        return max([after, *own])


def _deployment(done: Done) -> int | None:
    result = msgspec.json.decode(done.body)
    if done.status != 200:
        raise Failed(done.status, result["error"])
    if isinstance(result, dict) and "cause" in result:
        return int(result["id"])
    return None
