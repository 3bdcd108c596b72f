"""Whether the lines of a push are coloured: they end at the pusher's terminal, which git hides.

git passes what a hook prints on to the pusher as it is (`remote: …`), and does not say what kind of
terminal that is. On the same machine the process above the hook has the pusher's own standard error
and variables. Over SSH nothing is known, so a pusher asks for colours with `git push -o color`.
"""

from __future__ import annotations

import os

from gatling.ssh import push_options
from gatling.ssh.push_options import COLOURS
from gatling.ui import progress

_TERMINALS = ("/dev/pts/", "/dev/tty")


def decide() -> None:
    """Decide it for this process and for the one that deploys the push."""
    asked = [COLOURS[option] for option in push_options.given() if option in COLOURS]
    wanted = asked[-1] if asked else _shows_colours(os.getppid())
    os.environ[progress.FORCED] = "1" if wanted else "0"


def _shows_colours(git: int) -> bool:
    """Whether the git that runs the hook was started by a pusher at a terminal with colours."""
    try:
        shown = os.readlink(f"/proc/{git}/fd/2")  # noqa: PTH115 (may name no file)
    except OSError:
        return False
    return shown.startswith(_TERMINALS) and progress.allows_colour()
