"""Apps as recorded: ports that nobody else has, settings, what is live."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from gatling.errors import InvalidInput, NotFound
from gatling.platform import ports
from gatling.state import apps, config, deployments, domains
from gatling.state.database import Database, open_database

if TYPE_CHECKING:
    from pathlib import Path

CREATOR = """
import sys
from pathlib import Path
from gatling.state import apps
from gatling.state.database import open_database
db = open_database(Path(sys.argv[1]))
for n in range(6):
    apps.create(db, f"{sys.argv[2]}{n}", lambda port: port % 3 > 0)
db.close()
"""


def free(_port: int) -> bool:
    return True


def all_ports(app: apps.App) -> list[int]:
    return [*app.ports.values(), *app.node_ports.values()]


def test_a_new_app(db: Database) -> None:
    app = apps.create(db, "shop", free)
    assert app == apps.get(db, "shop")
    assert (app.live_release, app.live_slot, app.wanted) == (None, None, "running")
    assert app.domains == ("shop.localhost",)
    assert set(app.ports) == set(app.node_ports) == {1, 2}
    assert all(20000 <= port <= 29999 for port in all_ports(app))
    with pytest.raises(InvalidInput, match="already an app shop"):
        apps.create(db, "shop", free)


def test_no_two_apps_share_a_port_whoever_makes_them(file: Path) -> None:
    creators = [
        subprocess.Popen([sys.executable, "-I", "-c", CREATOR, str(file), name]) for name in "abc"
    ]
    assert [creator.wait(60) for creator in creators] == [0, 0, 0]
    with contextlib.closing(open_database(file)) as db:
        every = apps.every(db)
    assert len(every) == 18
    given = list(chain.from_iterable(all_ports(app) for app in every))
    assert len(set(given)) == len(given) == 72
    assert all(port % 3 for port in given)


def test_a_port_at_which_something_listens_is_left_alone(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken: int = stranger.getsockname()[1]
        monkeypatch.setenv("GATLING_PORTS", f"{taken}-{min(taken + 40, 65535)}")
        app = apps.create(db, "shop", ports.is_free)
        assert taken not in all_ports(app)
        assert min(all_ports(app)) > taken


def test_ports_of_an_app_that_is_gone_are_given_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATLING_PORTS", "30000-30003")
    first = apps.create(db, "first", free)
    assert sorted(all_ports(first)) == [30000, 30001, 30002, 30003]
    with pytest.raises(InvalidInput, match="No port is left between 30000 and 30003"):
        apps.create(db, "second", free)
    assert [app.name for app in apps.every(db)] == ["first"]
    with pytest.raises(NotFound):
        apps.get(db, "second")
    apps.delete(db, "first")
    assert sorted(all_ports(apps.create(db, "second", free))) == sorted(all_ports(first))


@pytest.mark.parametrize(
    "text",
    ["20000", "20000-", "-20000", "a-b", "20000-19999", "80-90", "1023-2000", "20000-65536",
     "20000-20100-20200", "0x5000-0x6000", " 20000-20100", "20000–20100", "-"],
)  # fmt: skip
def test_a_port_range_that_is_none(
    db: Database, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("GATLING_PORTS", text)
    with pytest.raises(InvalidInput, match="GATLING_PORTS") as caught:
        apps.create(db, "shop", free)
    assert repr(text) in caught.value.what
    assert apps.every(db) == []


def test_an_empty_port_range_means_the_default(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATLING_PORTS", "")
    assert min(all_ports(apps.create(db, "shop", free))) >= 20000


def test_no_such_app(db: Database) -> None:
    with pytest.raises(NotFound, match="'shop'") as caught:
        apps.get(db, "shop")
    assert "gatling load shop" in caught.value.hint


def test_all_apps_by_name_are_what_each_is(db: Database) -> None:
    for name in ("shop", "blog", "zoo"):
        apps.create(db, name, free)
    domains.add(db, "shop", "shop.example.com")
    apps.make_live(db, "blog", release=3, slot=2, config={})
    every = apps.every(db)
    assert [app.name for app in every] == ["blog", "shop", "zoo"]
    assert every == [apps.get(db, app.name) for app in every]


def test_the_decision_for_a_release_and_its_config_is_one(db: Database) -> None:
    apps.create(db, "shop", free)
    config.replace(db, "shop", {"A": "1", "B": "2"})
    apps.want(db, "shop", "stopped")
    apps.make_live(db, "shop", release=7, slot=2, config={"A": "3"})
    app = apps.get(db, "shop")
    assert (app.live_release, app.live_slot, app.wanted) == (7, 2, "running")
    assert config.of_app(db, "shop") == {"A": "3"}

    class Unwritable(dict[str, str]):
        def items(self) -> None:  # type: ignore[override]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        apps.make_live(db, "shop", release=8, slot=1, config=Unwritable())
    assert apps.get(db, "shop") == app
    assert config.of_app(db, "shop") == {"A": "3"}


def test_the_slot_for_the_next_release(db: Database) -> None:
    apps.create(db, "shop", free)
    assert apps.get(db, "shop").free_slot == 1
    for live, other in ((1, 2), (2, 1)):
        apps.make_live(db, "shop", release=1, slot=live, config={})
        assert apps.get(db, "shop").free_slot == other


def test_an_app_that_is_forgotten_takes_everything_with_it(db: Database) -> None:
    for name in ("shop", "blog"):
        apps.create(db, name, free)
        config.replace(db, name, {"KEY": "secret"})
        d = deployments.begin(db, name, cause="push", actor="me", mark="m", commit=None)
        deployments.begin_step(db, d.id, 1, "x")
    apps.delete(db, "shop")
    for table in ("apps", "ports", "domains", "config", "deployments"):
        column = "name" if table == "apps" else "app"
        left = {row[0] for row in db.rows(f"SELECT {column} FROM {table}")}  # noqa: S608
        assert left == {"blog"}, table
    assert db.value("SELECT count(*) FROM steps") == 1


def test_settings_are_stored_as_they_are(db: Database) -> None:
    apps.create(db, "shop", free)
    before = apps.change_settings(db, "shop", lambda _: {"health.path": "/ü"})
    assert before.settings == {}
    apps.change_settings(db, "shop", lambda now: now.settings | {"releases.keep": "3"})
    assert apps.get(db, "shop").settings == {"health.path": "/ü", "releases.keep": "3"}


def test_settings_that_are_refused_change_nothing(db: Database) -> None:
    apps.create(db, "shop", free)
    apps.change_settings(db, "shop", lambda _: {"health.path": "/a"})

    def refuse(now: apps.App) -> dict[str, str]:
        raise InvalidInput(f"{now.settings} are enough")

    with pytest.raises(InvalidInput):
        apps.change_settings(db, "shop", refuse)
    assert apps.get(db, "shop").settings == {"health.path": "/a"}


def test_settings_changed_by_two_at_once_are_both_kept(db: Database, tmp_path: Path) -> None:
    apps.create(db, "shop", free)

    def change(key: str) -> None:
        with contextlib.closing(open_database(tmp_path / "state.db")) as own:
            for _ in range(20):
                apps.change_settings(
                    own, "shop",
                    lambda now: now.settings | {key: str(int(now.settings.get(key, 0)) + 1)},
                )  # fmt: skip

    with ThreadPoolExecutor() as pool:
        list(pool.map(change, ("releases.keep", "health.timeout")))
    assert apps.get(db, "shop").settings == {"releases.keep": "20", "health.timeout": "20"}
