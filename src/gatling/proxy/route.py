"""The route directory of an app: nginx sends requests where the name of its one file points."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DOWN = "down"
"""The file that sends requests to the page which says that the app is down."""
TARGETS = ("1", "2", DOWN)
"""The names of which there is one; whatever else lies there says something else (nginx.py)."""


def point_at(route: Path, slot: int | None, *, mode: int) -> None:
    """Name the one file that says where to; the directory is made with `mode`. See nginx.py."""
    route.mkdir(mode=mode, parents=True, exist_ok=True)
    wanted = route / (DOWN if slot is None else str(slot))
    present = [e for e in route.iterdir() if e.name in TARGETS and e != wanted]
    if present and not wanted.exists():
        present.pop().rename(wanted)  # needs no space on the disk
    wanted.touch()
    for entry in present:
        entry.unlink()


def pointed(route: Path) -> int | None:
    """The slot to which a route directory sends requests; None: to the page."""
    if (route / DOWN).exists():
        return None
    return 2 if (route / "2").exists() else 1
