"""Whether a second instance of an app may run beside the live one, and what speaks against it.

A rolling deployment, a boot check and a rehearsal each run one for a while. Two nodes on the same
Mnesia directory, DETS file or disk_log lose data without an error, and of two that want the same
port only one gets it.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from gatling.beam import chunks
from gatling.errors import NodeUnreachable
from gatling.text import listed
from gatling.ui.output import duration

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from gatling.beam.control import Control
    from gatling.beam.holds import Holds
    from gatling.deploy.context import Context
    from gatling.paths import AppPaths
    from gatling.project.settings import Settings
    from gatling.state.apps import App
    from gatling.state.releases import Release

SETTING = "deploy.second_instance"
_FORMATS = {".cub": "CubDB"}
"""Data of one process that libraries keep in files which they open by themselves, by suffix."""
_SUSPECTS = frozenset({"mnesia", "dets", "disk_log", "Elixir.CubDB"})
_OF_OTP = frozenset(
    {"diameter", "et", "inets", "kernel", "mnesia", "observer", "runtime_tools", "snmp", "stdlib"}
)
"""Applications of OTP that name these modules, and use them only when somebody else does."""


def by_setting(settings: Settings) -> tuple[str, ...] | None:
    """Return the setting's reasons against a second instance; None: the running node decides."""
    wanted = settings.deploy.second_instance
    if wanted == "auto":
        return None
    return (f"{SETTING}=never",) if wanted == "never" else ()


def reasons(
    node: Control, paths: AppPaths, app: App, live: Release, ephemeral: range
) -> tuple[str, ...]:
    """Why no second instance may run beside the live one, by what its node has open.

    A node that does not answer is judged by what the release's modules name. `ephemeral` is the
    platform's range of ports (`Instances.ephemeral_ports`).
    """
    try:
        holds = node.holds(tuple(_FORMATS))
    except NodeUnreachable as error:
        return unasked(paths.release(live.number), live.label, error.what)
    own = {*app.ports.values(), *app.node_ports.values()}
    return tuple(against(holds, live.label, own, paths.private(app.live_slot or 1), ephemeral))


@contextlib.contextmanager
def told(context: Context, what: str, release: Release) -> Iterator[None]:
    """Report for how long a second instance of the whole app ran, however the block ends."""
    started = time.monotonic()
    try:
        yield
    finally:
        tell(context, what, release, time.monotonic() - started)


def tell(context: Context, what: str, release: Release, seconds: float) -> None:
    """Report for how long a second instance of the whole app ran."""
    context.progress.note(
        f"{what}: a second instance of {release.label} ran beside the live one for"
        f" {duration(seconds)}, with GATLING_BOOT_CHECK=1"
    )


def against(
    holds: Holds,
    label: str,
    own: Collection[int],
    private: Sequence[str],
    ephemeral: range,
) -> Iterator[str]:
    """Yield the node's resources that a second node must not, or could not, have as well. Pure.

    `own` are the ports that Gatling gives; files in `private` directories each instance has for
    itself; a port in the range `ephemeral` was most likely not chosen by the app.
    """
    within = (*private, holds.mnesia) if holds.mnesia else tuple(private)
    if holds.mnesia and not _is_in(holds.mnesia, private):
        yield f"{label} has the Mnesia tables in {holds.mnesia} open"
    known = set(holds.dets) | set(holds.disk_log)
    for what, files in (
        ("DETS", holds.dets),
        ("disk_log", holds.disk_log),
        *(
            (name, [f for f in holds.files if f.endswith(suffix) and f not in known])
            for suffix, name in _FORMATS.items()
        ),
    ):
        shared = [file for file in files if not _is_in(file, within)]
        if shared:
            files_ = "file" if len(shared) == 1 else "files"
            yield f"{label} has the {what} {files_} {listed(shared)} open"
    ports = sorted(
        {
            f"{protocol} port {port}"
            for protocol, _, port in holds.listeners
            if port not in own and port not in ephemeral
        }
    )
    ports += [f"the socket {path}" for path in holds.sockets if not _is_in(path, private)]
    if ports:
        yield f"{label} listens on {listed(ports)}, which is not derived from PORT"


def unasked(tree: Path, label: str, why: str) -> tuple[str, ...]:
    """Why a node that cannot be asked may not get a second one beside it: what its modules name."""
    users = sorted(uses(tree))
    if not users:
        return ()
    named = ", ".join(f"{module} names {what}" for module, what in users[:3])
    return (f"{label} could not be asked what it has open ({why.rstrip('.')}), and {named}",)


def uses(tree: Path) -> Iterator[tuple[str, str]]:
    """Modules of a release, OTP's and Elixir's left out, that name what opens data of one node."""
    for ebin in tree.glob("lib/*/ebin"):
        if ebin.parent.name.rpartition("-")[0] in _OF_OTP:
            continue
        for beam in ebin.glob("*.beam"):
            for what in sorted(_SUSPECTS & chunks.atoms(beam.read_bytes())):
                if not beam.stem.startswith("Elixir.CubDB"):
                    yield beam.stem.removeprefix("Elixir."), what.removeprefix("Elixir.")


def _is_in(file: str, directories: Sequence[str]) -> bool:
    return any(file == one or file.startswith(f"{one}/") for one in directories)
