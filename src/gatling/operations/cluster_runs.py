"""One-off commands of an app on a cluster: in a pod of their own, or beside an instance."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from gatling.cleanup import cleaning
from gatling.deploy.cluster import objects as applied
from gatling.deploy.cluster import once
from gatling.errors import CommandFailed, GatlingError, InvalidInput, NotOnCluster
from gatling.interrupt import ended_by_signals
from gatling.operations import one_off
from gatling.platform.kubernetes import place, rollout, terminal
from gatling.platform.kubernetes.execute import STDOUT
from gatling.project import processes
from gatling.runtime import jobs
from gatling.runtime import pods as spec
from gatling.state import apps, audit, releases

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.platform.kubernetes.api import Api
    from gatling.platform.kubernetes.execute import Execution
    from gatling.platform.open import Gatling
    from gatling.project.processes import Job
    from gatling.state.apps import App
    from gatling.state.releases import Release
    from gatling.state.runs import Run

BESIDE = ("rpc", "remote", "pid")
"""Commands of a release's script that need a running node."""
ALONE = ("stop", "restart", "start", "start_iex", "daemon", "daemon_iex", "remote_console")
"""Commands of a release's script that are a node, or end one: Kubernetes would start another."""
WITH_TERMINAL = ("remote",)
RUN_SECONDS = 24 * 3600.0
_KILL = ("/bin/sh", "-c", 'kill "$1"', "sh")
"""With the shell's own: an image has no other."""
START_SECONDS = 30.0
"""For a command beside an instance, until it runs."""


def run(
    gatling: Gatling,
    name: str,
    command: tuple[str, ...],
    number: int | None,
    on_line: Callable[[str], None],
) -> int:
    """Run a one-off command; its exit status. `remote` needs a terminal.

    A command that needs a node runs beside an instance, with its own output; any other in a pod of
    its own, without standard input. Raises InvalidInput where nothing was deployed or no instance
    runs, NotFound for a release that is not retained, or a word that it does not know.
    """
    app = apps.get(gatling.db, name)
    number = number or app.live_release
    if number is None:
        raise InvalidInput(f"{name} has not been deployed yet.")
    if command[0] in ALONE:
        raise NotOnCluster(
            f"`{command[0]}` is for a node that Kubernetes does not look after.",
            hint=f"`gatling stop {name}`, `gatling start {name}` and `gatling restart {name}`.",
        )
    release = releases.kept(gatling.db, name, number)
    if not release.image:
        raise InvalidInput(f"{release.label} has no image: it was never deployed.")
    tree = gatling.home.app(name).release(number)
    one_off.check_known(tree, release, command)
    audit.record(gatling.db, gatling.actor, name, "run", command[0])
    with ended_by_signals(), place.opened(gatling.db, app) as api:
        if command[0] in BESIDE:
            return _beside(gatling, api, app, release, command)
        return once.run(
            api, app, release, place.of(gatling.db, app), tree, command, what="run",
            timeout=RUN_SECONDS, on_line=on_line,
        )  # fmt: skip


def job(
    gatling: Gatling,
    app: App,
    release: Release,
    this: Run,
    job: Job,
    on_line: Callable[[str], None],
) -> None:
    """Run the program of a scheduled job in a pod of its own.

    Raises CommandFailed for one that fails, and TimedOut.
    """
    tree = gatling.home.app(app.name).release(release.number)
    with place.opened(gatling.db, app) as api:
        status = once.run(
            api, app, release, place.of(gatling.db, app), tree, processes.words(job.command),
            what="job", timeout=job.timeout, on_line=on_line, name=jobs.object_name(this),
            process=this.job,
        )  # fmt: skip
    if status:
        raise CommandFailed(f"It ended with status {status}.", status=status)


def _beside(
    gatling: Gatling, api: Api, app: App, release: Release, command: tuple[str, ...]
) -> int:
    found = sorted(map(rollout.shown, applied.pods_of(api, app.name)), key=lambda one: one.name)
    ready = [
        one.name
        for one in found
        if one.state == "running" and one.ready and one.release == release.label
    ]
    if not ready:
        raise InvalidInput(
            f"No instance of {release.label} of {app.name} is ready; {command[0]} needs its node.",
            hint=f"`gatling status {app.name}` shows its instances.",
        )
    settings = applied.settings_of(app, release)
    pods = spec.described(app, release, settings, place.of(gatling.db, app), 0)
    joined = command[0] in WITH_TERMINAL
    words = spec.beside(pods, command, term=(os.environ.get("TERM") or "dumb") if joined else "")
    with api.execution(ready[0], words, terminal=joined, stdin=joined) as execution:
        process = _process(execution)
        try:
            return terminal.attach(execution) if joined else terminal.relay(execution)
        except BaseException as error:
            # the end of the connection, or of the terminal, would not end it
            with cleaning(error), contextlib.suppress(GatlingError):
                api.execute(ready[0], (*_KILL, process), timeout=START_SECONDS)
            raise


def _process(execution: Execution) -> str:
    """The id of the process, from its first line; the output after it stays."""
    first = b""
    while b"\n" not in first:
        parts = execution.receive(START_SECONDS)
        first += b"".join(data for channel, data in parts if channel == STDOUT)
        if execution.status is not None or not parts:
            raise CommandFailed("The command did not start in the pod.")
    line, _, rest = first.partition(b"\n")
    execution.put_back(rest)
    return line.decode().strip()
