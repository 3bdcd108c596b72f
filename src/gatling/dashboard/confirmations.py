"""The pages of forms: what a change will do, what it needs to know, and a button that makes it.

Each is the page that is loaded at the path to which its form is posted (`actions.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from gatling import names
from gatling.dashboard import details
from gatling.dashboard.visit import DATABASES, JOBS, SETTINGS, changed
from gatling.errors import InvalidInput, NotFound
from gatling.operations import databases, deploys, jobs, releases, settings
from gatling.operations import pools as operations
from gatling.platform.postgres import pooler
from gatling.project import template
from gatling.state import apps, config, pools
from gatling.state import databases as records
from gatling.ui import output

if TYPE_CHECKING:
    from gatling.dashboard.visit import Visit
    from gatling.platform.open import Gatling
    from gatling.state.apps import App


class Field(Struct, frozen=True):
    """A field of a form."""

    name: str
    label: str
    kind: Literal["text", "lines", "check"] = "text"
    value: str = ""
    hint: str = ""
    required: bool = True


def _confirm(
    action: str, title: str, text: str, button: str, back: str = "/apps/{app}", **more: Any
) -> dict[str, Any]:
    """The values that the template shows. `back` is the page to which "Cancel" leads."""
    return {
        "action": action, "title": title, "text": text, "button": button, "back": back,
        "danger": False, "release": None, "plan": None, "passed": [], "fields": [], "hidden": {},
        "facts": [], "main": False, **more,
    }  # fmt: skip


def rollback(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The confirmation of a rollback, with its plan."""
    number = release_of(gatling, visit)
    known = releases.every(gatling, visit.app)
    target = next((one for one in known if one.release == f"v{number}"), None)
    if target is None:
        raise NotFound(f"{visit.app} has no release v{number}.")
    return _confirm(
        "rollback", f"Roll back to v{number}",
        f"v{number} becomes the live release of {visit.app} again, with the config that it had.",
        f"Roll back to v{number}",
        release=target, plan=details.plan(gatling, visit.app, f"v{number}"),
        passed=deploys.passed_migrations(gatling, visit.app, number),
        main=any(use.variable == records.MAIN
                 for use in records.attachments(gatling.db, app=visit.app)),
    )  # fmt: skip


def release_of(gatling: Gatling, visit: Visit) -> int:
    """The release that a page about a rollback names, by default the one that was live before."""
    wanted = visit.query.get("release", "")
    number = names.release_number(wanted) if wanted else None
    if wanted and number is None:
        raise InvalidInput(f"{wanted[:40]!r} is not a release.", hint="For example v4.")
    return deploys.rollback_target(gatling, visit.app, number)


