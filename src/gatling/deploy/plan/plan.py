"""Decide how a release becomes the live one, and why. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct, field, structs

from gatling.deploy.plan import obstacles
from gatling.errors import InvalidInput
from gatling.text import counted

if TYPE_CHECKING:
    from gatling.beam.comparison import Comparison
    from gatling.project.settings import Hot, Settings
    from gatling.state.releases import Release

Strategy = Literal["start", "hot", "rolling", "restart"]
IN_WORDS = {
    "start": "first start",
    "hot": "hot upgrade",
    "rolling": "rolling deployment",
    "restart": "restart",
}
"""The strategies, for people."""
NAMES = 3
"""Of modules that are added or removed, the plan names as many."""
WISHES = ("auto", "hot", "rolling", "restart")


class Plan(Struct, frozen=True):
    """A strategy, and the reasons for it in words."""

    strategy: Strategy
    reasons: tuple[str, ...]
    details: dict[str, Any] = field(default_factory=dict)
    """The changes, for people who ask and for programs."""
    alone: tuple[str, ...] = ()
    """Why no second instance of the app may run beside the live one, not even for a boot check."""
    requested: str = "auto"
    """The strategy that was requested."""
    migrations: tuple[str, ...] = ()
    """Files of the migrations that are run first: application, repository and name of each."""
    domains: tuple[str, ...] = ()
    """Domains that the project adds with this release."""
    assets: bool = False
    """Whether the proxy serves the release's fingerprinted assets."""

    def instead(self, strategy: Strategy, reason: str) -> Plan:
        """The plan that takes the place of this one when the running node refuses it.

        Raises InvalidInput when only this one would do.
        """
        if self.requested == "hot":
            raise _impossible([reason])
        return beside(structs.replace(self, strategy=strategy, reasons=(reason,)), self.alone)


class Facts(Struct, frozen=True):
    """All that a plan depends on."""

    live: Release | None
    target: Release
    settings: Settings
    requested: str = "auto"
    comparison: Comparison | None = None
    """How the releases differ, and what the running node holds; None when it was not asked."""
    unknown: str = ""
    """Why the running node could not be asked, as a sentence."""
    alone: tuple[str, ...] = ()
    """Why no second instance may run beside the live one."""
    migrations: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    ready: bool = False
    """Whether an instance of the target is kept ready beside the live one."""

    @property
    def returns(self) -> bool:
        """Whether the proxy is only switched to the instance of the target that still runs."""
        return self.ready and self.requested in ("auto", "rolling")


def plan(facts: Facts) -> Plan:
    """Decide how the target becomes the live release.

    Raises InvalidInput for a strategy that is not possible.
    """
    decided = at_once(facts)
    if decided is None and facts.comparison is not None:
        decided = decide(facts.comparison, facts.requested, facts.settings.hot)
    elif decided is None:
        decided = refuse_or_roll([facts.unknown], facts.requested)
    return structs.replace(
        beside(decided, facts.alone),
        requested=facts.requested,
        migrations=facts.migrations,
        domains=facts.domains,
        assets=facts.settings.proxy.static,
    )


def at_once(facts: Facts) -> Plan | None:
    """The plan where records decide; None when the running node must be asked.

    Raises InvalidInput for a strategy that is not possible.
    """
    if facts.returns:
        return Plan("rolling", (f"{facts.target.label} is still running",))
    return simple(facts.live, facts.target, facts.requested)


def simple(live: Release | None, target: Release, wish: str = "auto") -> Plan | None:
    """The plan where the releases' records decide; None when the running node must be asked.

    Raises InvalidInput for a wish that cannot be met.
    """
    if wish not in WISHES:
        raise InvalidInput(
            f"There is no strategy {wish!r}.", hint=f"Choose one of: {', '.join(WISHES)}."
        )
    if live is None:
        if wish == "hot":
            raise InvalidInput("No release is live yet, so nothing can be upgraded.")
        return Plan("start", ("nothing is live yet",))
    if target.number == live.number:
        again = f"{live.label} is restarted"
        if wish == "hot":
            raise InvalidInput(f"{live.label} is already live.")
        return Plan("restart" if wish == "restart" else "rolling", (again,))
    if wish in ("rolling", "restart"):
        strategy: Strategy = "rolling" if wish == "rolling" else "restart"
        return Plan(strategy, ("as requested", *differences(live, target)))
    in_the_way = obstacles.recorded(live, target)
    if in_the_way:
        return refuse_or_roll(in_the_way, wish)
    return None


def decide(comparison: Comparison, wish: str, settings: Hot) -> Plan:
    """`hot` when nothing stands in its way, `rolling` with what does.

    Raises InvalidInput when hot was requested and is not possible.
    """
    in_the_way = obstacles.found(comparison, settings)
    cautions = obstacles.cautions(comparison) if comparison.erts == "same" else []
    details = describe(comparison)
    if in_the_way or (cautions and wish != "hot"):
        return refuse_or_roll([*in_the_way, *cautions], wish, details)
    accepted = [f"as requested, although {caution}" for caution in cautions]
    return Plan("hot", (*summary(comparison, settings), *accepted), details)


