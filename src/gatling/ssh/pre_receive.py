"""The pre-receive hook, which git calls once per push (githooks(5)).

It reads a line `OLD NEW REF` for each ref. A status other than 0 rejects the whole push. On a
server this process only hands the push over, so it loads nothing that deploys.
"""

from __future__ import annotations

import os
import sys

from gatling.deploy.watcher import JOB
from gatling.errors import Exit
from gatling.paths import default_root
from gatling.platform.homes import is_server
from gatling.ssh import colours, push_options
from gatling.ui import failing
from gatling.ui.progress import Progress


def main(app: str) -> int:
    """Run the hook; return its exit status. git's lines come on standard input."""

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
            receive(gatling, app, sys.stdin, Progress())
        return int(Exit.OK)

    return failing.status_of(received)