def restart(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The confirmation of a restart."""
    apps.get(gatling.db, visit.app)
    return _confirm(
        "restart", f"Restart {visit.app}",
        "A new instance of the live release replaces the running one. No request is lost, and open"
        " sockets connect again.",
        f"Restart {visit.app}",
    )  # fmt: skip


def stop(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The confirmation of a stop."""
    apps.get(gatling.db, visit.app)
    return _confirm(
        "stop", f"Stop {visit.app}",
        "The instance and all workers end. The domains of the app answer with status 503 until it"
        " is started or deployed.",
        f"Stop {visit.app}", danger=True,
    )  # fmt: skip


def maintenance(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The confirmation of the maintenance page."""
    apps.get(gatling.db, visit.app)
    return _confirm(
        "maintenance", f"Show the maintenance page of {visit.app}",
        "Visitors see the maintenance page with status 503. The app keeps running.",
        "Show the maintenance page",
        fields=[Field("message", "Message for visitors", required=False)],
    )  # fmt: skip


# ---------------------------------------------------------------- settings


def set_setting(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The form that changes a setting, or sets several that are not in the list yet."""
    key = visit.query.get("key", "")
    if not key:
        apps.get(gatling.db, visit.app)
        return _confirm(
            "settings/set", f"Set settings of {visit.app}",
            "All lines are stored together, or none is. Settings of alerts, proxy and schedule"
            " apply immediately, others with the next deployment.",
            "Store these settings", SETTINGS,
            fields=[Field("lines", "Settings", "lines", hint="One KEY=VALUE in each line, such as"
                          " health.path=/health.")],
        )  # fmt: skip
    app, values = apps.get(gatling.db, visit.app), settings.effective(gatling, visit.app).values
    if key not in values:
        raise NotFound(f"{visit.app} has no setting {key[:80]!r}.")
    now = app.effective.get(key)
    if now is None:
        now = values[key] if isinstance(values[key], str) else template.written(values[key])
    return _confirm(
        "settings/set", f"Change {key}", _from_when(app, key), f"Store {key}",
        changed(SETTINGS, [key]),
        hidden={"key": key}, fields=[Field("value", key, value=now, required=False)],
    )  # fmt: skip


def unset_setting(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The confirmation that a setting of this host is removed."""
    app, key = apps.get(gatling.db, visit.app), visit.query.get("key", "")
    if key not in app.settings:
        raise NotFound(f"{visit.app} has not set {key[:80]!r}.")
    rest = "The value of gatling.toml" if key in app.manifest else "The default"
    return _confirm(
        "settings/unset", f"Unset {key}", f"{rest} is used instead. {_from_when(app, key)}",
        f"Unset {key}", changed(SETTINGS, [key]), hidden={"key": key},
    )  # fmt: skip


def _from_when(app: App, key: str) -> str:
    if key.startswith(settings.IMMEDIATE):
        return f"The change applies to {app.name} immediately."
    return f"The change applies to {app.name} with the next deployment."


# ---------------------------------------------------------------- config


def set_variable(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The form that sets a variable. The value that it has is not shown."""
    app, name = apps.get(gatling.db, visit.app), visit.query.get("name", "")
    fields = [Field("value", "Value", "lines", hint="It is stored and never shown again.")]
    if name:
        names.variable(name)
    else:
        fields.insert(0, Field("name", "Name"))
    return _confirm(
        "config/set", f"Set {name or 'a variable'} of {visit.app}", _new_release(app),
        f"Set {name or 'the variable'}", changed(SETTINGS, [name] if name else []),
        hidden={"name": name} if name else {},
        fields=[*fields, *_later(app)],
    )  # fmt: skip


def unset_variable(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The confirmation that a variable is removed."""
    app, name = apps.get(gatling.db, visit.app), visit.query.get("name", "")
    if name not in config.of_app(gatling.db, visit.app):
        raise NotFound(f"{visit.app} has no variable {name[:80]!r}.")
    return _confirm(
        "config/unset", f"Unset {name} of {visit.app}",
        f"Its value is removed. {_new_release(app)}", f"Unset {name}",
        changed(SETTINGS, [name]), hidden={"name": name}, fields=_later(app), danger=True,
    )  # fmt: skip


def _is_running(app: App) -> bool:
    return app.live_release is not None and app.wanted != "stopped"


def _new_release(app: App) -> str:
    if _is_running(app):
        return f"A new release of {app.name} with the changed config replaces the live one."
    return f"The next deployment of {app.name} applies the change."


def _later(app: App) -> list[Field]:
    if not _is_running(app):
        return []
    return [Field("later", "Store it for the next deployment and change nothing now", "check")]


# ---------------------------------------------------------------- pools of connections


def pool(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The form that turns a pool of connections on, or changes its size."""
    use = databases.use_of(gatling, visit.app, visit.query.get("name"))
    app, size = apps.get(gatling.db, visit.app), pools.size(gatling.db, visit.app)
    variable, found = pooler.variable(use.variable), gatling.pools.version()
    text = (
        f"All nodes of {visit.app} share the connections of the pool. {variable} has its URL, and"
        f" {use.variable} stays the direct one. {_new_release(app)}"
    )
    if found is not None and found < pooler.PREPARED:
        text += f" {operations.unprepared('.'.join(map(str, found)))}"
    return _confirm(
        "pool", f"Pool of connections to {use.database} for {visit.app}", text, "Use the pool",
        DATABASES, hidden={"name": use.database},
        fields=[Field("size", "Connections", value=str(size or pooler.SIZE)), *_later(app)],
    )  # fmt: skip


def pool_off(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The confirmation that an app uses a database without its pool."""
    use = databases.use_of(gatling, visit.app, visit.query.get("name"))
    app, variable = apps.get(gatling.db, visit.app), pooler.variable(use.variable)
    if variable not in config.of_app(gatling.db, visit.app):
        raise NotFound(f"{visit.app} does not use {use.database} through a pool.")
    return _confirm(
        "pool/off", f"Use {use.database} without a pool",
        f"{visit.app} gets no {variable} any more. {_new_release(app)}", "Turn the pool off",
        DATABASES, hidden={"name": use.database}, danger=True,
    )  # fmt: skip


# ---------------------------------------------------------------- jobs


def run_job(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The confirmation of a run by hand."""
    job = visit.query.get("job", "")
    found = next((one for one in jobs.every(gatling, visit.app) if one.job == job), None)
    if found is None:
        raise NotFound(f"{visit.app} has no job {job[:80]!r}.")
    return _confirm(
        "jobs/run", f"Run {job} now",
        "The job runs once with the live release. Its times in the schedule stay as they are.",
        f"Run {job}", JOBS, hidden={"job": job},
        facts=[("Command", found.command), ("Time limit", output.duration(found.timeout)),
               ("If it still runs", found.overlap)],
    )  # fmt: skip


def cancel_job(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The confirmation that the runs of a job that are in progress are stopped."""
    job = visit.query.get("job", "")
    apps.get(gatling.db, visit.app)
    if not any(one.outcome == "running" for one in jobs.history(gatling, visit.app, job)):
        raise NotFound(f"{job} of {visit.app} is not running.")
    return _confirm(
        "jobs/cancel", f"Stop {job}",
        "Its runs that are in progress are stopped. Later runs are not affected.",
        f"Stop {job}", JOBS, hidden={"job": job}, danger=True,
    )  # fmt: skip
