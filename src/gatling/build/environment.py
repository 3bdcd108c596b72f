"""The environment of builds: the app's config and what Gatling provides, not the pusher's shell."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import BuildFailed
from gatling.project import deploy_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatling.platform.base import Surroundings

COMMIT_VARIABLES = ("GATLING_COMMIT", "SOURCE_VERSION")
"""Both hold the full commit id while a build runs. The second name is Heroku's."""


def build_environment(
    around: Surroundings, config: Mapping[str, str], commit: str = ""
) -> dict[str, str]:
    """The environment of a build: the user's tools, the app's deploy key, the app's config.

    git finds no repository above the source, so that a `mix.exs` that runs git cannot read the
    commit of an unrelated one.
    """
    own = (
        deploy_key.environment(around.paths)
        | {"MIX_ENV": "prod", "ERL_AFLAGS": process.QUIET_VM}
        | dict.fromkeys(COMMIT_VARIABLES, commit)
        | _partitions()
    )
    environment = dict(around.build) | own | dict(config)
    environment.pop("RELEASE_COOKIE", None)
    return environment | {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CEILING_DIRECTORIES": str(around.paths.source.parent),
        "GATLING_CONFIG": " ".join(sorted(set(config) - {"RELEASE_COOKIE"})),
        "CI": "true",
    }


def _partitions() -> dict[str, str]:
    """Let mix compile dependencies in several OS processes, on half of the cores.

    Elixir reads the variable from 1.19 on. The app's config may set another number.
    """
    half = len(os.sched_getaffinity(0)) // 2
    return {"MIX_OS_DEPS_COMPILE_PARTITION_COUNT": str(half)} if half > 1 else {}


def program_in(around: Surroundings, argv: Sequence[str]) -> list[str]:
    """A command line with its program looked up on the PATH of builds; raises MissingProgram.

    With an installed toolchain it is that one's, or BuildFailed is raised: the PATH goes on to the
    host's own, which may be another version.
    """
    found = shutil.which(argv[0], path=around.toolchain or around.build["PATH"])
    if found is None and around.toolchain:
        raise BuildFailed(
            f"The toolchain in {os.path.dirname(around.toolchain)} has no {argv[0]}.",  # noqa: PTH120
            hint="It may have been removed just now. `gatling toolchain list` shows those that are"
            " installed.",
        )
    if found is None:
        raise process.missing(argv[0])
    return [found, *argv[1:]]
