"""The image of a release: made once, pushed to the platform's registry, collected there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from gatling import files
from gatling.errors import GatlingError
from gatling.images import image, reference
from gatling.images.layout import Layout
from gatling.platform.kubernetes import place
from gatling.state import releases
from gatling.ui.output import size

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.deploy.context import Context
    from gatling.platform.open import Gatling
    from gatling.state.platforms import Store
    from gatling.state.releases import Release


def ensure(gatling: Gatling, context: Context, release: Release) -> Release:
    """Push the image of a release unless that was done; the release, with its image.

    Raises BuildFailed, DiskFull, RegistryFailed, and InvalidInput for a base that does not fit.
    """
    app, journal = context.app, context.journal
    platform = place.of(gatling.db, app)
    store = place.store(platform)
    if release.image.startswith(f"{store.place}/"):
        return release
    tree = gatling.home.app(app.name).release(release.number)
    directory = layout_directory(gatling, app.name)
    directory.mkdir(mode=0o700, exist_ok=True)
    with files.locked(directory / "lock"):
        layout = Layout(directory)
        with journal.step("write_image"):
            base = _base(layout, tree, store, _wanted(context, release))
            made = image.write(
                layout, tree, base, own={release.name},
                command=[f"bin/{release.name}", "start"],
            )  # fmt: skip
            layout.tag(release.label, made.manifest)
        for note in base.notes:
            context.progress.note(note)
        with journal.step("push_image"), place.repository(store, app.name) as registry:
            pushed = image.push(registry, layout, made, release.label, base.origin)
        # those of the newest release: the next image shares most layers with it
        layout.keep([release.label])
    found = f"{store.place}/{app.name}@{pushed.digest}"
    context.progress.note(f"image {size(pushed.size)}, {size(pushed.sent)} pushed")
    on = f"{base.origin}@{base.digest}" if base.origin else ""
    if on:
        context.progress.note(f"based on {on}")
    releases.set_image(gatling.db, app.name, release.number, found, on)
    return releases.get(gatling.db, app.name, release.number)


def _wanted(context: Context, release: Release) -> str:
    """The image to base a release on; empty: the distribution of this machine.

    A release that had an image in another registry keeps its base, by the digest.
    """
    return release.base_image if release.image else context.settings.cluster.base


def _base(layout: Layout, tree: Path, store: Store, wanted: str) -> image.Base:
    if not wanted:
        return image.debian_base(layout, tree)
    named = reference.reference(wanted)
    with place.origin(store, named) as registry:
        base = image.named_base(layout, registry, named)
    return structs.replace(base, notes=image.check_fits(layout, base, tree))


def layout_directory(gatling: Gatling, app: str) -> Path:
    """The directory of the images of an app on this machine."""
    return gatling.home.app(app).root / "image"


def collect(gatling: Gatling, context: Context) -> None:
    """Remove the images of releases that are no longer retained from the registry."""
    app = context.app
    store = place.store(place.of(gatling.db, app))
    kept = set(releases.images(gatling.db, app.name, retained=True).values())
    gone = releases.images(gatling.db, app.name, retained=False)
    if not gone:
        return
    try:
        with place.repository(store, app.name, "pull,push,delete") as registry:
            for number, image_name in gone.items():
                if image_name not in kept:  # a change of config has the image of its base
                    registry.remove(image_name.partition("@")[2])
                releases.set_image(gatling.db, app.name, number, "")
    except GatlingError as error:
        context.progress.note(f"old images stay in the registry: {error.what}")
