"""The image of a release: its base, its layers, and its way to a registry and away from there."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gatling.errors import InvalidInput, RegistryFailed
from gatling.images import debian, fitting, tree
from gatling.images.http import MAX_TEXT, parsed
from gatling.images.layout import CONFIG, DIGEST, INDEX, LAYER, MANIFEST, Descriptor, Layer
from gatling.images.registry import DOCKER_LIST, DOCKER_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from gatling.images.layout import Image, Layout
    from gatling.images.reference import Reference
    from gatling.images.registry import Found, Registry

MAX_LAYERS = 120
"""Of a base; overlayfs has a limit, and runtimes refuse more than 127."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_LAYERS = {
    LAYER: LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER,
    "application/vnd.oci.image.layer.v1.tar": "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
"""The kinds of layers that a base may have, with their names in an OCI image."""


class Base(Struct, frozen=True):
    """The layers below those of a release."""

    layers: tuple[Layer, ...]
    environment: tuple[str, ...]
    """`PATH=…` and the like."""
    notes: tuple[str, ...] = ()
    origin: str = ""
    """The repository that it was taken from, if it was."""
    digest: str = ""
    """The digest of its manifest there."""


class Pushed(Struct, frozen=True):
    """An image in a registry."""

    digest: str
    sent: int
    """Bytes of layers, config and manifest that the registry did not have."""
    size: int
    """Bytes of the whole image."""


class Collected(Struct, frozen=True):
    """The tags that were removed from a registry, and those that could not be."""

    removed: tuple[str, ...]
    left: tuple[str, ...]
    why: str = ""


