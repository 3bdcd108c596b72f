"""The last handler: whatever a command raises, a user sees what happened, and never a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from typing import TYPE_CHECKING

from gatling import debuglog, visible
from gatling.errors import Exit, GatlingError
from gatling.ui.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable


def status_of(work: Callable[[], int], *, as_json: bool = False) -> int:
    """Do the work; its exit status, or that of the error that it raised, which is shown.

    With `as_json` an error is a JSON document on standard error. SystemExit passes.
    """
    try:
        status = work()
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("Aborted.\n")
        return int(Exit.INTERRUPTED)
    except BrokenPipeError as error:
        if not reader_gone(1):
            return report(debuglog.explained(error), as_json=as_json)
        # `gatling logs | head`: that is fine, and what is left in the buffer goes nowhere
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 1)
        return int(Exit.OK)
    except Exception as error:  # noqa: BLE001 (the last one there is)
        return report(debuglog.explained(error), as_json=as_json)
    return status


def report(error: GatlingError, *, as_json: bool = False) -> int:
    """Show an error; its exit status."""
    if as_json:
        document = json.dumps(error.json(), indent=2, ensure_ascii=False)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(visible.in_json(document) + "\n")
    else:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no standard error at all
            Progress().fail(error)
    return int(error.exit_status)


def reader_gone(fd: int) -> bool:
    """Whether nobody reads this pipe or socket any more: POLLERR or POLLHUP, poll(2)."""
    poller = select.poll()
    try:
        poller.register(fd, 0)
        return bool(poller.poll(0))
    except (OSError, ValueError):
        return True
