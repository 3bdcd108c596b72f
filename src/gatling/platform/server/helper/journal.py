"""The helper's log of its requests: standard error, which is the journal of its unit.

Never arguments beyond verb, app and slot: environments and commands of apps hold secrets.
"""

import re
import socket
import struct
import sys
from typing import Any

from gatling import visible

SHOWN = 200
"""Characters of a reason."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as the kernel knows them: unix(7), SO_PEERCRED."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", raw)
    return pid, uid


def note(
    connection: socket.socket, request: dict[str, Any], answer: dict[str, Any], seconds: float
) -> None:
    """Note who asked for what, and what came of it."""
    try:
        pid, uid = peer(connection)
    except OSError:
        pid, uid = 0, -1
    print(line(pid, uid, request, answer, seconds), file=sys.stderr, flush=True)  # noqa: T201


def line(
    pid: int, uid: int, request: dict[str, Any], answer: dict[str, Any], seconds: float
) -> str:
    """`start app=shop slot=1 by=ann (pid 4711, uid 998): done in 12 ms`."""
    words = [_word(request, "verb")]
    words += [f"{key}={_word(request, key)}" for key in ("app", "slot", "kind") if key in request]
    # whose key it was is the client's word; the kernel vouches for the process alone
    who = f"by={_word(request, 'actor')} (pid {pid}, uid {uid})"
    return f"{' '.join(words)} {who}: {_outcome(answer)} in {seconds * 1000:.0f} ms"


def _outcome(answer: dict[str, Any]) -> str:
    for key in ("refused", "failed"):
        if key in answer:
            return f"{key} ({visible.one_line(str(answer[key]))[:SHOWN]})"
    return f"ended with status {answer['status']}" if "status" in answer else "done"


def _word(request: dict[str, Any], key: str) -> str:
    value = str(request.get(key, "-"))
    return value if _WORD.fullmatch(value) else "?"
