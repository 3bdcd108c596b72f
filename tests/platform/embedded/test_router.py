"""Where the proxy sends requests: one file's name, changed in one step."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.platform.base import Address
from gatling.platform.embedded.router import EmbeddedRouter
from gatling.platform.embedded.supervisord import Supervisord
from gatling.state import apps, home_settings
from gatling.state.database import open_database
from tests.conftest import until
from tests.places import embedded_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.platform.embedded.home import EmbeddedHome
    from gatling.state.database import Database


@pytest.fixture
def home() -> Iterator[EmbeddedHome]:
    root = Path(tempfile.mkdtemp(prefix="gt-", dir="/tmp"))
    yield embedded_home(root)
    shutil.rmtree(root)


@pytest.fixture
def db(home: EmbeddedHome) -> Iterator[Database]:
    opened = open_database(home.database)
    yield opened
    opened.close()


def files(directory: Path) -> list[str]:
    return [entry.name for entry in directory.iterdir()]


def router(home: EmbeddedHome, db: Database) -> EmbeddedRouter:
    return EmbeddedRouter(home, db, Supervisord(home))


def test_an_app_is_pointed_somewhere_by_exactly_one_file(home: EmbeddedHome, db: Database) -> None:
    proxy = router(home, db)
    route = home.app("shop").route
    targets = (None, 1, 1, 2, None, None, 2, 1)
    for target in targets:
        proxy.point("shop", target)
        assert proxy.pointed("shop") == target
        assert files(route) == [str(target or "down")]


@pytest.mark.parametrize("target", [1, 2, None])
@pytest.mark.parametrize("left", [(), ("1",), ("1", "2"), ("1", "2", "down"), ("2", "down")])
def test_whatever_a_killed_command_left(
    home: EmbeddedHome, db: Database, target: int | None, left: tuple[str, ...]
) -> None:
    proxy = router(home, db)
    route = home.app("shop").route
    route.mkdir(parents=True)
    for name in left:
        (route / name).touch()
    proxy.point("shop", target)
    assert files(route) == [str(target or "down")]


def test_at_no_moment_does_it_point_nowhere(home: EmbeddedHome, db: Database) -> None:
    proxy = router(home, db)
    route = home.app("shop").route
    proxy.point("shop", 1)
    begun = ended = looks = 0
    nowhere = False
    stop = threading.Event()

    def look() -> None:
        nonlocal looks, nowhere
        while not stop.is_set():
            before = ended
            # with one switch meanwhile, at least one of these looks must find its file
            there = any((route / name).exists() for name in ("2", "1", "2"))
            if begun - before <= 1:
                looks += 1
                nowhere = nowhere or not there

    watcher = threading.Thread(target=look)
    watcher.start()
    for n in range(1000):
        begun += 1
        proxy.point("shop", 1 if n % 2 else 2)
        ended += 1
    until(lambda: looks, "a look")
    stop.set()
    watcher.join()
    assert not nowhere


def test_addresses(home: EmbeddedHome, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    app = apps.create(db, "shop", lambda _port: True)
    monkeypatch.delenv("GATLING_LISTEN", raising=False)
    assert router(home, db).url(app) == "http://shop.localhost:8080"
    monkeypatch.setenv("GATLING_LISTEN", "0.0.0.0:80")
    assert router(home, db).url(app) == "http://shop.localhost"
    assert router(home, db).probe_address() == Address("127.0.0.1", 80)
    home_settings.put(db, "listen", "192.0.2.1:8081")  # goes before the environment
    assert router(home, db).url(app) == "http://shop.localhost:8081"
    assert router(home, db).probe_address() == Address("192.0.2.1", 8081)
