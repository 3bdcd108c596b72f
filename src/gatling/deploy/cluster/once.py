"""Commands that run once in a cluster, as Jobs: migrations, and `gatling run`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.cleanup import cleaning
from gatling.deploy.cluster import objects as applied
from gatling.errors import CommandFailed, TimedOut
from gatling.platform.kubernetes import objects, rollout
from gatling.platform.kubernetes.api import timed
from gatling.runtime import pods as described_pods

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatling.platform.kubernetes.api import Api
    from gatling.platform.kubernetes.pods import Object
    from gatling.state.apps import App
    from gatling.state.platforms import Platform
    from gatling.state.releases import Release

START_SECONDS = 300.0
"""For scheduling and pulling, besides the time of the command."""


def run(
    api: Api,
    app: App,
    release: Release,
    platform: Platform,
    tree: Path,
    command: tuple[str, ...],
    *,
    what: str,
    timeout: float,
    on_line: Callable[[str], None],
    name: str = "",
    process: str = "",
) -> int:
    """Run a command of a release in a pod of its own; its exit status.

    `name` is that of the Job, which is made up from `what` without one; `process` the value of
    GATLING_PROCESS.

    The Job is deleted in the end, whatever happens. Raises CommandFailed for one that does not
    start, and TimedOut.
    """
    settings = applied.settings_of(app, release)
    pods = described_pods.described(app, release, settings, platform, 0)
    applied.apply_config(api, app, release, platform, pods)
    words = described_pods.once(pods, tree, command)
    name = name or f"{what}-{os.urandom(4).hex()}"
    pods = structs.replace(pods, command=words, process=process)
    job = objects.job(pods, name, timeout + START_SECONDS)
    try:
        made = api.apply(job)
        status = _follow(api, made, timeout, on_line)
    except BaseException as error:
        with cleaning(error):
            api.remove("Job", job["metadata"]["name"])
        raise
    api.remove("Job", job["metadata"]["name"])
    return status


def _follow(api: Api, job: Object, timeout: float, on_line: Callable[[str], None]) -> int:
    """Hand its output on until it ends."""
    began = time.monotonic()
    started: float | None = None
    shown = ""
    while True:
        pod = _pod(api, job["metadata"]["name"])
        now = time.monotonic()
        if pod is not None:
            name = pod["metadata"]["name"]
            status = rollout.exit_status(pod)
            for line in api.log(name, since=shown[:19] + "Z" if shown else ""):
                at, text = timed(line)
                if at > shown:
                    shown = at
                    on_line(text)
            if status is not None:
                return status
            found = rollout.problems(pod)
            if found and found[0].final:
                raise CommandFailed(found[0].what, hint=found[0].hint)
            if started is None and rollout.started(pod):
                started = now
        if started is not None and now - started > timeout:
            raise TimedOut(f"The command took longer than {timeout:.0f} s, and was stopped.")
        if started is None and now - began > START_SECONDS:
            raise CommandFailed(
                "The cluster did not start the command."
                f" {found[0].what if pod is not None and found else ''}".rstrip()
            )
        time.sleep(applied.POLL_SECONDS)


def _pod(api: Api, job: str) -> Object | None:
    return next(iter(api.every("Pod", {"job-name": job})), None)
