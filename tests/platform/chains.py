"""Installations of toolchains, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.platform.toolchains.order import Order

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.platform.embedded.toolchains import OwnToolchains
    from gatling.platform.toolchains.store import Installed
    from tests.mirror import Mirror


def install(chains: OwnToolchains, wanted: str, builds: Mirror, **more: object) -> Installed:
    return chains.install(Order(wanted, builds.url, **more), lambda _: None)  # type: ignore[arg-type]


def left(chains: OwnToolchains, tmp_path: Path) -> list[str]:
    """The names in the directory of toolchains, without the lock."""
    return sorted(each.name for each in (tmp_path / "home/toolchains").iterdir()
                  if each.name != ".lock")  # fmt: skip
