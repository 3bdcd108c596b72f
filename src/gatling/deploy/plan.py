"""Decide how a release becomes the live one, and why. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from gatling.state.releases import Release

Strategy = Literal["start", "rolling"]
WISHES = ("auto", "rolling")


@dataclass(frozen=True, slots=True)
class Plan:
    """A strategy, and the reasons for it in words."""

    strategy: Strategy
    reasons: tuple[str, ...]


def plan(live: Release | None, target: Release, wish: str = "auto") -> Plan:
    """How `target` replaces `live`; raises InvalidInput for a wish that cannot be met."""
    if wish not in WISHES:
        raise InvalidInput(
            f"The strategy {wish!r} is not available.", hint=f"Choose one of: {', '.join(WISHES)}."
        )
    if live is None:
        return Plan("start", ("nothing is live yet",))
    reasons = []
    if target.number == live.number:
        reasons.append(f"{live.label} is started anew")
    if target.version != live.version:
        reasons.append(f"version {live.version} → {target.version}")
    if target.commit != live.commit:
        reasons.append(f"commit {live.commit[:9]} → {target.commit[:9]}")
    changed = changed_variables(live.config, target.config)
    if changed:
        reasons.append(f"config changes: {', '.join(changed)}")
    return Plan("rolling", tuple(reasons or [f"{live.label} → {target.label}, same content"]))


def changed_variables(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Names of variables that are set, changed or unset; never their values."""
    return sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
