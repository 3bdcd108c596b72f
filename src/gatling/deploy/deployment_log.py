"""The output of deployments: followed while they are under way elsewhere, and kept for a while."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from gatling.deploy import recovery
from gatling.state import deployments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatling.paths import AppPaths
    from gatling.platform.open import Gatling
    from gatling.state.deployments import Deployment

POLL_SECONDS = 0.2
KEPT = 200
"""Deployments of an app whose output is kept."""
_NAME = re.compile(r"deployment-([1-9][0-9]*)\.log\Z", re.ASCII)


def follow(gatling: Gatling, app: str, ident: int, write: Callable[[str], None]) -> Deployment:
    """Hand on a deployment's output, what it has printed before as well, until its end.

    One whose process was killed is recovered, and has ended then; raises the error that kept it
    from being recovered.
    """
    log = gatling.home.app(app).deployment_log(ident)
    offset = 0
    while True:
        deployment = deployments.get(gatling.db, ident, app)
        offset = _hand_on(log, offset, write)
        if deployment.outcome != "running":
            return deployment
        for recovered in recovery.recover_unfinished(gatling, app):
            if recovered.error is not None:
                raise recovered.error
        time.sleep(POLL_SECONDS)


def remove_old(paths: AppPaths) -> None:
    """Remove the output of deployments that are not among the last ones; their records stay."""
    numbered = {int(m[1]): log for log in paths.logs.iterdir() if (m := _NAME.match(log.name))}
    for ident in sorted(numbered)[:-KEPT]:
        numbered[ident].unlink(missing_ok=True)


def _hand_on(log: Path, offset: int, write: Callable[[str], None]) -> int:
    """Write the whole lines that a log has after `offset`; where they end."""
    try:
        with log.open("rb") as file:
            file.seek(offset)
            text, newline, _ = file.read().rpartition(b"\n")
    except FileNotFoundError:
        return offset
    if newline:
        write((text + newline).decode("utf-8", "replace"))
    return offset + len(text) + len(newline)
