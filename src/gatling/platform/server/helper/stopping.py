"""How the helper stops the unit of an instance."""

import contextlib
import subprocess
import time
from collections.abc import Callable

from gatling.platform import limits

Call = Callable[..., str]


def stop(unit: str, seconds: float, call: Call) -> None:
    """SIGTERM, and SIGKILL when the time is up.

    A unit that was started a moment ago gets SIGTERM again and again, since a node that boots
    ignores it.
    """
    ends = time.monotonic() + seconds
    again = limits.TERM_AGAIN_SECONDS if _age(unit, call) < limits.BOOT_SECONDS else seconds
    while True:
        left = max(0.0, ends - time.monotonic())
        try:
            call(["systemctl", "stop", unit], timeout=min(again, left), check=False)
        except subprocess.TimeoutExpired:
            if time.monotonic() < ends:
                call(["systemctl", "kill", "--signal=TERM", "--kill-whom=main", unit], check=False)
                continue
            call(["systemctl", "kill", "--signal=KILL", unit], check=False)
            call(["systemctl", "stop", unit], check=False)
        return


def _age(unit: str, call: Call) -> float:
    """Seconds since the main process of a unit was started."""
    shown = call(
        ["systemctl", "show", "--property=ExecMainStartTimestampMonotonic", "--value", unit],
        check=False,
    )
    with contextlib.suppress(ValueError):
        return time.monotonic() - int(shown) / 1e6
    return limits.BOOT_SECONDS