def beside(decided: Plan, alone: tuple[str, ...]) -> Plan:
    """The plan where no second instance may run beside the live one, for the reasons in `alone`.

    `restart` then takes the place of `rolling`, and a hot upgrade does without its boot check.
    """
    if not alone or decided.strategy not in ("hot", "rolling"):
        return decided
    if decided.strategy == "hot":
        return structs.replace(decided, alone=alone)
    reasons = (*decided.reasons, *(f"not rolling: {reason}" for reason in alone))
    return structs.replace(decided, strategy="restart", reasons=reasons, alone=alone)


def refuse_or_roll(reasons: list[str], wish: str, details: dict[str, Any] | None = None) -> Plan:
    """`rolling` for these reasons; raises InvalidInput when only hot would do."""
    if wish == "hot":
        raise _impossible(reasons)
    return Plan("rolling", tuple(reasons), details or {})


def _impossible(reasons: list[str]) -> InvalidInput:
    return InvalidInput(
        f"A hot upgrade is not possible: {'; '.join(reasons)}.",
        hint="`--strategy auto` falls back to a rolling deployment.",
    )


def differences(live: Release, target: Release) -> list[str]:
    """Describe how two releases differ by their records."""
    found = []
    if target.version != live.version:
        found.append(f"version {live.version} → {target.version}")
    if target.commit != live.commit:
        found.append(f"commit {live.commit[:9]} → {target.commit[:9]}")
    changed = obstacles.changed_variables(live, target)
    if changed:
        found.append(f"config changes: {', '.join(changed)}")
    return found or [f"{live.label} → {target.label}"]


def summary(comparison: Comparison, settings: Hot) -> list[str]:
    """A hot plan in a few words: modules by application, processes, children, config, pages."""
    parts = _modules(comparison)
    processes = sum(number for _, number in comparison.processes)
    if processes:
        parts.append(f"{counted(processes, 'process')} to convert")
    if comparison.callers:
        (caller, function), *others = comparison.callers
        what = f"waits for requests in {name(caller)}, which calls the removed {function}"
        parts.append(f"{what}; and in {counted(len(others), 'other')}" if others else what)
    parts += [
        f"{word} {', '.join(ids)}"
        for change in comparison.trees
        for word, ids in (("starts", change.start), ("stops", change.stop))
        if ids
    ]
    parts += [f"starts {app.name}" for app in comparison.apps_added]
    parts += [f"config of {app}: {key}" for app, key, _ in comparison.env]
    if any(how == "delivered" and key.startswith(":") for _, key, how in comparison.env):
        parts.append("a process that read config at its start keeps the old values")
    parts += [f"files in priv of {app}" for app in comparison.assets]
    if settings.rerender and comparison.pages and comparison.code_or_assets:
        parts.append(f"renders {counted(comparison.pages, 'open LiveView')} again")
    return parts or ["no code changes"]


def _modules(comparison: Comparison) -> list[str]:
    """How many modules change by application; those that come and go with their names."""
    by_app: dict[str, list[str]] = {}
    for word, items in (
        ("changed", comparison.changed),
        ("added", comparison.added),
        ("removed", comparison.removed),
    ):
        names: dict[str, list[str]] = {}
        for item in items:
            where = "protocols" if item.consolidated else item.app
            names.setdefault(where, []).append(name(item.module))
        for app, found in names.items():
            told = "" if word == "changed" else f" ({_some(found)})"
            by_app.setdefault(app, []).append(f"{counted(len(found), f'{word} module')}{told}")
    return [f"{app}: {', '.join(counts)}" for app, counts in sorted(by_app.items())]


def _some(names: list[str]) -> str:
    more = len(names) - NAMES
    return ", ".join(names[:NAMES]) + (f" and {more} more" if more > 0 else "")


def describe(comparison: Comparison) -> dict[str, Any]:
    """Return the changes by application and module, as the JSON of `gatling plan`."""
    return {
        "changed": [{"app": b.app, "module": name(b.module)} for b in comparison.changed],
        "added": [{"app": b.app, "module": name(b.module)} for b in comparison.added],
        "removed": [{"app": r.app, "module": name(r.module)} for r in comparison.removed],
        "waits_for": [
            {"module": name(module), "calls": function} for module, function in comparison.callers
        ],
        "versions": [
            {"app": app, "from": before, "to": after}
            for app, before, after, _ in comparison.versions
        ],
        "applications_started": [app.name for app in comparison.apps_added],
        "processes": [
            {"module": name(module), "count": count} for module, count in comparison.processes
        ],
        "children": [
            {"app": c.app, "supervisor": c.path, "start": c.start, "stop": c.stop}
            for c in comparison.trees
            if c.start or c.stop
        ],
        "config": [{"app": app, "key": key, "effect": how} for app, key, how in comparison.env],
        "assets": comparison.assets,
        "open_pages": comparison.pages,
    }


def name(module: str) -> str:
    """A module's name as people write it."""
    return module.removeprefix("Elixir.")
