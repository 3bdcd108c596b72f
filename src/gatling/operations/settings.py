"""The settings of an app: changed in the records and wherever they take effect, or not at all."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gatling.deploy import published
from gatling.errors import GatlingError, InvalidInput, NotFound, NotOnCluster
from gatling.operations import changes
from gatling.platform import lock
from gatling.project import processes
from gatling.project import settings as project_settings
from gatling.runtime import jobs
from gatling.state import apps
from gatling.text import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from gatling.platform.open import Gatling
    from gatling.state.apps import App

IMMEDIATE = ("alerts.", "proxy.", "schedule.")
"""Settings that take effect when they are changed; others with the next deployment."""
HTTP3 = "proxy.http3"


class EffectiveSettings(Struct, frozen=True):
    """All settings of an app."""

    values: dict[str, Any]
    sources: dict[str, str]
    """`this host`, `gatling.toml` or `default`."""


class SettingsChange(Struct, frozen=True):
    """The changed settings, by the time at which they take effect."""

    app: str
    applied: list[str]
    """Keys that are in effect now."""
    waiting: list[str]
    """Keys that the next deployment applies."""

    @property
    def sections(self) -> list[str]:
        """The sections of what is in effect now."""
        return sorted({key.partition(".")[0] for key in self.applied})


def effective(gatling: Gatling, app: str) -> EffectiveSettings:
    """All settings of an app, and where each comes from; raises NotFound."""
    found = apps.get(gatling.db, app)
    values = project_settings.describe(project_settings.parse(found.effective))

    def source(key: str) -> str:
        if key in found.settings:
            return "this host"
        return "gatling.toml" if key in found.manifest else "default"

    return EffectiveSettings(values, {key: source(key) for key in values})


def change(
    gatling: Gatling,
    app: str,
    values: Mapping[str, str],
    unset: Sequence[str],
    *,
    say: Callable[[str], None],
) -> SettingsChange:
    """Set some settings and unset others. Those in IMMEDIATE take effect when this returns.

    `say` reports what a change of the schedule waits for. Raises InvalidInput, NotFound, and
    GatlingError with the settings as before.
    """
    keys = sorted({*values, *unset})
    applied = [key for key in keys if key.startswith(IMMEDIATE)]
    without = [key for key in applied if not key.startswith(("schedule.", "alerts."))]
    if without and apps.get(gatling.db, app).platform is not None:
        raise NotOnCluster(f"{listed(without)} has no effect on a cluster yet.")
    if project_settings.parse({k: v for k, v in values.items() if k == HTTP3}).proxy.http3:
        gatling.router.need_http3()
    result = SettingsChange(app, applied, [key for key in keys if key not in applied])
    held = _held(gatling, app, say) if "schedule" in result.sections else nullcontext()
    with held:
        own = apps.change_settings(
            gatling.db, app, lambda now: _merged(now, values, unset)
        ).settings
        changes.change(
            gatling, app, "settings",
            # names only: readers see the audit, and a value may be a secret, as a header's
            " ".join([*values, *(f"-{key}" for key in unset)]),
            steps=_steps(gatling, app, result.sections),
            take_back=lambda: _go_back(gatling, app, {key: own.get(key) for key in keys}),
        )  # fmt: skip
    if HTTP3 in values and (fault := published.without_http3(gatling, project_settings.parse(own))):
        say(fault)
    return result


def _merged(now: App, values: Mapping[str, str], unset: Sequence[str]) -> dict[str, str]:
    """The app's own settings after the change, validated with those of its gatling.toml."""
    missing = [key for key in unset if key not in now.settings]
    if missing:
        raise NotFound(f"{now.name} has not set {', '.join(missing)}.")
    merged = {key: value for key, value in ({**now.settings, **values}).items() if key not in unset}
    project_settings.parse(merged)
    together = project_settings.parse(now.manifest | merged)
    changed = {key.rpartition(".")[0] for key in (*values, *unset)}
    for key in processes.missing(together.processes, together.schedule):
        if key.rpartition(".")[0] in changed:
            raise InvalidInput(f"{key} is missing.", hint="Set or unset these keys in one command.")
    return merged


def _held(gatling: Gatling, app: str, say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Keep deployments of an app away, which have its jobs run at their times as well."""
    apps.get(gatling.db, app)
    return lock.hold_app(gatling.home.app(app), say)


def _steps(gatling: Gatling, app: str, sections: list[str]) -> list[Callable[[], object]]:
    """Return the functions that make the settings of these sections take effect."""
    steps: list[Callable[[], object]] = []
    if "proxy" in sections:
        steps += [gatling.configure_router, lambda: published.publish(gatling, app)]
    if "schedule" in sections:
        steps.append(lambda: _tell_schedule(gatling, app))
    return steps


def _tell_schedule(gatling: Gatling, app: str) -> None:
    """Have jobs run at their times from now on; raises GatlingError when that cannot be."""
    problems = jobs.follow(gatling, app)
    if problems:
        raise GatlingError(f"{problems[0]}; the settings were not changed.")


def _go_back(gatling: Gatling, app: str, before: dict[str, str | None]) -> None:
    """Give these settings, and no others, the values that they had."""

    def back(now: App) -> dict[str, str]:
        merged: dict[str, str | None] = {**now.settings, **before}
        return {key: value for key, value in merged.items() if value is not None}

    apps.change_settings(gatling.db, app, back)
