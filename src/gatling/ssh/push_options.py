"""The options of a push: `git push -o OPTION` (git-push(1), githooks(5))."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gatling.errors import PushRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.ui.progress import Progress

COLOURS = {"color": True, "no-color": False}
REHEARSE = "rehearse"
KNOWN = (REHEARSE, *COLOURS)
VARIABLE = "GATLING_REHEARSE"
"""The variable by which the process that deploys a push learns that it is to be rehearsed."""
ALIKE = 0.7
"""How similar an unknown option is to a known one that was meant: difflib.SequenceMatcher.ratio."""


def given() -> Iterator[str]:
    """The options of this push."""
    count = os.environ.get("GIT_PUSH_OPTION_COUNT", "")
    for number in range(int(count) if count.isdecimal() else 0):
        yield os.environ.get(f"GIT_PUSH_OPTION_{number}", "")


def take(progress: Progress) -> None:
    """Check them, for this process and for the one that deploys the push.

    Raises PushRefused for a known option with a value, and for one that is misspelt: a deployment
    without its rehearsal is not what was asked for. Options of other hosts have no effect.
    """
    for option in given():
        name, equals, _ = option.partition("=")
        if name in KNOWN and equals:
            raise PushRefused(
                f"The push option {name} takes no value, and {option!r} has one.",
                hint=f"Push again with `git push -o {name}`.",
            )
        if name not in KNOWN:
            if meant := _meant(name):
                raise PushRefused(
                    f"There is no push option {option!r}. Did you mean {meant}?",
                    hint=f"The push options are {', '.join(KNOWN)}.",
                )
            progress.note(f"the push option {option!r} has no effect here")
    os.environ[VARIABLE] = "1" if REHEARSE in given() else "0"


def rehearses() -> bool:
    """Whether the push that this process deploys is rehearsed first."""
    return os.environ.get(VARIABLE) == "1"


def _meant(name: str) -> str:
    import difflib  # takes a while to load, and is rarely needed

    return next(iter(difflib.get_close_matches(name.lower(), KNOWN, 1, ALIKE)), "")
