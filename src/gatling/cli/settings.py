"""`gatling settings …`: how Gatling treats an app."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from gatling.cli.common import app_argument, as_json, opened
from gatling.errors import GatlingError, InvalidInput, NotFound
from gatling.ui.output import echo, print_json, table

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from gatling.platform.open import Gatling
    from gatling.state.apps import App


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

    with opened() as gatling:
        found = apps.get(gatling.db, app)
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
    from gatling.operations import changes
    from gatling.project import processes, settings
    from gatling.state import apps, audit

    told = {*set_, *unset}
    at_once = {key for key in told if key.startswith(("proxy.", "schedule."))}
    sections = sorted({key.partition(".")[0] for key in at_once})

    def changed(now: App) -> dict[str, str]:
        missing = [key for key in unset if key not in now.settings]
        if missing:
            raise NotFound(f"{app} has no setting {', '.join(missing)} of its own.")
        merged = {key: value for key, value in (now.settings | set_).items() if key not in unset}
        settings.parse(merged)
        all_ = settings.parse(now.manifest | merged)
        for key in processes.missing(all_.processes, all_.schedule):
            if any(k.rpartition(".")[0] == key.rpartition(".")[0] for k in told):
                raise InvalidInput(
                    f"{key} is missing.", hint="Set, or unset, what belongs together at once."
                )
        return merged

    with opened(app) as gatling, _held(gatling, app) if "schedule" in sections else nullcontext():
        own = apps.change_settings(gatling.db, app, changed).settings
        changes.apply(
            _steps(gatling, app, sections),
            lambda: _go_back(gatling, app, {key: own.get(key) for key in told}),
        )
        audit.record(
            gatling.db, gatling.actor, app, "settings",
            # names only: readers see the audit, and a value may be a secret, as a header's
            " ".join([*set_, *(f"-{key}" for key in unset)]),
        )  # fmt: skip
    if set_.get("proxy.https") == "redirect":
        _warn_of_https(app)
    if at_once == told:
        echo("Stored, and in force.")
    else:
        named = " or ".join(f"{section}.*" for section in sections)
        rest = f"; what is {named} is in force" if at_once else ""
        echo(f"Stored; the next deployment follows it{rest}.")


def _warn_of_https(app: str) -> None:
    """Say so when browsers are sent where nothing answers: they remember a redirect."""
    from gatling.platform import ports

    if not ports.answers(443):
        echo(
            "Nothing answers on port 443 of this machine, where browsers are now sent. If nothing"
            " else offers HTTPS for the app's domains, take it back:",
            f"  gatling settings unset {app} proxy.https",
            err=True,
        )


def _held(gatling: Gatling, app: str) -> AbstractContextManager[None]:
    """Keep deployments of an app away, which have its jobs run at their times as well."""
    from gatling.platform import lock
    from gatling.state import apps

    apps.get(gatling.db, app)
    return lock.hold_app(gatling.home.app(app), lambda text: echo(text, err=True))


def _steps(gatling: Gatling, app: str, sections: list[str]) -> list[Callable[[], object]]:
    """What makes the settings of these sections take effect."""
    from gatling.deploy import published

    steps: list[Callable[[], object]] = []
    if "proxy" in sections:
        steps += [gatling.configure_router, lambda: published.publish(gatling, app)]
    if "schedule" in sections:
        steps.append(lambda: _tell_schedule(gatling, app))
    return steps


def _tell_schedule(gatling: Gatling, app: str) -> None:
    """Have jobs run at their times from now on; raises GatlingError when that cannot be."""
    from gatling.runtime import jobs

    problems = jobs.follow(gatling, app)
    if problems:
        raise GatlingError(f"{problems[0]}; the settings stay as they were.")


def _go_back(gatling: Gatling, app: str, before: dict[str, str | None]) -> None:
    """Give these settings, and no others, the values that they had."""
    from gatling.state import apps

    def back(now: App) -> dict[str, str]:
        merged: dict[str, str | None] = {**now.settings, **before}
        return {key: value for key, value in merged.items() if value is not None}

    apps.change_settings(gatling.db, app, back)
