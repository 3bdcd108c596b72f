"""A repository of a registry, by the OCI distribution specification.

https://github.com/opencontainers/distribution-spec: blobs are uploaded in one request, or in
several if they are large, and are not sent again when the registry has them.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from typing import IO, TYPE_CHECKING, Self
from urllib.parse import urlencode, urlsplit, urlunsplit

from msgspec import Struct

from gatling.errors import RegistryFailed
from gatling.images.http import ATTEMPTS, Connection, Passing, parsed
from gatling.images.layout import INDEX, MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.images.http import Answer, Login
    from gatling.images.layout import Descriptor
    from gatling.images.reference import Repository

PART = 16 << 20
"""Bytes of a request; a larger blob is sent in several. A part that fails is sent again alone."""
MAX_TAGS = 10_000
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_BYTES = {"Content-Type": "application/octet-stream"}
_HOSTS = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,15})")
_NEXT = re.compile(r"<([^>]+)>\s*;\s*rel=\"?next\"?")


class Found(Struct, frozen=True):
    """A manifest of a registry."""

    media: str
    digest: str
    data: bytes


class Registry:
    """One repository. All calls raise RegistryFailed."""

    def __init__(
        self,
        repository: Repository,
        *,
        login: Login | None = None,
        trusted: Path | None = None,
        plain: bool = False,
        rights: str = "pull,push",
    ) -> None:
        """`trusted` is a file with certificates of CAs, `plain` means HTTP without TLS.

        A registry on this machine has no TLS unless that file is given. A token has the `rights`:
        `pull`, `push` and `delete`.
        """
        self.repository = repository
        host = _HOSTS.get(repository.host, repository.host)
        self._http = Connection(
            host,
            plain=plain or (repository.is_local and trusted is None),
            login=login,
            trusted=trusted,
            scopes=(f"repository:{repository.name}:{rights}",),
        )
        self._base = f"/v2/{repository.name}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def has(self, digest: str) -> bool:
        """Whether the repository has a blob."""
        at = f"{self._base}/blobs/{digest}"
        return self._http.ask("HEAD", at, fine=(200, 404)).status == 200

    def upload(self, blob: Descriptor, path: Path, mount: str = "") -> int:
        """Send a blob unless it is there; the bytes sent.

        `mount` is a repository of the registry that may have it.
        """
        if self.has(blob.digest):
            return 0
        sent = 0
        whole = blob.size <= PART
        for number in range(1, ATTEMPTS + 1):
            session = self._begin(blob, mount)
            if session is None:
                return sent
            with path.open("rb") as file:
                try:
                    if whole:
                        sent += self._in_one(session, blob, file)
                    else:
                        sent += self._in_parts(session, blob, file)
                except RegistryFailed as error:
                    # some registries take a blob in one request only
                    if whole or error.reason not in {"unsupported", "missing"}:
                        raise
                    whole = True
                    continue
                except Passing as failed:
                    if number == ATTEMPTS:
                        raise failed.error from failed
                    self._http.pause(number, failed)
                    continue
            return sent
        raise AssertionError

    def put(self, manifest: Descriptor, data: bytes, version: str) -> None:
        """Write a manifest, under a tag or its digest."""
        answer = self._http.ask(
            "PUT", f"{self._base}/manifests/{version}", fine=(201,), body=data,
            headers={"Content-Type": manifest.media},
        )  # fmt: skip
        digest = answer.headers.get("Docker-Content-Digest", manifest.digest)
        if digest != manifest.digest:
            self._http.fail("kept another manifest than it was sent", "malformed")

    def manifest(self, version: str) -> Found | None:
        """The manifest of a tag or digest, if there is one."""
        accepted = f"{MANIFEST}, {INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"
        answer = self._http.ask(
            "GET", f"{self._base}/manifests/{version}", fine=(200, 404),
            headers={"Accept": accepted},
        )  # fmt: skip
        if answer.status == 404:
            return None
        digest = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        if version.startswith("sha256:") and version != digest:
            self._http.fail("sent another manifest than was asked for", "malformed")
        media = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        return Found(media, digest, answer.body)

    def blob(self, digest: str) -> Iterator[bytes]:
        """Yield the content of a blob, which the caller checks."""
        try:
            yield from self._http.stream(f"{self._base}/blobs/{digest}")
        except Passing as failed:
            raise failed.error from failed

    def tags(self) -> list[str]:
        """The tags of the repository; none for a repository that does not exist."""
        found: list[str] = []
        at = f"{self._base}/tags/list"
        while at and len(found) < MAX_TAGS:
            answer = self._http.ask("GET", at, fine=(200, 404))
            if answer.status == 404:
                return found
            try:
                found += [str(tag) for tag in parsed(answer.body)["tags"] or ()]
            except (ValueError, KeyError, TypeError):
                self._http.fail("sent no list of tags", "malformed")
            following = _NEXT.search(answer.headers.get("Link", ""))
            at = self._http.joined(answer.url, following[1]) if following else ""
        return found

    def remove(self, version: str) -> None:
        """Remove a manifest by its digest, with all its tags, or a tag alone.

        Not every registry can; the reason of the error is `unsupported` then.
        """
        at = f"{self._base}/manifests/{version}"
        try:
            self._http.ask("DELETE", at, fine=(200, 202, 204, 404))
        except RegistryFailed as error:
            if not version.startswith("sha256:") and error.reason == "refused":
                error.reason = "unsupported"  # docker-registry calls a tag an invalid digest
            raise

    def check(self) -> None:
        """Log in, and begin an upload, which is given up again: whether pushes are allowed."""
        answer = self._http.ask("POST", f"{self._base}/blobs/uploads/", fine=(202,), body=b"")
        with contextlib.suppress(RegistryFailed, Passing):
            self._http.once("DELETE", self._location(answer), fine=(200, 202, 204, 404, 405))

    def _begin(self, blob: Descriptor, mount: str) -> str | None:
        """The URL of a new upload; None if the registry took the blob from elsewhere."""
        question = f"?{urlencode({'mount': blob.digest, 'from': mount})}" if mount else ""
        answer = self._http.ask(
            "POST", f"{self._base}/blobs/uploads/{question}", fine=(201, 202), body=b""
        )
        return self._location(answer) if answer.status == 202 else None

    def _in_one(self, session: str, blob: Descriptor, file: IO[bytes]) -> int:
        self._http.once(
            "PUT", _with_digest(session, blob), fine=(201,), body=file, headers=_BYTES
        )  # fmt: skip
        return blob.size

    def _in_parts(self, session: str, blob: Descriptor, file: IO[bytes]) -> int:
        start = sent = 0
        failures = 0
        while start < blob.size:
            file.seek(start)
            part = file.read(PART)
            headers = _BYTES | {"Content-Range": f"{start}-{start + len(part) - 1}"}
            try:
                answer = self._http.once(
                    "PATCH", session, fine=(202, 204), body=part, headers=headers
                )
                start += len(part)
            except Passing as failed:
                failures += 1
                if failures == ATTEMPTS:
                    raise
                self._http.pause(failures, failed)
                answer = self._http.once("GET", session, fine=(204,))
                taken = _RANGE.fullmatch(answer.headers.get("Range", ""))
                start = min(int(taken[1]) + 1, blob.size) if taken and taken[1] != "0" else 0
            else:
                sent += len(part)
            session = self._location(answer)
        self._http.once("PUT", _with_digest(session, blob), fine=(201,), body=b"", headers=_BYTES)
        return sent

    def _location(self, answer: Answer) -> str:
        location = answer.headers.get("Location", "")
        if not location:
            self._http.fail("names no place for an upload", "malformed")
        return self._http.joined(answer.url, location)


def _with_digest(url: str, blob: Descriptor) -> str:
    parts = urlsplit(url)
    question = "&".join(filter(None, (parts.query, urlencode({"digest": blob.digest}))))
    return urlunsplit(parts._replace(query=question))
