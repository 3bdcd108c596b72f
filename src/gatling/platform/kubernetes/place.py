"""The place of an app in a cluster: its namespace, and the repository of its images."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gatling.errors import InvalidInput
from gatling.images import reference
from gatling.images.http import Login
from gatling.images.registry import Registry
from gatling.platform.kubernetes.api import Api
from gatling.platform.kubernetes.client import ANSWER_SECONDS, Client
from gatling.state import platforms
from gatling.state.platforms import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.state.apps import App
    from gatling.state.database import Database
    from gatling.state.platforms import Platform


def of(db: Database, app: App) -> Platform:
    """The platform of an app in a cluster; raises NotFound."""
    if app.platform is None:
        raise AssertionError(f"{app.name} runs on this machine")
    return platforms.get(db, app.platform)


@contextlib.contextmanager
def opened(db: Database, app: App) -> Iterator[Api]:
    """The namespace of an app."""
    with namespace(of(db, app)) as api:
        yield api


@contextlib.contextmanager
def namespace(platform: Platform, patience: float = ANSWER_SECONDS) -> Iterator[Api]:
    """The namespace of a platform, whose API server may take so many seconds to answer."""
    with Client(platform.cluster, patience) as client:
        yield Api(client)


def store(platform: Platform) -> Store:
    """The place of the platform's images; raises InvalidInput for a platform without one."""
    if platform.registry is None:
        raise InvalidInput(
            f"The platform {platform.name} has no registry, so no image can be pushed.",
            hint=f"`gatling platform remove {platform.name}`, then add it with --registry.",
        )
    return platform.registry


def repository(
    place: Store, name: str, rights: str = "pull,push"
) -> contextlib.AbstractContextManager[Registry]:
    """One repository of a registry, with its login."""
    return _repository(place, reference.repository(f"{place.place}/{name}"), rights)


def origin(place: Store, image: reference.Reference) -> contextlib.AbstractContextManager[Registry]:
    """The repository of an image that is a base; with the login for one in the same registry."""
    if image.repository.host != place.place.partition("/")[0]:
        place = Store(place=str(image.repository))
    return _repository(place, image.repository, "pull")


@contextlib.contextmanager
def _repository(place: Store, found: reference.Repository, rights: str) -> Iterator[Registry]:
    login = Login(place.user, place.password) if place.user else None
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as bundle:
        bundle.write(place.authority)
        bundle.flush()
        trusted = Path(bundle.name) if place.authority else None
        with Registry(found, login=login, trusted=trusted, rights=rights) as opened:
            yield opened
