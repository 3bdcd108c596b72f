"""Whether the lines of a push are coloured: they end at the pusher's terminal, which git hides.

git passes what a hook prints on to the pusher as it is (`remote: …`), and does not say what kind of
terminal that is. On the same machine the process above the hook has the pusher's own standard error
and variables. Over SSH nothing is known, so a pusher asks for colours with `git push -o color`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gatling.ui import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS = {"color": True, "no-color": False}
_TERMINALS = ("/dev/pts/", "/dev/tty")


def decide() -> None:
    """Decide it for this process and for the one that deploys the push."""
    asked = [OPTIONS[option] for option in push_options() if option in OPTIONS]
    wanted = asked[-1] if asked else _shows_colours(os.getppid())
    os.environ[progress.FORCED] = "1" if wanted else "0"


def push_options() -> Iterator[str]:
    """The options of `git push -o OPTION`: githooks(5)."""
    count = os.environ.get("GIT_PUSH_OPTION_COUNT", "")
    for number in range(int(count) if count.isdecimal() else 0):
        yield os.environ.get(f"GIT_PUSH_OPTION_{number}", "")


def _shows_colours(git: int) -> bool:
    """Whether the git that runs the hook was started by a pusher at a terminal with colours."""
    try:
        shown = os.readlink(f"/proc/{git}/fd/2")  # noqa: PTH115 (may name no file)
    except OSError:
        return False
    return shown.startswith(_TERMINALS) and progress.allows_colour()
