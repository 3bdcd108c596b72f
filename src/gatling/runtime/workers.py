"""Further processes of an app: what its live release names runs, and nothing else does.

They are brought into line after the decision for a release, never before: an old and a new one of
the same process are not at work at once, and one that fails takes nothing else down.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gatling import times
from gatling.cleanup import text_of
from gatling.errors import GatlingError
from gatling.platform.base import Prepared, State
from gatling.project import settings as project_settings
from gatling.runtime import spec
from gatling.state import apps, releases

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from gatling.platform.base import Instance, Status
    from gatling.platform.open import Gatling
    from gatling.state.apps import App

WATCH_SECONDS = 2.0
"""Time within which a worker that crashes at its start has most likely crashed, in seconds."""
STOP_SECONDS = 30.0
"""Between SIGTERM and SIGKILL for a process that the settings do not know any more."""
PARALLEL = 64
"""Processes that are ended at the same time; more wait for their turn."""


def wanted(gatling: Gatling, app: App) -> dict[str, Instance]:
    """The workers that should run, by slot. Raises NotFound for a broken tree."""
    if app.live_release is None or app.live_slot is None or app.wanted == "stopped":
        return {}
    release = releases.kept(gatling.db, app.name, app.live_release)
    settings = project_settings.parse(app.effective)
    around = gatling.apps.surroundings(app.name)
    return {
        f"{name}.{number}": spec.process(around, app, release, name, number)
        for name, process in settings.processes.items()
        if process.command
        for number in range(1, process.instances + 1)
    }


def follow(gatling: Gatling, name: str, *, again: Iterable[str] = ()) -> list[str]:
    """Make what runs what the records say; what could not be done, in words. It raises nothing.

    The caller holds the app's lock. Those in `again`, slots or names, are restarted in any case.
    """
    problems: list[str] = []
    try:
        app = apps.get(gatling.db, name)
        shall = wanted(gatling, app)
        there = gatling.instances.process_slots(name)
        if not there and not shall:
            return []
        gone = [slot for slot in there if slot not in shall or not _is(gatling, shall[slot])]
        restarted = {slot for slot in shall if {slot, _process(slot)} & set(again)}
        ending = {*gone, *(restarted & set(there))}

        def replace(process: str) -> None:
            _discard(gatling, app, [slot for slot in there if slot not in shall], process)
            own = {slot: instance for slot, instance in shall.items() if _process(slot) == process}
            problems.extend(_start_missing(gatling, app, own))

        for process in sorted({_process(s) for s in shall} - {_process(s) for s in ending}):
            replace(process)
        _stop(gatling, app, ending, replace)
    except Exception as error:  # noqa: BLE001 (a release that is live is so whatever becomes of them)
        problems.append(f"the processes of {name}: {text_of(error)}")
    return problems


def _discard(gatling: Gatling, app: App, slots: Iterable[str], process: str) -> None:
    """Forget those of a process that are not wanted any more."""
    if app.wanted != "running":
        return  # those of a stopped app will be started again, and have a log
    for slot in slots:
        if _process(slot) == process:
            gatling.instances.discard(app.name, slot)


def _start_missing(gatling: Gatling, app: App, own: Mapping[str, Instance]) -> list[str]:
    """Start those that do not run; the problems."""
    if not gatling.instances.statuses([(app.name, app.live_slot or 1)]):
        return []  # nothing is kept running now: `gatling up` comes here again
    known = statuses(gatling, app.name, own)
    return [
        problem
        for slot, instance in own.items()
        if slot not in known or known[slot].state in (State.STOPPED, State.FAILED)
        if (problem := _start(gatling, instance))
    ]


def statuses(gatling: Gatling, name: str, slots: Iterable[str]) -> dict[str, Status]:
    """Return the status of the workers in these slots."""
    asked = list(slots)
    found = gatling.instances.statuses([(name, slot) for slot in asked])
    return {slot: found[name, slot] for slot in asked if (name, slot) in found}


def release(gatling: Gatling, name: str, slot: str) -> str | None:
    """The release that was last started in a slot."""
    prepared = gatling.instances.prepared(name, slot)
    return f"v{prepared.release}" if prepared else None


def in_use(gatling: Gatling, name: str) -> set[int]:
    """The releases whose trees processes run from."""
    booted = {gatling.instances.started_as(name, s) for s in gatling.instances.process_slots(name)}
    return {number for number in booted if number is not None}


def stop(gatling: Gatling, name: str) -> None:
    """End all processes of an app, whatever the records say; raises SupervisorFailed."""
    _stop(gatling, apps.get(gatling.db, name), gatling.instances.process_slots(name))


def _stop(
    gatling: Gatling,
    app: App,
    slots: Collection[str],
    stopped: Callable[[str], None] = lambda _: None,
) -> None:
    """Stop these slots, all at the same time: each may take as long as its settings give it.

    Calls `stopped` with each process as soon as all of its slots have stopped. A slot that cannot
    be stopped keeps only its own process from that: its SupervisorFailed is raised at the end.
    """
    if not slots:  # most apps have no workers
        return
    from concurrent.futures import ThreadPoolExecutor, as_completed

    named = project_settings.parse(app.effective).processes

    def end(slot: str) -> str:
        process = named.get(_process(slot))
        gatling.instances.stop(app.name, slot, process.stop if process else STOP_SECONDS)
        return _process(slot)

    failed: list[GatlingError] = []
    left = Counter(_process(slot) for slot in slots)
    with ThreadPoolExecutor(PARALLEL) as pool:
        for ended in as_completed([pool.submit(end, slot) for slot in slots]):
            try:
                process = ended.result()
            except GatlingError as error:
                failed.append(error)
                continue
            left[process] -= 1
            if not left[process]:
                stopped(process)
    if failed:
        raise failed[0]


def _process(slot: str) -> str:
    return slot.partition(".")[0]


def _start(gatling: Gatling, instance: Instance) -> str:
    try:
        gatling.instances.start(instance)
    except (GatlingError, OSError) as error:
        return f"{instance.slot} could not be started: {text_of(error)}"
    return ""


def _is(gatling: Gatling, instance: Instance) -> bool:
    """Whether what was last started in a slot is what an instance is."""
    prepared = gatling.instances.prepared(instance.app, instance.slot)
    return prepared == Prepared(instance.release, instance.argv)


def unwell(gatling: Gatling, name: str, slots: list[str]) -> list[str]:
    """Look for a while whether they stay up; those that did not, in words."""
    unwell: dict[str, State] = {}
    for _ in times.looks(WATCH_SECONDS, 0.1):
        for slot, status in statuses(gatling, name, slots).items():
            if not status.up:
                unwell[slot] = status.state
        if len(unwell) == len(slots):
            break
    return [
        f"{slot} keeps exiting. It will be restarted, and the app keeps serving. Its output:"
        f" `gatling logs {name} --process {slot}`"
        for slot in sorted(unwell)
    ]
