"""The pre-receive hook, which git calls once per push (githooks(5)).

It reads a line `OLD NEW REF` for each ref. A status other than 0 rejects the whole push. On a
server this process only hands the push over, so it loads nothing that deploys. Elsewhere the VM of
the build starts first, and the rest is loaded while it does.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from gatling.platform.embedded import headstart

if TYPE_CHECKING:
    from collections.abc import Iterable


def main(app: str) -> int:
    """Run the hook; return its exit status. git's lines come on standard input."""
    root = os.environ.get("GATLING_HOME") or os.path.expanduser("~/.gatling")  # noqa: PTH111
    lines: Iterable[str] = sys.stdin
    waiting = None
    if headstart.noted(root, app):
        lines = sys.stdin.readlines()
        waiting = headstart.begin(root, app, lines)
    try:
        return _receive(app, lines, waiting)
    finally:
        if waiting is not None:
            waiting.close()


def _receive(app: str, lines: Iterable[str], waiting: headstart.Headstart | None) -> int:
    from gatling.deploy.watcher import JOB
    from gatling.errors import Exit
    from gatling.paths import default_root
    from gatling.platform.homes import is_server
    from gatling.ssh import colours, push_options
    from gatling.ui import failing
    from gatling.ui.progress import Progress

    def received() -> int:
        is_job = JOB in os.environ
        if not is_job:
            colours.decide()
            push_options.take(Progress())
        if is_server(default_root()) and not is_job:
            from gatling.ssh import push

            return push.hand_over(app)
        from gatling.operations.session import opened
        from gatling.ssh.receive import receive

        with opened(app, clusters=True) as gatling:
            receive(gatling, app, lines, Progress(), waiting)
        return int(Exit.OK)

    return failing.status_of(received)
