"""The toolchain that a build gets: root's, the setting's, or what the project's files ask for."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from msgspec.structs import replace

from gatling.errors import BuildFailed
from gatling.platform.toolchains import store
from gatling.project import toolchains

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatling.platform.base import Surroundings
    from gatling.platform.services import Toolchains
    from gatling.project.toolchains import Asked, Toolchain


class MissingToolchain(BuildFailed):
    """No toolchain of this host is what a project needs; nothing was built."""

    code = "missing-toolchain"

    def __init__(self, wanted: str, needs: str, have: Toolchain | None) -> None:
        """`wanted` is the version to install, `needs` the requirement for people."""
        host = f"Elixir {have.elixir} and OTP {have.otp}" if have else "no toolchain for it"
        super().__init__(
            f"{needs}, and this host has {host}.",
            hint="An admin of the server can install"
            f" {'it' if wanted else 'one'}: `gatling toolchain install {wanted or 'VERSION'}`."
            " Then push again.",
        )
        self.wanted = wanted


def choose(
    around: Surroundings, setting: str, asked: Asked, installed: Sequence[Toolchain]
) -> Toolchain | None:
    """Return the toolchain for a build; None for the host's own as it is.

    `setting` is `build.toolchain`. Raises MissingToolchain.
    """
    if around.pinned:
        return None
    base = store.on_path(around.build["PATH"])
    if setting == toolchains.SYSTEM or (setting == toolchains.AUTO and not asked.anything):
        return None
    if setting != toolchains.AUTO:
        wanted = toolchains.parse(setting)
        every = [*toolchains.newest_first(installed), *([base] if base else [])]
        chosen = next((each for each in every if wanted.fits(each.elixir, each.otp)), None)
        if chosen is None:
            raise MissingToolchain(
                str(wanted), f"The setting build.toolchain requires {wanted}", base
            )
        return chosen if chosen is not base else None
    chosen = toolchains.choose(asked, base, installed)
    # a version manager's wrapper may be there, and the build itself checks versions then
    none = shutil.which("elixir", path=around.build["PATH"]) is None
    if chosen is None and (base is not None or none):
        raise MissingToolchain(asked.to_install, f"The project requires {asked}", base)
    return chosen if chosen is not base else None


def surround(
    around: Surroundings, toolchains: Toolchains, chosen: Toolchain | None
) -> Surroundings:
    """Put the programs of the toolchain first in the PATH of a build, which takes no other ones."""
    if chosen is None:
        return around
    programs = toolchains.programs(chosen.name)
    path = f"{programs}:{around.build['PATH']}"
    return replace(around, build={**around.build, "PATH": path}, toolchain=str(programs))
