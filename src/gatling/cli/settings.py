"""`gatling settings …`: how Gatling treats an app."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatling.cli.common import app_argument, as_json, opened
from gatling.errors import GatlingError, InvalidInput, NotFound
from gatling.ui.output import print_json, table

if TYPE_CHECKING:
    from gatling.engine import Engine


@click.group("settings")
def settings_command() -> None:
    """How Gatling treats an app: health check, time limits, deploy branch, retention.

    What is set here wins over the project's gatling.toml.

    \b
    Example:
      gatling settings set shop health.path=/health health.timeout=120
    """


@settings_command.command("list")
@app_argument
@as_json
def list_command(app: str, as_json: bool) -> None:
    """List all settings with their values, and where they are from.

    \b
    Example:
      gatling settings list shop
    """
    from gatling.project import settings
    from gatling.state import apps

    with opened() as engine:
        found = apps.get(engine.db, app)
    values = settings.describe(settings.parse(found.effective))
    if as_json:
        print_json(values)
        return

    def source(key: str) -> str:
        if key in found.settings:
            return "this host"
        return "gatling.toml" if key in found.manifest else "default"

    table(
        ("setting", "value", "from"), [(key, value, source(key)) for key, value in values.items()]
    )


@settings_command.command("set")
@app_argument
@click.argument("assignments", metavar="KEY=VALUE...", nargs=-1, required=True)
def set_command(app: str, assignments: tuple[str, ...]) -> None:
    """Change settings; the next deployment follows them, what is proxy.* or schedule.* at once.

    \b
    Examples:
      gatling settings set shop deploy.branch=production
      gatling settings set shop proxy.body_limit=2g proxy.redirect_www=to-apex
      gatling settings set shop schedule.report.cron='30 3 * * *'
    """
    changes = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f"{text!r} has no '='.", hint="Write KEY=VALUE.")
        changes[key] = value
    _save(app, set_=changes, unset=())


@settings_command.command("unset")
@app_argument
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
def unset_command(app: str, keys: tuple[str, ...]) -> None:
    """Go back to gatling.toml's word, or the default.

    \b
    Example:
      gatling settings unset shop health.path
    """
    _save(app, set_={}, unset=keys)


def _save(app: str, *, set_: dict[str, str], unset: tuple[str, ...]) -> None:
    from gatling.project import processes, settings
    from gatling.state import apps, audit

    with opened() as engine:
        found = apps.get(engine.db, app)
        own = found.settings
        missing = [key for key in unset if key not in own]
        if missing:
            raise NotFound(f"{app} has no setting {', '.join(missing)} of its own.")
        merged = {key: value for key, value in (own | set_).items() if key not in unset}
        settings.parse(merged)
        all_ = settings.parse(found.manifest | merged)
        for key in processes.missing(all_.processes, all_.schedule):
            if any(k.rpartition(".")[0] == key.rpartition(".")[0] for k in (*set_, *unset)):
                raise InvalidInput(
                    f"{key} is missing.", hint="Set, or unset, what belongs together at once."
                )
        apps.save_settings(engine.db, app, merged)
        told = {*set_, *unset}
        at_once = {key for key in told if key.startswith(("proxy.", "schedule."))}
        sections = sorted({key.partition(".")[0] for key in at_once})
        if "proxy" in sections:
            _tell_proxy(engine, app, own)
        if "schedule" in sections:
            _tell_schedule(engine, app, own)
        audit.record(
            engine.db, engine.actor, app, "settings",
            " ".join([f"{k}={v}" for k, v in set_.items()] + [f"-{k}" for k in unset]),
        )  # fmt: skip
    if at_once == told:
        click.echo("Stored, and in force.")
    else:
        named = " or ".join(f"{section}.*" for section in sections)
        rest = f"; what is {named} is in force" if at_once else ""
        click.echo(f"Stored; the next deployment follows it{rest}.")


def _tell_proxy(engine: Engine, app: str, before: dict[str, str]) -> None:
    """Bring the proxy into line; when it cannot be, the settings are `before` again."""
    from gatling.deploy import public
    from gatling.errors import DiskFull
    from gatling.state import apps

    try:
        engine.configure_router()
        public.publish(engine, app)
    except OSError as error:
        apps.save_settings(engine.db, app, before)
        raise DiskFull(f"What nginx reads of {app} could not be written: {error}.") from error
    except BaseException:
        apps.save_settings(engine.db, app, before)
        raise


def _tell_schedule(engine: Engine, app: str, before: dict[str, str]) -> None:
    """Have jobs run at their times from now on; when that cannot be, the settings are `before`."""
    from gatling.deploy import jobs, lock
    from gatling.state import apps

    def waiting() -> None:
        click.echo(f"{app}: waiting for the deployment under way", err=True)

    try:
        with lock.hold(engine.home.app(app).lock, waiting):
            problems = jobs.follow(engine, app)
        if problems:
            raise GatlingError(f"{problems[0]}; the settings stay as they were.")
    except BaseException:
        apps.save_settings(engine.db, app, before)
        raise
