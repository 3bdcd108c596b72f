"""What Gatling runs in nodes, compiled by a release itself where no build has done it yet."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import process
from gatling.beam import toolbox
from gatling.deploy import instances
from gatling.errors import CommandFailed, NodeUnreachable

if TYPE_CHECKING:
    from gatling.home import AppPaths
    from gatling.state.apps import App
    from gatling.state.releases import Release

TIMEOUT_SECONDS = 60.0
# the compiler is in every release that `mix release` makes
_COMPILE = (
    'made = String.to_charlist(System.fetch_env!("GATLING_MADE"));'
    ' for source <- Path.wildcard(System.fetch_env!("GATLING_SOURCES") <> "/*.erl"),'
    " do: {:ok, _} = :compile.file(String.to_charlist(source), [:deterministic, outdir: made])"
)


def ensure(paths: AppPaths, app: App, release: Release) -> None:
    """Make sure that there are beams for the release's nodes: after an update of Gatling.

    Raises NodeUnreachable when they cannot be compiled.
    """
    beams = toolbox.beams(paths.home, release, paths.release(release.number))
    if beams.is_dir():
        return
    beams.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=beams.parent) as directory:
        made = Path(directory) / "beams"
        made.mkdir()
        argv, env = instances.one_off(
            paths, app, release, app.live_slot or app.free_slot, ("eval", _COMPILE)
        )
        own = {
            "GATLING_MADE": str(made),
            "GATLING_SOURCES": str(toolbox.SOURCES),
            "RELEASE_TMP": f"{made}.tmp",
        }
        try:
            process.run(
                argv, timeout=TIMEOUT_SECONDS, cwd=made, env=env | own, nice=process.BACKGROUND
            )
        except CommandFailed as error:
            raise NodeUnreachable(
                f"What Gatling runs in nodes could not be compiled by {release.label}:"
                f" {error.what}",
                log=error.log,
            ) from None
        if not beams.is_dir():  # a build may have been quicker
            made.rename(beams)
