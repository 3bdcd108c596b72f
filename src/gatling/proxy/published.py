"""Files that nginx serves itself: the maintenance page and the fingerprinted assets of releases.

Both lie in the route directory; nginx.py reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling import files
from gatling.releases import static

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PAGE = "maintenance.html"
"""It is there only while maintenance is on."""


def publish(route: Path, page: str | None, trees: Sequence[Path], *, mode: int) -> None:
    """As Router.publish (platform/services.py), directories with `mode`. Raises OSError."""
    file = route / PAGE
    if page is None:
        file.unlink(missing_ok=True)
    elif not file.exists() or file.read_text(errors="replace") != page:
        route.mkdir(mode=mode, parents=True, exist_ok=True)
        files.write(file, page, mode=0o644)
    static.publish(route, trees, mode=mode)


def in_maintenance(route: Path) -> bool:
    """Whether the page is there."""
    return (route / PAGE).exists()
