"""Open LiveViews after a hot upgrade: they render with the new code, as gatling_pages has it."""

from __future__ import annotations

import contextlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import decoding
from gatling.errors import NodeUnreachable
from gatling.project import settings as project_settings
from gatling.releases import safe_copy
from gatling.text import counted

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.beam.answers import Pages
    from gatling.beam.comparison import Comparison
    from gatling.beam.control import Control
    from gatling.beam.etf import Opaque
    from gatling.deploy.context import Context
    from gatling.deploy.plan.inspection import Differences
    from gatling.platform.open import Gatling
    from gatling.state.apps import App
    from gatling.state.releases import Release

MANIFEST = "lib/*/priv/static/cache_manifest.json"
TRACKED = (".css", ".js")
"""Files that a layout marks with `phx-track-static`."""
MOST = 20
"""Each rendering that asks whether they have changed compares them one by one."""


class _Manifest(Struct):
    """The part of the file of `mix phx.digest` that names the fingerprinted file of each asset."""

    latest: dict[str, str] = {}


def prepare(
    gatling: Gatling, context: Context, node: Control, live: Release, differences: Differences
) -> None:
    """Have the open LiveViews ready for the new code, in which a click may render them first."""
    if not _follow(context, differences):
        return
    with contextlib.suppress(NodeUnreachable):  # the swap itself reports it
        node.prepare_pages(_assets_of(gatling, live))


def render_again(
    gatling: Gatling, context: Context, node: Control, live: Release, differences: Differences
) -> Opaque | None:
    """Let the open LiveViews of an upgraded node render; None when there is no reason to.

    `live` is the release before. They go on with that by themselves, see `rendered`. A failure is
    only a note: it is no reason to undo the upgrade.
    """
    if not _follow(context, differences):
        return None
    try:
        return node.render_pages(_assets_of(gatling, live))
    except NodeUnreachable as error:
        context.progress.note(f"open LiveViews do not render again: {error.what}")
        return None


def go_back(
    gatling: Gatling, app: App, node: Control, before: Release, comparison: Comparison
) -> None:
    """Let open LiveViews render after recovery: those that rendered with the release `before`.

    Nobody is there to whom a failure could be reported. They render at their next event anyway.
    """
    settings = project_settings.parse(app.effective)
    if settings.hot.rerender and comparison.code_or_assets:
        with contextlib.suppress(NodeUnreachable):
            node.render_pages(_assets_of(gatling, before))


def rendered(context: Context, node: Control, worker: Opaque) -> Pages | None:
    """Wait until the open LiveViews have rendered; None if that is not known."""
    try:
        pages = node.rendered_pages(worker)
    except NodeUnreachable as error:
        context.progress.note(f"whether open LiveViews rendered again is not known: {error.what}")
        return None
    for note in notes(pages):
        context.progress.note(note)
    return pages


def _follow(context: Context, differences: Differences) -> bool:
    comparison, _ = differences
    return context.settings.hot.rerender and comparison.code_or_assets


def _assets_of(gatling: Gatling, live: Release) -> list[str]:
    return assets(gatling.home.app(live.app).release(live.number))


def assets(tree: Path) -> list[str]:
    """The fingerprinted scripts and style sheets of a release, the least nested first.

    Empty when several applications have a manifest: it is not known whose pages are open.
    """
    manifests = list(tree.glob(MANIFEST))
    if len(manifests) != 1:
        return []
    try:
        manifest = decoding.from_json(safe_copy.read(manifests[0], tree), _Manifest)
    except (OSError, ValueError):  # DecodeError and ValidationError are ValueErrors
        return []
    files = [file for name, file in manifest.latest.items() if name.endswith(TRACKED)]
    return sorted(files, key=lambda file: (len(PurePosixPath(file).parts), file))[:MOST]


def notes(pages: Pages) -> list[str]:
    """Sentences about the LiveViews that do not show the new version yet."""
    later = "kept the old page until the next event"
    return [
        f"{counted(number, 'open LiveView')} {what}"
        for number, what in (
            (pages.failed, f"{later}: the new code failed to render ({pages.why})"),
            (pages.left, f"{later}: a new rendering could lose what it shows"),
            (pages.busy, "did not answer within 2 s, and will render after that"),
            (pages.unreached, "will render in the background"),
        )
        if number
    ]
