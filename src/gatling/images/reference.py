"""Names of images: `registry.example.com:5000/team/shop:v12`, perhaps with `@sha256:…`."""

from __future__ import annotations

import re

from msgspec import Struct

from gatling.errors import InvalidInput

_HOST = (
    r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:]+\])"
    r"(?::[0-9]{1,5})?"
)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"(?P<host>{_HOST})/(?P<name>{_PART}(?:/{_PART})*)")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_NAME = 255
_LOOPBACK = re.compile(r"(?:localhost|127\.[0-9.]+|\[::1\])(?::[0-9]+)?")


class Repository(Struct, frozen=True):
    """A repository of a registry, which holds the images of one app."""

    host: str
    """The registry, perhaps with a port."""
    name: str
    """`team/shop`."""

    def __str__(self) -> str:
        return f"{self.host}/{self.name}"

    @property
    def is_local(self) -> bool:
        """Whether the registry is on this machine, where no TLS is needed."""
        return _LOOPBACK.fullmatch(self.host) is not None


class Reference(Struct, frozen=True):
    """An image of a repository."""

    repository: Repository
    version: str
    """A tag, or a digest."""

    def __str__(self) -> str:
        return f"{self.repository}{'@' if ':' in self.version else ':'}{self.version}"


def repository(text: str) -> Repository:
    """The repository of that name; raises InvalidInput."""
    found = _REPOSITORY.fullmatch(text) if len(text) <= _MAX_NAME else None
    if found is None or not _is_registry(found["host"]):
        raise InvalidInput(
            f"{text!r} is not the name of a repository of images.",
            hint="It begins with the registry: `registry.example.com/team`.",
        )
    return Repository(found["host"], found["name"])


def reference(text: str) -> Reference:
    """The image of that name, with `latest` as its default tag; raises InvalidInput."""
    name, _, digest = text.partition("@")
    tag = ""
    if ":" in name.rpartition("/")[2]:
        name, _, tag = name.rpartition(":")
    good = (not digest or _DIGEST.fullmatch(digest)) and (not tag or _TAG.fullmatch(tag))
    if not good or (not digest and text.endswith(("@", ":"))):
        raise InvalidInput(
            f"{text!r} is not the name of an image.",
            hint="For example `registry.example.com/team/base:1.2`.",
        )
    return Reference(repository(name), digest or tag or "latest")


def _is_registry(host: str) -> bool:
    """Whether the first part is a host, and no directory as in the short names of Docker Hub."""
    return "." in host or ":" in host or host == "localhost"
