"""The criteria by which a hot upgrade is judged while it is watched. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.beam.control import Logged, Watched

FEW = 3
"""So many errors of a kind that was not there before speak against a release, wherever they are.

One in the code that it changed is enough.
"""
NAMED = 3
"""Of many errors, this number is named."""


def against(watched: Watched, seconds: float) -> str:
    """Why an upgrade must be undone, as a sentence; empty when nothing speaks against it."""
    if watched.crashed:
        return (
            f"{counted(len(watched.crashed), 'converted process')} crashed within {seconds:g} s"
            f" after the switch: {'; '.join(watched.crashed[:NAMED])}."
        )
    errors = [error for error in watched.logged if error.in_changed or error.number >= FEW]
    if errors:
        return f"Within {seconds:g} s after the switch the app logged errors: {_named(errors)}."
    return ""


def beside(watched: Watched) -> list[str]:
    """Notes on events that do not speak against the upgrade."""
    notes = [
        f"crashed beside the upgrade: {watched.others.count(where)} × {where}"
        for where in sorted(set(watched.others))
    ]
    errors = [e for e in watched.logged if not e.in_changed and e.number < FEW]
    return notes + [f"the app logged an error: {error.number} × {error.what}" for error in errors]


def _named(errors: Sequence[Logged]) -> str:
    worst = sorted(errors, key=lambda error: (not error.in_changed, -error.number))
    return "; ".join(f"{error.number} × {error.what}" for error in worst[:NAMED])
