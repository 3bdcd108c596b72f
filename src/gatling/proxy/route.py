"""The route directory of an app: the name of one file tells nginx where requests go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

Target = Literal[1, 2, "down"]
"""Where an app's requests go: to the instance in a slot, or to the page that says it is down."""
TARGETS = ("1", "2", "down")
"""The names of which there is one; whatever else lies there says something else (nginx.py)."""


def point_at(route: Path, target: Target, *, mode: int) -> None:
    """Name the one file that says where to; the directory is made with `mode`. See nginx.py."""
    route.mkdir(mode=mode, parents=True, exist_ok=True)
    wanted = route / str(target)
    present = [e for e in route.iterdir() if e.name in TARGETS and e != wanted]
    if present and not wanted.exists():
        present.pop().rename(wanted)  # needs no space on the disk
    wanted.touch()
    for entry in present:
        entry.unlink()


def pointed(route: Path) -> Target:
    """Where a route directory sends requests."""
    if (route / "down").exists():
        return "down"
    return 2 if (route / "2").exists() else 1
