"""The VM of an embedded home's build, started by the hook before it loads the rest of Gatling.

A push of few modules waits for that VM longer than for all else. How the last one was started is
noted in the app's directory, without the app's config; the next one is started the same way, with
the config of now, for the commit that is pushed. It waits for a line and does nothing before. If it
is not what the build wants after all, since a setting has changed, say, the build starts its own.

This module loads little.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatling.errors import GatlingError
from gatling.platform.embedded import talking
from gatling.state import config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.platform.base import Task
    from gatling.platform.conversation import Conversation

NAME = "headstart"
"""The file of the note, in the directory of an app."""
MAX_BYTES = 4 << 20
"""Of a note; the kernel starts no program with a larger environment."""
CONFIG = "GATLING_CONFIG"
"""The variable of a build with the names of its config (build/environment.py)."""


class Headstart:
    """A VM that waits. Its owner takes it or closes it."""

    def __init__(self, mark: str, noted: tuple[object, ...], conversation: Conversation) -> None:
        """`mark` is that of the deployment to come; `noted` is how the VM was started."""
        self.mark = mark
        self._noted = noted
        self._conversation: Conversation | None = conversation

    def take(self, wanted: Task) -> Conversation | None:
        """The conversation with it if it is what is wanted; otherwise it is ended."""
        found = (list(wanted.argv), wanted.env, str(wanted.cwd), wanted.nice, wanted.mark)
        if found != self._noted:
            self.close()
        taken, self._conversation = self._conversation, None
        return taken

    def close(self) -> None:
        """End it unless it was taken."""
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None


def note(directory: Path, task: Task, commit: str, branches: Sequence[str]) -> None:
    """Note how the VM of a build was started, for the next push to one of the branches.

    Variables that have the value of this process are to have that of the next push's. Values of the
    config are secret, and not noted.
    """
    names = {CONFIG, *task.env.get(CONFIG, "").split()}
    given = {name: value for name, value in task.env.items() if name not in names}
    entry = {
        "argv": list(task.argv),
        "env": {name: value for name, value in given.items() if value != commit},
        "commit": [name for name, value in given.items() if value == commit],
        "inherited": [name for name, value in given.items() if os.environ.get(name) == value],
        "cwd": str(task.cwd),
        "nice": task.nice,
        "refs": [f"refs/heads/{branch}" for branch in branches],
    }
    from gatling import files

    text = json.dumps(entry)
    file = directory / NAME
    if _read(file) != entry:
        files.write(file, text, mode=0o600)


def noted(root: str, app: str) -> bool:
    """Whether there is a note for an app of a home."""
    return "/" not in app and os.path.isfile(f"{root}/apps/{app}/{NAME}")  # noqa: PTH113


def begin(root: str, app: str, lines: Sequence[str]) -> Headstart | None:
    """Start the VM for a push, of which git says `lines` (githooks(5)), to an app below `root`.

    None unless the push sets one branch that deploys, and where nothing was noted, or is not
    right any more.
    """
    import sqlite3  # the hook of a server does without

    root = os.path.abspath(root)  # noqa: PTH100 (links are kept as they are)
    directory = Path(root, "apps", app)
    entry = _read(directory / NAME)
    words = lines[0].split() if len(lines) == 1 else []
    if entry is None or len(words) != 3 or not words[1].strip("0"):
        return None
    mark = f"{root}:{os.urandom(8).hex()}"
    try:
        if words[2] not in entry["refs"]:
            return None
        env = dict(entry["env"]) | dict.fromkeys(entry["commit"], words[1])
        for name in entry["inherited"]:
            env.pop(name, None)
            if name in os.environ:
                env[name] = os.environ[name]
        values = config.read(Path(root, "state.db"), app)
        values.pop("RELEASE_COOKIE", None)
        env |= values | {CONFIG: " ".join(sorted(values))}
        argv, cwd, nice = list(entry["argv"]), str(entry["cwd"]), int(entry["nice"])
        conversation = talking.start(argv, env, Path(cwd), mark=mark, nice=nice)
    except (LookupError, TypeError, ValueError, GatlingError, sqlite3.Error):
        return None
    return Headstart(mark, (argv, env, cwd, nice, mark), conversation)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(opened, "rb") as content:  # noqa: PTH123 (a descriptor)
            status = os.fstat(opened)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                return None
            found = json.loads(content.read(MAX_BYTES))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
