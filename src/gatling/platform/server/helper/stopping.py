"""How the helper stops the unit of an instance."""

import contextlib
import subprocess
import time
from collections.abc import Callable

from gatling.platform import limits, ports

Call = Callable[..., str]


def stop(unit: str, seconds: float, call: Call, *, unused: bool) -> None:
    """SIGTERM, and SIGKILL when the time is up; `unused` as for Instances.stop."""
    ends = time.monotonic() + seconds
    pid = _main_process(unit, call) if unused else 0
    while True:
        left = max(0.0, ends - time.monotonic())
        boots = unused and not ports.listening(pid)
        patience = min(left, limits.TERM_AGAIN_SECONDS) if boots else left
        try:
            call(["systemctl", "stop", unit], timeout=patience, check=False)
        except subprocess.TimeoutExpired:
            if time.monotonic() < ends:
                call(["systemctl", "kill", "--signal=TERM", "--kill-whom=main", unit], check=False)
                continue
            call(["systemctl", "kill", "--signal=KILL", unit], check=False)
            call(["systemctl", "stop", unit], check=False)
        return


def _main_process(unit: str, call: Call) -> int:
    shown = call(["systemctl", "show", "--property=MainPID", "--value", unit], check=False)
    with contextlib.suppress(ValueError):
        return int(shown)
    return 0
