"""The route directory of an app: the name of its one file tells nginx where requests go."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.router.base import Target


def point_at(route: Path, target: Target, *, mode: int) -> None:
    """Name the one file of a route directory, which is made with `mode`; see nginx.py."""
    route.mkdir(mode=mode, parents=True, exist_ok=True)
    wanted = route / str(target)
    present = [entry for entry in route.iterdir() if entry != wanted]
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
