"""Changes, each by a process of its own: what the HTTP API and the dashboard do alike."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import msgspec

from gatling import decoding, process
from gatling.api.worker import Done

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.api.worker import Job

WORK_SECONDS = 86400
"""After which a change is given up. Deployments have limits of their own, which are shorter."""


def carried_out(job: Job, root: Path) -> Done:
    """Have a change carried out by a process of its own, and wait for its end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    text = process.output(
        [sys.executable, "-P", "-m", "gatling.api.worker"],
        stdin=msgspec.json.encode(job).decode(),
        timeout=WORK_SECONDS,
        cwd=root,
        env=kept | {"GATLING_ACTOR": job.caller.name, "GATLING_ROLE": job.caller.role,
                    "GATLING_APPS": ",".join(job.caller.apps)},
    )  # fmt: skip
    return decoding.from_json(text, Done)
