"""The obstacles to a hot upgrade, each with a reason that a person understands. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatling.beam.comparison import Beam, Comparison, Removed, TreeChange
    from gatling.project.settings import Hot
    from gatling.state.releases import Release

MOST = 5
"""Of many reasons of one kind, this number is given."""

CONVERTIBLE = (".init/1", ".handle_continue/2")
"""Functions whose results are a process's state, which a `code_change/3` can bring up to date."""

MAX_STATE_BYTES = 512 << 20
"""Memory of all processes to convert above which a swap might exhaust the machine's."""


def recorded(live: Release, target: Release) -> list[str]:
    """The obstacles that the records of both releases show already."""
    found = []
    if live.name != target.name:
        found.append(f"a different OTP release: {live.name} → {target.name}")
    if live.elixir != target.elixir:
        found.append(f"Elixir {live.elixir} → {target.elixir}")
    if live.otp != target.otp:
        found.append(f"OTP {live.otp} → {target.otp}")
    changed = changed_variables(live, target)
    if changed:
        found.append(f"config changes: {', '.join(changed)}")
    return found


def changed_variables(live: Release, target: Release) -> list[str]:
    """Names of variables that are set, changed or unset between two releases; never values."""
    before, after = live.config, target.config
    return sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))


def found(comparison: Comparison, settings: Hot) -> list[str]:
    """All reasons against a hot upgrade; none when it is possible."""
    if comparison.erts != "same":
        return [f"the BEAM itself changes: erts {' → '.join(comparison.erts)}"]
    return [
        *_denied(comparison, settings.deny),
        *_runtime(comparison),
        *_native(comparison),
        *_applications(comparison),
        *([] if settings.structs else _structs(comparison)),
        *_schemas(comparison),
        *_config(comparison),
        *_broken(comparison),
        *[reason for change in comparison.trees for reason in _tree(change)],
        *_node(comparison),
    ]


def answered(comparison: Comparison, settings: Hot) -> list[str]:
    """Those of them that only nodes of both releases can answer: config, children, structs."""
    return [
        *([] if settings.structs else _structs(comparison)),
        *_schemas(comparison),
        *_config(comparison),
        *[reason for change in comparison.trees for reason in _tree(change)],
    ]


def cautions(comparison: Comparison) -> list[str]:
    """Why the node might not be what a fresh boot of the target is, though it could be changed.

    A deployment with `--strategy hot` accepts them.
    """
    return [
        *_setup(comparison),
        *[
            f"priv/{file} of {app} changed, and a process may have read it when it started"
            for app, file in comparison.data[:MOST]
        ],
        *[
            f"{file} changed, and a process may have read it when it started"
            for file in comparison.overlays[:MOST]
        ],
    ]


def _setup(comparison: Comparison) -> list[str]:
    reasons = []
    for it in comparison.setup:
        if it.effect:
            reasons.append(
                f"{it.function} calls {it.through} differently, and a hot upgrade does not run"
                f" {it.function} again"
            )
        elif not it.own:
            what = (
                f"{it.function} changed"
                if it.through == it.function
                else f"{it.through} changed, which {it.function} calls"
            )
            module = _name(it.module)
            # a process that start_link names, or a Phoenix endpoint, cannot convert what differs
            converts = it.function.endswith(CONVERTIBLE)
            way = f" (a code_change/3 of {module} in the same commit would keep it hot)"
            reasons.append(
                f"{what}, and the running {module} was set up by the old code"
                f"{way if converts else ''}"
            )
    return reasons


def _broken(comparison: Comparison) -> list[str]:
    removed = {_name(gone.module) for gone in comparison.removed}
    return [
        f"{callee} is removed, and {_name(caller)} still calls {function}"
        if (callee := _module_of(function)) in removed
        else f"{_name(caller)} calls {function}, which the release lacks"
        for caller, function in comparison.broken[:MOST]
    ]


def _module_of(function: str) -> str:
    return function.rpartition("/")[0].rpartition(".")[0]


def _denied(comparison: Comparison, setting: str) -> list[str]:
    deny = {word.strip() for word in setting.split(",")} - {""}
    touched: list[Beam | Removed] = [
        *comparison.changed,
        *comparison.added,
        *comparison.removed,
    ]
    apps = sorted({item.app for item in touched} & deny)
    modules = sorted({_name(item.module) for item in touched} & deny)
    return [f"hot.deny names {what}" for what in (*apps, *modules)]


def _runtime(comparison: Comparison) -> list[str]:
    reasons = [
        f"{app} {before} → {after}, a part of Elixir or OTP"
        for app, before, after, runtime in comparison.versions
        if runtime
    ]
    reasons += [
        f"{_name(beam.module)} changed, a part of Elixir or OTP"
        for beam in comparison.changed
        if beam.runtime
    ]
    return reasons + [f"{file} changed, which is read at boot" for file in comparison.boot_files]


def _native(comparison: Comparison) -> list[str]:
    reasons = [f"native code of {app} changed: priv/{file}" for app, file in comparison.native]
    return reasons + [
        f"{_name(beam.module)} loads native code (on_load)"
        for beam in (*comparison.changed, *comparison.added)
        if beam.on_load or (beam.old is not None and beam.old.on_load)
    ]


