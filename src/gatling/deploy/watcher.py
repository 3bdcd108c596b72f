"""Recovery at once when a deploying process is killed.

An OS process of its own waits at a pipe whose other end the deploying process has. It exits when it
reads that the deployment has ended. When the pipe closes without that, whatever killed the
deploying process, it becomes `gatling recover APP`. While it waits it is a shell that does nothing.

On a server a push runs in a unit, which is killed as a whole: there the unit's ExecStopPost= does
the same (platform/server/helper/programs.py), and a timer looks for what both have missed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatling.paths import Home

JOB = "GATLING_JOB"
"""Set in the environment of a push's unit on a server."""
ENDING_SECONDS = 5.0

_SCRIPT = 'read -r ended || exec "$@"'


class Watcher:
    """The waiting process, or nothing where the unit recovers by itself."""

    def __init__(self, home: Home, app: str) -> None:
        """Start to wait. A machine that cannot start one more process deploys nevertheless."""
        self._process: subprocess.Popen[bytes] | None = None
        if JOB in os.environ:
            return
        command = [sys.executable, "-I", "-m", "gatling", "recover", app]
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # git waits for all who hold what its hook was given
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=_environment(home),
                start_new_session=True,
            )

    def end(self, *, recovered: bool) -> None:
        """Let it go; without `recovered` it recovers now."""
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(OSError):
            if recovered:
                self._process.stdin.write(b"ended\n")
            self._process.stdin.close()
        if recovered:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDING_SECONDS)


def _environment(home: Home) -> dict[str, str]:
    """The environment of the recovering command, without the variables that git sets in a hook."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") and name != "GATLING_ACTOR"
    }
    return kept | {"GATLING_HOME": str(home.root)}
