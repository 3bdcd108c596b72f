"""Deployments as they happen."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from gatling.api import events, limits
from gatling.operations import tokens
from gatling.state import deployments
from gatling.state.database import Database, open_database
from tests.conftest import until

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator
    from pathlib import Path

    from tests.api.served import Served


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    made = open_database(tmp_path / "state.db")
    with made.transaction():
        for app in ("shop", "blog"):
            made.execute("INSERT INTO apps (name, created_at) VALUES (?, '')", app)
    yield made
    made.close()


def begin(db: Database, app: str) -> int:
    return deployments.begin(db, app, cause="push", actor="ann", mark="m", commit=None).id


def seen(watcher: events.Watcher, db: Database) -> list[tuple[str, int, str]]:
    found = watcher.look(db)
    return [(one.kind, json.loads(one.data)["deployment"]["id"], one.app) for one in found]


def test_what_is_under_way_and_each_change(db: Database) -> None:
    done = begin(db, "shop")
    deployments.end(db, done, "succeeded", seconds=1)
    running = begin(db, "shop")
    watcher = events.Watcher(lambda _: True)
    assert seen(watcher, db) == [("deployment.started", running, "shop")]
    assert seen(watcher, db) == []
    deployments.begin_step(db, running, 0, "build")
    assert seen(watcher, db) == [("deployment.updated", running, "shop")]
    quick = begin(db, "blog")
    deployments.end(db, quick, "failed", seconds=1)
    assert seen(watcher, db) == [("deployment.ended", quick, "blog")]
    deployments.end(db, running, "succeeded", seconds=1)
    assert seen(watcher, db) == [("deployment.ended", running, "shop")]
    assert seen(watcher, db) == []


def test_apps_of_others_are_left_out(db: Database) -> None:
    watcher = events.Watcher(lambda app: app == "blog")
    watcher.look(db)
    begin(db, "shop")
    number = begin(db, "blog")
    assert seen(watcher, db) == [("deployment.started", number, "blog")]


def test_an_app_that_is_removed(db: Database) -> None:
    begin(db, "shop")
    watcher = events.Watcher(lambda _: True)
    watcher.look(db)
    db.execute("DELETE FROM apps WHERE name = 'shop'")
    assert seen(watcher, db) == []


def test_a_stream_that_begins_again_goes_on_where_it_was(db: Database) -> None:
    first = begin(db, "shop")
    watcher = events.Watcher(lambda _: True)
    (last,) = watcher.look(db)
    db.execute("UPDATE deployments SET started_at = '2026-01-01T00:00:00.000Z'")
    old = begin(db, "blog")
    deployments.end(db, old, "succeeded", seconds=1)
    db.execute("UPDATE deployments SET started_at = '2026-01-01T00:00:00Z' WHERE id = ?", old)
    missed = begin(db, "blog")
    deployments.end(db, missed, "succeeded", seconds=1)
    again = seen(events.Watcher(lambda _: True, last.id), db)
    assert again == [("deployment.started", first, "shop"), ("deployment.ended", missed, "blog")]


@pytest.mark.parametrize("last", ["", "x", "9" * 50, "0001-01-01T00:00:00+14:00", "2026-13-01"])
def test_an_id_that_is_none_begins_now(db: Database, last: str) -> None:
    deployments.end(db, begin(db, "shop"), "succeeded", seconds=1)
    assert seen(events.Watcher(lambda _: True, last), db) == []


class Stream:
    """A client of the stream."""

    def __init__(self, served: Served, token: str, query: str = "") -> None:
        self.connection = served.connection()
        headers = {"Authorization": f"Bearer {token}"}
        self.connection.request("GET", f"/v1/events{query}", headers=headers)
        self.response: http.client.HTTPResponse = self.connection.getresponse()

    def next(self) -> dict[str, Any]:
        """The next event."""
        found: dict[str, Any] = {}
        while line := self.response.readline().decode().rstrip("\n"):
            key, _, value = line.partition(": ")
            found[key] = json.loads(value) if key == "data" else value
        return found

    def close(self) -> None:
        self.response.close()
        self.connection.close()


@pytest.fixture(scope="module")
def text(served: Served) -> str:
    return served.token("rita-events", "reader", "shop")


def test_a_stream(served: Served, text: str) -> None:
    stream = Stream(served, text)
    assert stream.response.status == 200
    assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.response.headers["x-accel-buffering"] == "no"
    assert stream.next() == {"retry": "2000"}
    with served.opened() as gatling:
        begin(gatling.db, "blog")
        number = begin(gatling.db, "shop")
    first = stream.next()
    assert (first["event"], first["data"]["app"]) == ("deployment.started", "shop")
    assert first["data"]["deployment"]["id"] == number
    with served.opened() as gatling:
        deployments.end(gatling.db, number, "failed", seconds=1, error="It did.")
    assert stream.next()["event"] == "deployment.ended"
    stream.close()


def test_no_stream_of_an_app_of_others(served: Served, text: str) -> None:
    found = served.ask("GET", "/v1/events?app=blog", text)
    assert (found.status, found.code) == (403, "not-allowed")
    assert served.ask("GET", "/v1/events?app=..", text).status == 422


def test_streams_have_a_limit_and_give_their_places_back(served: Served, text: str) -> None:
    with contextlib.ExitStack() as every:
        for _ in range(limits.STREAMS):
            every.callback(Stream(served, text, "?app=shop").close)
        assert served.ask("GET", "/v1/events", text).status == 429
        other = Stream(served, served.token("eve-events", "reader"))
        assert other.response.status == 200
        other.close()

    def is_free() -> bool:
        one = Stream(served, text)
        one.close()
        return one.response.status == 200

    until(is_free, "the places are given back", 30, 1)


def test_a_stream_ends_with_its_token(served: Served) -> None:
    stream = Stream(served, served.token("gone", "reader"))
    assert stream.next() == {"retry": "2000"}
    with served.opened() as gatling:
        tokens.remove(gatling, "gone")
    stream.response.read()  # to its end
    stream.close()