def _applications(comparison: Comparison) -> list[str]:
    reasons = [f"the application {app} is removed" for app in comparison.apps_removed]
    reasons += [
        f"the application {app.name} of Elixir or OTP is added"
        for app in comparison.apps_added
        if app.runtime
    ]
    reasons += [
        f"the application {app} has a different callback module"
        if what == "module"
        else f"the application {app} starts its callback module with different arguments"
        for app, what in comparison.callbacks
    ]
    return reasons + [
        f"the start type of the application {app} changed (permanent, load, none …)"
        if key == "type"
        else f"{key} of {app} changed, which is read when the application starts"
        for app, key in comparison.boot_keys
    ]


def _structs(comparison: Comparison) -> list[str]:
    old, new = dict(comparison.modules[0]), dict(comparison.modules[1])
    reasons = []
    for beam in comparison.changed:
        if beam.old is None:
            continue
        before = old.get(beam.module, {}).get("struct", beam.old.struct)
        after = new.get(beam.module, {}).get("struct", beam.struct)
        if before in (after, "none"):
            continue
        if "custom" in (side.get(beam.module, {}).get("code_change") for side in (old, new)):
            continue  # what becomes of its struct is its own business
        reasons.append(_struct(beam, before, after))
    return reasons


def _schemas(comparison: Comparison) -> list[str]:
    """Changed schemas of which Ecto keeps queries that no longer fit.

    Ecto compares a schema by the names of its fields, not by types, columns or associations.
    """
    old, new = dict(comparison.modules[0]), dict(comparison.modules[1])
    reasons = []
    for beam in comparison.changed:
        before, after = (side.get(beam.module, {}).get("schema") for side in (old, new))
        if not isinstance(before, dict) or not isinstance(after, dict):
            continue
        if before["known"] == after["known"] and before["made"] != after["made"]:
            reasons.append(
                f"the schema {_name(beam.module)} changed, but not the names of its fields: Ecto"
                " would keep using queries that it cached for the old schema"
            )
    return reasons


def _struct(beam: Beam, before: str | list[str], after: str | list[str]) -> str:
    module = _name(beam.module)
    if after == "none":
        return f"the struct {module} is removed"
    gained = [f":{key}" for key in after if key not in before]
    lost = [f":{key}" for key in before if key not in after]
    how = " and ".join(
        f"{word} {', '.join(keys)}" for word, keys in (("gained", gained), ("lost", lost)) if keys
    )
    return (
        f"the struct {module} {how or 'changed'}, processes may hold the old one,"
        f" and {module} has no code_change/3 of its own"
    )


def _config(comparison: Comparison) -> list[str]:
    meaning = {
        "at_start": "is read when its process starts",
        "boot_only": "is read at boot",
        "opaque": "holds a function or a handle, which cannot be handed over",
    }
    return [
        f"config of {app}, {_name(key)}, changes and {meaning[how]}"
        for app, key, how in comparison.env
        if how in meaning
    ]


def _tree(change: TreeChange) -> list[str]:
    where = ", ".join([f"the supervisor of {change.app}", *map(_name, change.path)])
    if change.error:
        return [f"what {where} starts cannot be determined: {change.error}"]
    reasons = []
    if change.flags != "same":
        reasons.append(f"{where} changes its strategy or limits")
    reasons += [
        f"{where} starts {_name(child.id)} differently: {' and '.join(child.how)} changed"
        for child in change.changed
    ]
    if (change.start or change.stop) and change.strategy != "one_for_one":
        reasons.append(f"{where} is {change.strategy} and its children change")
    if change.reordered and change.strategy != "one_for_one":
        reasons.append(f"{where} starts its children in a different order")
    if change.opaque:
        reasons.append(
            f"{', '.join(map(_name, change.opaque))} is started with a function or a handle,"
            " which cannot be handed over"
        )
    return reasons


def _node(comparison: Comparison) -> list[str]:
    reasons = []
    if comparison.drift:
        modules = ", ".join(map(_name, comparison.drift[:5]))
        reasons.append(f"the node runs code that differs from its release: {modules}")
    for found_in, what in (
        (comparison.lingering, "code of {} from before the last upgrade still runs in {}"),
        (
            comparison.holding,
            "functions of {} from before the last upgrade are still referenced by {}",
        ),
        (comparison.orphans, "{} is removed, but its code still runs in {}"),
    ):
        reasons += [
            what.format(_name(module), ", ".join(str(process[0]) for process in processes[:3]))
            for module, processes in found_in[:5]
        ]
    reasons += [
        f"{where} keeps a function of {_name(module)}, which a hot upgrade would not replace"
        for module, where in comparison.kept
    ]
    if comparison.memory > MAX_STATE_BYTES:
        reasons.append(
            f"the processes to convert hold {comparison.memory >> 20} MB,"
            f" more than {MAX_STATE_BYTES >> 20}"
        )
    return reasons


def _name(module: str) -> str:
    return module.removeprefix("Elixir.")
