"""The options of one deployment that override the app's settings."""

from __future__ import annotations

from msgspec import Struct


class Wish(Struct, frozen=True):
    """A requested strategy, and whether to rehearse migrations and a hot upgrade."""

    strategy: str | None = None
    rehearse: bool = False


NO_WISH = Wish()
