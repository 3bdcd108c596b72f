"""Answers to a command or option that does not exist.

A guess never names a command that stops or removes something, a hidden command, or a command that
the SSH key may not use.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

import click

from gatling.cli import habits, remote
from gatling.errors import Misused

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gatling.cli.visitor import Visitor

NEVER = frozenset(
    {"stop", "unload", "unlock", "lock", "deploy", "rollback", "restart", "down", "remove", "unset",
     "off", "cancel", "uninstall", "restore", "recover", "receive", "job"}
)  # fmt: skip
"""Commands that are never guessed, except after a slip of one letter: see CLOSE."""
CLOSE = 0.8
"""The similarity of two words that differ by a typing error."""
_NEAR = 0.7
"""The least similarity of a guess."""
_BY_A_SLIP = frozenset({"deploy", "rollback", "restart"})
"""Those of them that are guessed after a typing error."""
_NAMED = re.compile(r"`gatling ([a-z-]+(?: (?:list|set|unset|on|add|clean|keys|install|backup))?)")
"""The commands that an answer names."""
HIDDEN = frozenset({"recover", "receive", "job"})


def for_command(
    words: Sequence[str], position: int, known: Collection[str], visitor: Visitor | None = None
) -> str:
    """The sentence to add to `No such command`, or an empty text.

    `words` is the whole command line. Its word at `position` is none of the `known` commands.
    """
    word, rest = words[position], words[position + 1 :]
    answer = habits.answer(words, remote.app_here() if visitor is None else None)
    if answer is not None and all(_may(visitor, one) for one in _NAMED.findall(answer)):
        return f" {answer}"
    if position == 0 and rest and rest[0] in known and rest[0] not in HIDDEN:
        return f" The command comes first: gatling {rest[0]} {word}"
    if position > 0 and rest and rest[0] in known:
        group = " ".join(words[:position])
        return f" The app comes after the command: gatling {group} {rest[0]} {word}"
    if ":" in word:
        return ""
    visible = [one for one in known if one not in HIDDEN]
    near = difflib.get_close_matches(word, visible, n=3, cutoff=_NEAR)
    # letters in another order are the most frequent slip: `statsu` is `status`, and not `stats`
    for one in sorted(near, key=lambda one: sorted(one) != sorted(word)):
        alike = difflib.SequenceMatcher(None, word, one).ratio()
        if one not in NEVER or (alike >= CLOSE and one in _BY_A_SLIP):
            return f" Did you mean {one!r}?"
    return ""


def _may(visitor: Visitor | None, command: str) -> bool:
    """Whether the user may see a command. An admin also sees those for the server itself."""
    return visitor is None or visitor.is_admin or visitor.may(command)


def misused(error: click.UsageError, context: click.Context | None = None) -> Misused:
    """A usage error in the form of all other errors, with how the command is used.

    `context` is that of the command, if the error does not know it.
    """
    found = error.ctx or context
    if found is None:
        return Misused(said(error))
    more = f"`{found.command_path} --help` explains it."
    return Misused(said(error), hint=f"{found.get_usage()}\n{more}")


def said(error: click.UsageError) -> str:
    """The text of a usage error, with our name for an unknown option of other platforms."""
    if not isinstance(error, click.NoSuchOption):
        return error.format_message()
    if error.option_name in habits.OPTIONS:
        return f"{error.message} {habits.OPTIONS[error.option_name]}"
    near = difflib.get_close_matches(error.option_name, error.possibilities or (), 1, CLOSE)
    return f"{error.message} Did you mean {near[0]}?" if near else error.message