def architecture() -> str:
    """The name of this machine's architecture in images: `amd64`."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def debian_base(layout: Layout, release: Path) -> Base:
    """A base from the Debian packages of this machine that a release needs."""
    made = debian.base(release)
    notes = tuple(f"The library {name} is not on this machine." for name in made.missing)
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return Base((layout.layer(made.items),), (path, "LANG=C.UTF-8"), notes)


def named_base(layout: Layout, registry: Registry, reference: Reference) -> Base:
    """The image of a registry as a base; its layers are copied into the layout."""
    digest, manifest = _of_this_machine(registry, reference)
    try:
        config = _descriptor(manifest["config"], CONFIG)
        blobs = [_descriptor(one, _LAYERS[one["mediaType"]]) for one in manifest["layers"]]
        if config.size > MAX_TEXT or len(blobs) > MAX_LAYERS:
            raise _malformed(reference)
        _copy(layout, registry, [config, *blobs])
        said = parsed(layout.path(config.digest).read_bytes())
        diffs = [str(diff) for diff in said["rootfs"]["diff_ids"]]
        environment = tuple(str(one) for one in said.get("config", {}).get("Env") or ())
        if said["architecture"] != architecture():
            raise InvalidInput(
                f"{reference} is for {str(said['architecture'])[:20]!r} only, and this machine"
                f" builds for {architecture()}."
            )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _malformed(reference) from error
    if len(diffs) != len(blobs) or not all(map(DIGEST.fullmatch, diffs)):
        raise _malformed(reference)
    return Base(
        tuple(Layer(blob, diff) for blob, diff in zip(blobs, diffs, strict=True)),
        environment, origin=str(reference.repository), digest=digest,
    )  # fmt: skip


def check_fits(layout: Layout, base: Base, release: Path) -> tuple[str, ...]:
    """Check that a release runs on a named base; notes for the log. Raises InvalidInput."""
    layers = [(layout.path(one.blob.digest), one.blob.media) for one in base.layers]
    return fitting.check(release, layers, base.environment, f"{base.origin}@{base.digest}")


def write(
    layout: Layout, release: Path, base: Base, *, own: Collection[str], command: Sequence[str]
) -> Image:
    """Write the image of a release tree; the same tree and base give the same digest.

    `own` are the project's applications. `command` starts the release when nothing else is named.
    Raises BuildFailed for a tree that cannot become an image, and DiskFull.
    """
    groups = tree.layers(release, own)
    layers = [layout.layer(items) for items in groups.values() if items]
    return layout.image(
        [*base.layers, *layers],
        {
            "architecture": architecture(),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "User": f"{debian.USER}:{debian.USER}",
                "Env": list(base.environment),
                "WorkingDir": f"/{tree.PLACE}",
                "Cmd": list(command),
            },
        },
    )


def push(registry: Registry, layout: Layout, image: Image, tag: str, origin: str = "") -> Pushed:
    """Send an image to a registry, layers first, so that a tag always stands for a whole image.

    `origin` is the repository of the base, whose layers a registry may have already.
    """
    host, _, name = origin.partition("/")
    mount = name if host == registry.repository.host and origin else ""
    blobs = {layer.blob.digest: layer.blob for layer in image.layers}
    sent = 0
    for blob in (*blobs.values(), image.config):
        sent += registry.upload(blob, layout.path(blob.digest), mount)
    data = layout.path(image.manifest.digest).read_bytes()
    registry.put(image.manifest, data, tag)
    parts = (*blobs.values(), image.config, image.manifest)
    return Pushed(
        image.manifest.digest, sent + image.manifest.size, sum(blob.size for blob in parts)
    )


def collect(registry: Registry, remove: Iterable[str], keep: Iterable[str]) -> Collected:
    """Remove tags from a registry, with their manifests unless a tag that is kept needs them.

    The registry frees the layers itself, some with a command of their own.
    """
    kept = {found.digest for tag in keep if (found := registry.manifest(tag)) is not None}
    removed: list[str] = []
    left: list[str] = []
    why = ""
    for tag in remove:
        found = registry.manifest(tag)
        if found is None:
            continue
        try:
            registry.remove(tag if found.digest in kept else found.digest)
        except RegistryFailed as error:
            if error.reason not in {"unsupported", "denied"}:
                raise
            left.append(tag)
            why = why or error.what
        else:
            removed.append(tag)
    return Collected(tuple(removed), tuple(left), why)


def _of_this_machine(registry: Registry, reference: Reference) -> tuple[str, Mapping[str, Any]]:
    found = registry.manifest(reference.version)
    if found is not None and found.media in {INDEX, DOCKER_LIST}:
        try:
            fitting = [
                str(entry["digest"]) for entry in parsed(found.data)["manifests"]
                if entry["platform"]["os"] == "linux"
                and entry["platform"]["architecture"] == architecture()
            ]  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise _malformed(reference) from error
        if not fitting:
            raise InvalidInput(f"{reference} has no image for linux/{architecture()}.")
        if not DIGEST.fullmatch(fitting[0]):
            raise _malformed(reference)
        found = registry.manifest(fitting[0])
    if found is None:
        raise RegistryFailed(
            f"There is no image {reference}.", hint="Check its name and tag.", reason="missing"
        )
    return found.digest, _manifest(found, reference)


def _manifest(found: Found, reference: Reference) -> Mapping[str, Any]:
    try:
        manifest = parsed(found.data)
    except ValueError as error:
        raise _malformed(reference) from error
    if found.media not in {MANIFEST, DOCKER_MANIFEST} or not isinstance(manifest, dict):
        raise _malformed(reference)
    return manifest


def _copy(layout: Layout, registry: Registry, blobs: Iterable[Descriptor]) -> None:
    for blob in blobs:
        if not layout.has(blob) and not layout.copy(blob, registry.blob(blob.digest)):
            raise RegistryFailed(
                f"{registry.repository} sent another blob than {blob.digest}.", reason="malformed"
            )


def _descriptor(said: Mapping[str, Any], media: str) -> Descriptor:
    digest, size = said["digest"], said["size"]
    if not isinstance(digest, str) or not isinstance(size, int) or not DIGEST.fullmatch(digest):
        raise ValueError(digest)
    return Descriptor(media, digest, size)


def _malformed(reference: Reference) -> RegistryFailed:
    return RegistryFailed(
        f"{reference} cannot be a base: its manifest is not that of an image of layers.",
        reason="malformed",
    )
