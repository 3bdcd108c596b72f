"""The environment in which Gatling runs git."""

from __future__ import annotations

import os

_GIT_KEPT = frozenset({"GIT_SSH", "GIT_SSH_COMMAND", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"})


def own_environment() -> dict[str, str]:
    """The environment of this process without git's variables for hooks; git asks no password.

    `GIT_QUARANTINE_PATH` and the object directories are put back where the quarantine is wanted.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in _GIT_KEPT}
    fixed = {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",  # a commit is the tree that its id stands for
        "LC_ALL": "C.UTF-8",
    }
    return kept | fixed
