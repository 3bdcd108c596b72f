"""The files of an app that nginx reads besides the switch: maintenance page, fingerprinted assets.

Both are made from the records and the retained releases, so that they can be made again at any
time; the deployment, recovery and the commands all do so here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import GatlingError, InvalidInput, InvalidManifest
from gatling.paths import exclusively
from gatling.project import settings as project_settings
from gatling.project import source
from gatling.proxy import pages
from gatling.releases import store
from gatling.state import apps, deployments, releases

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.deploy.context import Context
    from gatling.platform.open import Gatling
    from gatling.project.settings import Settings
    from gatling.state.apps import App
    from gatling.state.releases import Release

MAX_PAGE = 256 << 10
TITLE = "Down for maintenance"
TEXT = "It will be back soon. Please try again in a while."


def publish(gatling: Gatling, name: str, coming: Release | None = None) -> None:
    """Bring what nginx reads of an app into line with its records; `coming` is to go live next.

    Raises OSError.
    """
    with exclusively(gatling.home, "public"):  # also a switch and a deployment at the same time
        app = apps.get(gatling.db, name)
        settings = project_settings.parse(
            (coming.manifest if coming else app.manifest) | app.settings
        )
        shown = None if app.maintenance is None else page(gatling, app, settings)
        gatling.router.publish(name, shown, _trees(gatling, app, settings, coming))


def prepare(gatling: Gatling, context: Context, coming: Release) -> None:
    """As `publish`, in a deployment: a failure is only reported."""
    _try_to_publish(gatling, context, coming)


def follow(gatling: Gatling, context: Context) -> None:
    """After the decision: bring nginx into line with what is live now; failures as in `prepare`.

    nginx is reloaded only for changed settings, because a reload closes idle connections.
    """
    _try_to_publish(gatling, context, None)
    if fault := without_http3(gatling, context.settings):
        context.progress.note(fault)
    if context.settings.proxy == project_settings.parse(context.app.effective).proxy:
        return
    try:
        gatling.configure_router()
    except GatlingError as error:
        context.progress.note(f"the settings proxy.* are not applied: {error.what}")
        for line in error.log:
            context.progress.record(line)


def without_http3(gatling: Gatling, settings: Settings) -> str:
    """Why the proxy does not apply `proxy.http3`, with advice; empty if it does or need not."""
    if not settings.proxy.http3:
        return ""
    try:
        gatling.router.need_http3(applied=True)
    except InvalidInput as error:
        return f"proxy.http3 is not applied: {error.what} {error.hint}".rstrip()
    except GatlingError:  # nginx is missing, which others report
        pass
    return ""


def warn_of_written(gatling: Gatling, context: Context, live: Release) -> None:
    """Name a file that the app has written into the release before: the new one lacks it."""
    before = context.app.live_release
    if before is None or before == live.number:
        return
    files = store.written(gatling.home.app(context.app.name).release(before))
    if files:
        context.progress.note(
            f"v{before} has files that the app wrote there and {live.label} lacks, such as"
            f" {files[0]}. Store uploads outside of the release (docs/operations.md, Uploads)."
        )


def check_page(gatling: Gatling, app: str, commit: str, settings: Settings) -> None:
    """Raise InvalidManifest when the settings name a page that the commit does not have."""
    page = settings.proxy.maintenance_page
    if page and _page_of(gatling, app, commit, settings) is None:
        raise InvalidManifest(
            f"proxy.maintenance_page: the commit has no file {page} of up to {MAX_PAGE >> 10} KB.",
            hint="The file must be committed, in the same directory as gatling.toml.",
        )


def _try_to_publish(gatling: Gatling, context: Context, coming: Release | None) -> None:
    try:
        publish(gatling, context.app.name, coming)
    except OSError as error:
        context.progress.note(f"the app's files for nginx could not be written: {error}")


def page(gatling: Gatling, app: App, settings: Settings) -> str:
    """The maintenance page: the project's, if it has one and no other text was requested."""
    if not app.maintenance and app.live_release is not None:
        commit = releases.get(gatling.db, app.name, app.live_release).commit
        own = _page_of(gatling, app.name, commit, settings)
        if own is not None:
            return own
    if not app.maintenance:
        return pages.page(TITLE, TEXT)
    import html  # loads all entities, and few apps are in maintenance

    return pages.page(TITLE, html.escape(app.maintenance))


def _page_of(gatling: Gatling, app: str, commit: str, settings: Settings) -> str | None:
    """The project's page in a commit, if it has one there."""
    if not settings.proxy.maintenance_page:
        return None
    path = "/".join(filter(None, (settings.build.directory, settings.proxy.maintenance_page)))
    raw = source.file_at(gatling.home.app(app).repository, commit, path, MAX_PAGE)
    return raw.decode("utf-8", "replace") if raw is not None else None


def _trees(gatling: Gatling, app: App, settings: Settings, coming: Release | None) -> list[Path]:
    """The releases whose fingerprinted assets are served, the first's before others'."""
    paths = gatling.home.app(app.name)
    kept = set(releases.kept_commits(gatling.db, app.name))
    numbers = (coming.number if coming else None, app.live_release)
    first = list(dict.fromkeys(number for number in numbers if number is not None))
    # the coming one comes on top: what is live stays whole until it is not live any more
    earlier = [n for n in deployments.lately_live(gatling.db, app.name) if n not in first]
    keep = settings.proxy.static_keep
    chosen = [*first, *earlier[: max(0, keep - len(first) + 1)]] if settings.proxy.static else []
    return [paths.release(number) for number in chosen if number in kept]
