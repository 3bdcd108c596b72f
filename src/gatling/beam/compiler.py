"""Compiles Gatling's code for nodes with the release itself, where no build has done it yet."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec import structs

from gatling import process
from gatling.beam import toolbox
from gatling.errors import CommandFailed, NodeUnreachable
from gatling.runtime import spec

if TYPE_CHECKING:
    from gatling.platform.base import Surroundings
    from gatling.platform.interface import Tasks
    from gatling.state.apps import App
    from gatling.state.releases import Release

TIMEOUT_SECONDS = 60.0
# the compiler is in every release that `mix release` makes; a build may have been quicker
_COMPILE = (
    'made = System.fetch_env!("GATLING_MADE"); making = made <> "." <> System.pid();'
    " File.mkdir_p!(making);"
    ' for source <- Path.wildcard(System.fetch_env!("GATLING_SOURCES") <> "/*.erl"),'
    " do: {:ok, _} = :compile.file(String.to_charlist(source),"
    " [:deterministic, outdir: String.to_charlist(making)]);"
    " with {:error, _} <- File.rename(making, made), do: File.rm_rf!(making)"
)


def ensure(tasks: Tasks, around: Surroundings, app: App, release: Release) -> None:
    """Make sure that there are beams for the release's nodes: after an update of Gatling.

    Raises NodeUnreachable when they cannot be compiled.
    """
    paths = around.paths
    beams = toolbox.beams(paths, release)
    if beams.is_dir():
        return
    slot = app.live_slot or app.free_slot
    task = spec.task(around, app, release, slot, ("eval", _COMPILE))
    own = {"GATLING_MADE": str(beams), "GATLING_SOURCES": str(toolbox.SOURCES)}
    if around.cookie_in_file:  # which builds do not see, nor the home of instances
        own |= {"HOME": around.build["HOME"], "GATLING_COOKIE": ""}
    if not around.private_tmp:
        own["RELEASE_TMP"] = f"{paths.temporary_once}/tools-{os.getpid()}"
    # it writes where builds write
    task = structs.replace(task, kind="build", env=task.env | own, nice=process.BACKGROUND)
    try:
        tasks.run(task, timeout=TIMEOUT_SECONDS)
    except CommandFailed as error:
        raise NodeUnreachable(
            f"{release.label} could not compile Gatling's Erlang modules: {error.what}",
            log=error.log,
        ) from None
