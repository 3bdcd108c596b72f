"""Changes that pages make: the same calls as those of the HTTP API, by the same program."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from gatling import names
from gatling.api import changes
from gatling.api.answers import Refused
from gatling.api.contract import Caller
from gatling.api.worker import Job
from gatling.dashboard.visit import DATABASES, JOBS, SETTINGS, changed
from gatling.errors import GatlingError, InvalidInput
from gatling.platform.postgres import pooler
from gatling.state import deployments, runs
from gatling.state.database import open_database

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gatling.api.worker import Done
    from gatling.dashboard.visit import Visit

BEGIN_SECONDS = 10.0
"""How long the page of a change is waited for; then the app's page is shown."""
LOOK_SECONDS = 0.1


class Failed(GatlingError):
    """A change that failed, in the words of the operation."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(str(error["message"]), hint=str(error["hint"]), log=error["log"])
        self.status = status


class Asked(NamedTuple):
    """The request of a form to an operation of the HTTP API."""

    body: Any = None
    query: Mapping[str, Any] = {}
    name: str = ""
    """See Call.name."""


def _nothing(_: Mapping[str, str]) -> Asked:
    return Asked()


def _filled(*fields: str) -> Callable[[Mapping[str, str]], Asked]:
    """Return a function that takes these fields, unless they are empty, for a body."""
    return lambda form: Asked({name: form[name] for name in fields if form.get(name)})


def _settings(form: Mapping[str, str]) -> Asked:
    if "lines" not in form:
        return Asked({form.get("key", ""): form.get("value", "")})
    values = {}
    for line in filter(str.strip, form["lines"].splitlines()):
        key, equals, value = line.partition("=")
        if not equals:
            raise InvalidInput(f"{line[:40]!r} has no '='.", hint="Write KEY=VALUE.")
        values[key.strip()] = value.strip()
    return Asked(values)


def _variable(form: Mapping[str, str]) -> Asked:
    """A variable that is set. No error repeats what was typed as a value."""
    name, value = form.get("name", "").strip(), form.get("value", "")
    if "=" in name:
        raise InvalidInput("The name of a variable has no '='.", hint="Its value has a field.")
    if not value:
        raise InvalidInput(
            f"The value of {names.variable(name)} is missing.",
            hint="`gatling config set` can set an empty value.",
        )
    # browsers end the lines of a form with CR LF
    changes = {names.variable(name): value.replace("\r\n", "\n")}
    return Asked(changes, {"restart": not form.get("later")})


def _pool(form: Mapping[str, str]) -> Asked:
    name, text = form.get("name"), form.get("size", "").strip()
    body: dict[str, Any] = {"restart": not form.get("later")}
    if name:
        body["name"] = name
    if text:
        body["size"] = pooler.size(text)
    return Asked(body)


def _without_pool(form: Mapping[str, str]) -> Asked:
    return Asked(query={"name": form["name"]} if form.get("name") else {})


def _rewind(form: Mapping[str, str]) -> Asked:
    fields = {name: form[name] for name in ("release", "confirm") if form.get(name)}
    return Asked(fields | {"with_data": True})


def _job(form: Mapping[str, str]) -> Asked:
    return Asked(name=form.get("job", ""))


class Action(NamedTuple):
    """A change of an app, made with one form."""

    name: str
    """The last part of its path, which is that of its confirmation as well."""
    command: str
    """The command whose permission it needs."""
    route: str
    """The operation of the HTTP API."""
    asked: Callable[[Mapping[str, str]], Asked] = _nothing
    back: str = "/apps/{app}"
    """The page that is shown afterwards, unless that of a deployment is."""
    record: Literal["deployment", "run"] = "deployment"
    """The record that shows that it has begun."""

    def after(self, visit: Visit, form: Mapping[str, str]) -> str:
        """The path of the page that is shown afterwards; raises InvalidInput."""
        names = list(self.asked(form).body) if self.back == SETTINGS else []
        return changed(self.back, names).replace("{app}", visit.app)

    def job(self, visit: Visit, form: Mapping[str, str]) -> Job:
        """The request for the program; raises InvalidInput."""
        grant, asked = visit.grant, self.asked(form)
        return Job(
            self.route, Caller(grant.name, grant.role, sorted(grant.apps), ""), visit.app,
            dict(asked.query), msgspec.json.encode(asked.body) if asked.body is not None else b"",
            asked.name,
        )  # fmt: skip


EVERY = (
    Action("rollback", "rollback", "rollback", _filled("release", "strategy", "confirm")),
    Action("rewind", "rollback", "rollback", _rewind),
    Action("restart", "restart", "restart", _filled("process")),
    Action("stop", "stop", "stop"),
    Action("start", "start", "start"),
    Action("maintenance", "maintenance on", "begin_maintenance", _filled("message")),
    Action("serve", "maintenance off", "end_maintenance"),
    Action("settings/set", "settings set", "change_settings", _settings, SETTINGS),
    Action("settings/unset", "settings unset", "change_settings",
           lambda form: Asked({form.get("key", ""): None}), SETTINGS),
    Action("config/set", "config set", "change_config", _variable, SETTINGS),
    Action("config/unset", "config unset", "change_config",
           lambda form: Asked({form.get("name", ""): None}, {"restart": not form.get("later")}),
           SETTINGS),
    Action("pool", "db pool", "set_pool", _pool, DATABASES),
    Action("pool/off", "db pool", "remove_pool", _without_pool, DATABASES),
    Action("jobs/run", "jobs run", "run_job", _job, JOBS, "run"),
    Action("jobs/cancel", "jobs cancel", "cancel_job", _job, JOBS, "run"),
)  # fmt: skip


class Workers:
    """Threads that wait for changes under way. Only the event loop's thread uses it."""

    def __init__(self, most: int, what: str) -> None:
        """`what` names the changes, for the person who wants one too many."""
        self._most, self._what, self._busy = most, what, 0
        self._pool = ThreadPoolExecutor(most, "workers")

    def begin(self, work: Callable[[], Done]) -> asyncio.Future[Done]:
        """Begin a change at once; raises Refused when too many are under way."""
        if self._busy >= self._most:
            raise Refused(
                409, "busy", f"{self._most} {self._what} of this dashboard are still in progress.",
                hint="Try again when one has ended.",
            )  # fmt: skip
        self._busy += 1
        begun = asyncio.get_running_loop().run_in_executor(self._pool, work)
        begun.add_done_callback(self._ended)
        return begun

    def _ended(self, _: asyncio.Future[Done]) -> None:
        self._busy -= 1


