"""The limits on the resources that a program of an app may use."""

from __future__ import annotations

from typing import NamedTuple

TERM_AGAIN_SECONDS = 0.5
"""Between two SIGTERMs for a node that boots, which ignores them until it has loaded its code."""


class Limits(NamedTuple):
    """The resources that a program may use; empty or 0: no limit."""

    memory: str = ""
    """Such as 512M or 75% (of the machine's); more than that ends the program."""
    tasks: int = 0
    """Processes and threads."""
    cpu: str = ""
    """Processor time: 150% is one and a half processors."""
