"""A push on a server: its deployment is a job in a unit of its own, and the hook attends to it.

So neither a lost connection nor the end of sshd ends a deployment that is past its decision. The
hook sees a pusher who is gone, and says so to the job, which knows whether it can still be called
off; and so does the end of the hook itself.
"""

from __future__ import annotations

import os

from gatling.errors import Interrupted
from gatling.interrupt import interruptible
from gatling.platform.server.helper import client
from gatling.ssh import push_options
from gatling.ui import progress

HANDED_ON = ("GIT_QUARANTINE_PATH", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
             "GATLING_ACTOR", progress.FORCED, push_options.VARIABLE)  # fmt: skip


def hand_over(app: str) -> int:
    """Have a push deployed by a job, which inherits this process's input and output; its status."""
    env = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    with interruptible(watch_pusher=True):
        call = client.Call("push", {"app": app, "id": os.urandom(8).hex(), "env": env}, (0, 1, 2))
        try:
            answer = call.answer()
        except Interrupted:
            call.cancel()
            answer = call.answer()
    status = int(answer["status"])
    return status if status >= 0 else 128 - status