class Begun(NamedTuple):
    """A change that is on record or has ended."""

    deployment: int | None
    """The deployment that it is."""
    notes: list[str]
    """Effects that the person may not expect, as sentences."""


class Run:
    """A change under way."""

    def __init__(self, action: Action, job: Job, root: Path, database: Path) -> None:
        self._action, self._job, self._root, self._database = action, job, root, database

    async def begun(self, workers: Workers) -> Begun:
        """Begin it; returns when it is on record. It goes on without the page.

        Raises Refused, and Failed.
        """
        loop = asyncio.get_running_loop()
        before = await loop.run_in_executor(None, self._newest, 0)
        work = workers.begin(lambda: changes.carried_out(self._job, self._root))
        end = loop.time() + BEGIN_SECONDS
        while not work.done() and loop.time() < end:
            found = await loop.run_in_executor(None, self._newest, before)
            if found > before:
                return Begun(found if self._action.record == "deployment" else None, [])
            await asyncio.wait([work], timeout=LOOK_SECONDS)
        return self._result(work.result()) if work.done() else Begun(None, [])

    def _newest(self, after: int) -> int:
        """The newest deployment or run of a job by this person after that one; else `after`."""
        found: list[deployments.Deployment] | list[runs.Run]
        with contextlib.closing(open_database(self._database)) as db:
            if self._action.record == "run":
                found = runs.of_app(db, self._job.app, self._job.name)
            else:
                found = deployments.of_app(db, self._job.app, limit=1)
        own = [one.id for one in found if not after or one.actor == self._job.caller.name]
        return max([after, *own])

    def _result(self, done: Done) -> Begun:
        result = msgspec.json.decode(done.body)
        if done.status != 200:
            raise Failed(done.status, result["error"])
        if self._action.record == "run" or not isinstance(result, dict):
            return Begun(None, [])
        notes = list(result.get("notes", []))
        if result.get("changed") is False:
            notes.append("Nothing was changed: it is like that already.")
        deployment = result.get("deployment") or (result if "cause" in result else None)
        return Begun(deployment["id"] if deployment else None, notes)
