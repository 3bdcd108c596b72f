"""Deploy keys: making, showing and removing the key by which an app's builds read repositories."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from gatling import process
from gatling.cleanup import cleaning
from gatling.errors import CommandFailed, GatlingError, InvalidInput, NotFound
from gatling.platform.base import Task
from gatling.platform.limits import Limits
from gatling.state import apps, audit

if TYPE_CHECKING:
    from gatling.platform.open import Gatling

TIMEOUT_SECONDS = 60.0
LIMITS = Limits(memory="256M", tasks=64)
SHOWN = 5
"""Lines of the app's user that an error shows."""
_PUBLIC = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{40,100}={0,2} [!-~]{1,200}")


def create(gatling: Gatling, name: str) -> str:
    """Make an app's key; its public part. Raises InvalidInput when it has one."""
    public = _run(gatling, name, "create")
    try:
        audit.record(gatling.db, gatling.actor, name, "deploy-key create")
    except BaseException as error:
        with cleaning(error):
            _run(gatling, name, "remove")
        raise
    return public


def show(gatling: Gatling, name: str) -> str:
    """The public part of an app's key; raises NotFound."""
    return _run(gatling, name, "show")


def remove(gatling: Gatling, name: str) -> None:
    """Remove an app's key; raises NotFound."""
    _run(gatling, name, "remove")
    audit.record(gatling.db, gatling.actor, name, "deploy-key remove")


def _run(gatling: Gatling, name: str, verb: str) -> str:
    """Let a program of the app's do it: what it says is not more than somebody's word."""
    around = gatling.apps.surroundings(apps.get(gatling.db, name).name)
    paths = around.paths
    comment = f"gatling-{name}@{re.sub(r'[^A-Za-z0-9.-]', '', os.uname().nodename)}"
    argv = [sys.executable, "-I", "-m", "gatling.project.deploy_key", verb, str(paths.ssh), comment]
    told: list[str] = []
    try:
        gatling.tasks.run(
            Task(paths, "build", argv, dict(around.build), paths.build, limits=LIMITS),
            timeout=TIMEOUT_SECONDS,
            on_line=told.append,
        )
    except CommandFailed as error:
        raise _explained(name, told[-1] if told else "", error) from None
    if verb == "remove":
        return ""
    # any line: what runs the program may print one of its own
    found = next(filter(_PUBLIC.fullmatch, reversed(told)), None)
    if found is None:
        raise CommandFailed("The app's user printed no public key.", log=told[-SHOWN:])
    return found


def _explained(name: str, why: str, error: CommandFailed) -> GatlingError:
    match why.removeprefix("\0"):
        case "exists":
            return InvalidInput(
                f"{name} already has a deploy key.",
                hint=f"`gatling deploy-key show {name}` prints its public part.",
            )
        case "none":
            return NotFound(
                f"{name} has no deploy key.",
                hint=f"`gatling deploy-key create {name}` creates one.",
            )
        case "no ssh-keygen":
            return process.missing("ssh-keygen")
    return CommandFailed(f"The deploy key: {error.what}", log=error.log)
