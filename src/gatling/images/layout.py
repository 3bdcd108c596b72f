"""An OCI image layout: a directory with the blobs of images and an index that names them.

Other programs read it as it is, `skopeo inspect oci:DIR:v12` for example. A blob appears under its
digest in one rename, so a kill leaves no half of one. A layer that was compressed once is known by
the digest of its content, and is not compressed again.

The caller keeps others from writing to the directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from typing import IO, TYPE_CHECKING, Any

from msgspec import Struct

from gatling import files
from gatling.errors import DiskFull, is_full
from gatling.images import archive

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from gatling.images.archive import Item

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
REF_NAME = "org.opencontainers.image.ref.name"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_WHAT = "The image of a release"
_NEW = ".new"


class Descriptor(Struct, frozen=True):
    """A blob: its digest and size, and its kind."""

    media: str
    digest: str
    size: int

    def json(self) -> dict[str, Any]:
        """The descriptor in a manifest."""
        return {"mediaType": self.media, "digest": self.digest, "size": self.size}


class Layer(Struct, frozen=True):
    """A layer of an image."""

    blob: Descriptor
    diff: str
    """The digest of the archive without compression."""
    made: bool = False
    """Whether the layer was compressed now, since it was not known."""


class Image(Struct, frozen=True):
    """An image in a layout."""

    manifest: Descriptor
    config: Descriptor
    layers: tuple[Layer, ...]


class Layout:
    """The layout in a directory, which is created."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs" / "sha256"
        self._index = root / "index.json"
        self._known = root / "layers.json"
        self._blobs.mkdir(parents=True, exist_ok=True)
        for left in self._blobs.glob(f"*{_NEW}"):
            left.unlink(missing_ok=True)
        if not (root / "oci-layout").exists():
            files.write(root / "oci-layout", '{"imageLayoutVersion":"1.0.0"}')
        if not self._index.exists():
            self._write_index([])

    def layer(self, items: Sequence[Item]) -> Layer:
        """The layer of these items; it is compressed unless it was once. Raises DiskFull."""
        ordered = archive.with_parents(items)
        diff = archive.digest(ordered)
        known = self._read_known()
        if (found := known.get(diff)) is not None and self.has(found):
            return Layer(found, diff)
        with self._writing() as (file, keep):
            space = files.Space(self.root, _WHAT)

            def write(data: bytes) -> None:
                space.written(len(data))
                file.write(data)

            again, digest, size = archive.compress(ordered, write)
            if again != diff:
                raise AssertionError("the items of a layer gave other bytes the second time")
            keep(digest)
        blob = Descriptor(LAYER, digest, size)
        known = {key: one for key, one in known.items() if self.has(one)} | {diff: blob}
        text = json.dumps({key: one.json() for key, one in known.items()}, sort_keys=True)
        files.write(self._known, text)
        return Layer(blob, diff, made=True)

    def image(self, layers: Sequence[Layer], config: dict[str, Any]) -> Image:
        """Write the config and the manifest of an image; `config` lacks only the layers."""
        root = {"type": "layers", "diff_ids": [layer.diff for layer in layers]}
        written = self.add(CONFIG, _json(config | {"rootfs": root}))
        manifest = self.add(MANIFEST, _json({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": written.json(),
            "layers": [layer.blob.json() for layer in layers],
        }))  # fmt: skip
        return Image(manifest, written, tuple(layers))

    def add(self, media: str, data: bytes) -> Descriptor:
        """Write a small blob."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        blob = Descriptor(media, digest, len(data))
        if not self.has(blob):
            with self._writing() as (file, keep):
                file.write(data)
                keep(digest)
        return blob

    def copy(self, blob: Descriptor, chunks: Iterator[bytes]) -> bool:
        """Write a blob from elsewhere; False if its digest or size is another one."""
        with self._writing() as (file, keep):
            space = files.Space(self.root, _WHAT)
            found, size = hashlib.sha256(), 0
            for chunk in chunks:
                size += len(chunk)
                if size > blob.size:
                    return False
                found.update(chunk)
                space.written(len(chunk))
                file.write(chunk)
            if size != blob.size or f"sha256:{found.hexdigest()}" != blob.digest:
                return False
            keep(blob.digest)
        return True

    def has(self, blob: Descriptor) -> bool:
        """Whether the blob is there, at its full size."""
        try:
            return self.path(blob.digest).stat().st_size == blob.size
        except OSError:
            return False

    def path(self, digest: str) -> Path:
        """The file of a blob."""
        if not DIGEST.fullmatch(digest):
            raise ValueError(digest)
        return self._blobs / digest.removeprefix("sha256:")

    def tag(self, name: str, manifest: Descriptor) -> None:
        """Let a name stand for an image, and no longer for another one."""
        others = [entry for entry in self._read_index() if _name(entry) != name]
        self._write_index([*others, manifest.json() | {"annotations": {REF_NAME: name}}])

    def tags(self) -> dict[str, str]:
        """The digests of the images by name."""
        return {_name(entry): entry["digest"] for entry in self._read_index()}

    def keep(self, names: Collection[str], base: Collection[str] = ()) -> int:
        """Remove all other images, and blobs that none uses; the number of bytes removed.

        `base` are the digests of further blobs that stay.
        """
        kept = [entry for entry in self._read_index() if _name(entry) in names]
        self._write_index(kept)
        used = set(base)
        for entry in kept:
            used.add(entry["digest"])
            manifest = json.loads(self.path(entry["digest"]).read_bytes())
            used |= {one["digest"] for one in (manifest["config"], *manifest["layers"])}
        removed = 0
        for file in self._blobs.iterdir():
            if f"sha256:{file.name}" not in used:
                removed += file.stat().st_size
                file.unlink()
        return removed

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[IO[bytes], Any]]:
        """A new file, and the call that makes it the blob of a digest."""
        files.need_space(self.root, _WHAT)
        temporary = self._blobs / f"{os.getpid()}{_NEW}"
        try:
            with temporary.open("wb") as file:

                def keep(digest: str) -> None:
                    file.flush()
                    os.fsync(file.fileno())
                    temporary.rename(self.path(digest))
                    files.sync(self._blobs)

                yield file, keep
        except OSError as error:
            if is_full(error):
                raise DiskFull("The image was not written: no space is left.") from error
            raise
        finally:
            temporary.unlink(missing_ok=True)

    def _read_known(self) -> dict[str, Descriptor]:
        """The compressed layers; a file that cannot be read is one without any."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            return {
                diff: Descriptor(one["mediaType"], one["digest"], one["size"])
                for diff, one in json.loads(self._known.read_bytes()).items()
                if DIGEST.fullmatch(one["digest"])
            }
        return {}

    def _read_index(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = json.loads(self._index.read_bytes())["manifests"]
        return entries

    def _write_index(self, entries: list[dict[str, Any]]) -> None:
        entries = sorted(entries, key=_name)
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        files.write(self._index, _json(index).decode())


def _name(entry: dict[str, Any]) -> str:
    return str(entry["annotations"][REF_NAME])


def _json(value: dict[str, Any]) -> bytes:
    """The same bytes for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
