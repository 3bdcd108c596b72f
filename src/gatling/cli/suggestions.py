"""What people type who know other platforms, and what is nearest to a mistyped command.

A guess never names a command that stops or removes something, nor one that is hidden.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

NEVER = frozenset(
    {"stop", "unload", "unlock", "lock", "deploy", "rollback", "restart", "down", "remove", "unset",
     "off", "cancel", "uninstall", "restore", "recover", "receive", "job"}
)  # fmt: skip
"""What is never guessed. A slip of one letter is allowed: see CLOSE."""
CLOSE = 0.8
"""How much alike two words are that differ by a slip of the finger."""

ELSEWHERE = {
    "create": "gatling load APP",
    "new": "gatling load APP",
    "launch": "gatling init",
    "destroy": "gatling unload APP",
    "delete": "gatling unload APP",
    "rm": "gatling unload APP",
    "ps": "gatling status APP",
    "top": "gatling status APP",
    "stats": "gatling status APP",
    "metrics": "gatling status APP",
    "list": "gatling apps",
    "ls": "gatling apps",
    "secrets": "gatling config list APP",
    "env": "gatling config list APP",
    "exec": "gatling run APP -- COMMAND",
    "shell": "gatling console APP",
    "ssh": "gatling console APP",
    "iex": "gatling console APP",
    "remote_console": "gatling console APP",
    "cron": "gatling jobs list APP",
    "attach": "gatling logs APP -f",
    "tail": "gatling logs APP -f",
    "history": "gatling audit APP",
    "events": "gatling audit APP",
    "activity": "gatling audit APP",
    "builds": "gatling deployments APP",
    "review": "gatling plan APP",
    "doctor": "gatling server check",
    "checks": "gatling server check",
    "keys": "gatling server keys list",
    "backup": "gatling server backup FILE",
}
"""A word of other platforms → the command here."""


def for_command(word: str, known: Collection[str], rest: Sequence[str] = ()) -> str:
    """What to add to `No such command`, or nothing."""
    group, colon, verb = word.partition(":")
    if colon and group in known:
        return f" Write a space instead of the colon: gatling {group} {verb}"
    if word in ELSEWHERE:
        return f" Use `{ELSEWHERE[word]}`."
    if rest and rest[0] in known:  # `gatling shop status`
        return f" The command comes first: gatling {rest[0]} {word}"
    near = difflib.get_close_matches(word, known, n=3)
    for one in near:
        alike = difflib.SequenceMatcher(None, word, one).ratio()
        if one not in NEVER or (alike >= CLOSE and one in _VISIBLE):
            return f" Did you mean {one!r}?"
    return ""


_VISIBLE = frozenset({"deploy", "rollback", "restart", "unload"})
"""Of those, what a slip of the finger may still be meant to be."""
