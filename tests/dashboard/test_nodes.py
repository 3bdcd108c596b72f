"""Fifty apps on one dashboard, some of whose nodes do not answer, or not as nodes do."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import re
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING
from unittest import mock

from gatling.dashboard.application import Dashboard
from gatling.dashboard.door import Door
from gatling.operations import apps as loading
from gatling.platform.base import State, local_status
from gatling.platform.embedded.instances import EmbeddedInstances
from gatling.ssh.policy import Grant
from tests.api.served import new_home, record
from tests.beam.test_flood import COOKIE, NAME, answer, asker_of, shake_hands
from tests.places import local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest
    from starlette.types import ASGIApp, Message

    from gatling.beam.etf import Opaque

WELL = 47
SILENT, MAD, LARGE = "silent", "mad", "large"
TEN_MB = 10 << 20


def answers(connection: socket.socket, asker: Opaque) -> None:
    connection.sendall(answer(asker, b"w\x05false"))


def says_nothing(connection: socket.socket, _: Opaque) -> None:
    connection.recv(1)


def talks_nonsense(connection: socket.socket, _: Opaque) -> None:
    connection.sendall(struct.pack(">I", 4096) + b"\xff" * 4096)


def answers_with_ten_megabytes(connection: socket.socket, asker: Opaque) -> None:
    term = b"m" + struct.pack(">I", TEN_MB) + bytes(TEN_MB)
    connection.sendall(answer(asker, term))


@contextlib.contextmanager
def nodes(behaviour: Callable[[socket.socket, Opaque], None]) -> Iterator[int]:
    """A port that stands for the nodes of any number of apps, which all do this when asked."""

    def attend(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            shake_hands(connection)
            behaviour(connection, asker_of(connection))
            connection.recv(1 << 16)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=attend, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


async def page(
    application: ASGIApp, door: Door, cookie: str, path: str, status: int = 200
) -> tuple[str, float]:
    """The text of a page, and the seconds that it took."""
    got: list[Message] = []
    path, _, query = path.partition("?")
    headers = [(b"host", door.host.encode()), (b"cookie", cookie.encode())]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": door.base + path, "raw_path": (door.base + path).encode(),
        "root_path": "", "query_string": query.encode(), "headers": headers, "client": None,
        "server": None,
    }  # fmt: skip

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        got.append(message)

    began = time.monotonic()
    await application(scope, receive, send)
    assert got[0]["status"] == status, got
    return b"".join(one.get("body", b"") for one in got[1:]).decode(), time.monotonic() - began


def card(text: str, app: str) -> str:
    """The text of an app's card, without its marks."""
    pattern = rf'<li class="card app[^>]*>(?:(?!</li>).)*/apps/{app}".*?</li>'
    found = re.search(pattern, text, re.DOTALL)
    assert found is not None
    return " ".join(re.sub(r"<[^>]*>", " ", found[0]).split())


def test_fifty_nodes_of_which_three_are_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"well{number}" for number in range(WELL)] + [SILENT, MAD, LARGE]
    with contextlib.ExitStack() as ends:
        ports = {
            SILENT: ends.enter_context(nodes(says_nothing)),
            MAD: ends.enter_context(nodes(talks_nonsense)),
            LARGE: ends.enter_context(nodes(answers_with_ten_megabytes)),
        }
        well = ends.enter_context(nodes(answers))
        home = ends.enter_context(new_home())
        with home.opened() as gatling:
            for name in names:
                loading.load(gatling, name)
                record(gatling, name)
            with gatling.db.transaction():
                gatling.db.execute("UPDATE releases SET name = ?, config = ?",
                                   NAME.partition("@")[0],
                                   json.dumps({"RELEASE_COOKIE": COOKIE}))  # fmt: skip
                gatling.db.execute(
                    "UPDATE apps SET live_release = 2, live_slot = 1, wanted = 'running'"
                    " WHERE name NOT IN ('shop', 'blog')"
                )
            database, root = gatling.home.database, gatling.home.root
        ends.enter_context(mock.patch.dict(os.environ, home.env))
        monkeypatch.setattr(
            EmbeddedInstances,
            "statuses",
            lambda _, slots: dict.fromkeys(slots, local_status(State.RUNNING, os.getpid(), 60.0)),
        )
        monkeypatch.setattr(EmbeddedInstances, "started_as", lambda *_: 2)
        # the repositories have no such commit, and git would be asked for it each time
        monkeypatch.setattr("gatling.project.history.commit", lambda *_: None)
        monkeypatch.setattr(
            EmbeddedInstances,
            "node_address",
            lambda _, app, __: local(ports.get(app.name, well)),
        )
        asyncio.run(look(Dashboard(database, root, Door(1), lambda _: ALL)))


ALL = Grant("ann", "admin", frozenset({"*"}))


async def look(dashboard: Dashboard) -> None:
    """Load pages until all three are shown for what they are."""
    application, door = dashboard.application(), dashboard.door
    cookie = door.enter(door.path.rpartition("/")[2]).partition(";")[0]
    dashboard.warm_up()
    end, text = time.monotonic() + 60, ""
    took: dict[str, list[float]] = collections.defaultdict(list)
    began = time.monotonic()
    while not (
        text
        and "node does not answer" in card(text, SILENT)
        and all("is not reached" in card(text, name) for name in (MAD, LARGE))
        and text.count("node does not answer") + text.count("is not reached") == 3
    ):
        assert time.monotonic() < end, text
        text, seconds = await page(application, door, cookie, "/")
        took["/"].append(seconds)
        await asyncio.sleep(0.05)
    shown = time.monotonic() - began
    assert text.count('<li class="card app') == 52
    assert "the node does not answer" in card(text, SILENT)
    assert "the node is not reached" in card(text, MAD)
    assert "the node is not reached" in card(text, LARGE)
    assert text.count("node does not answer") + text.count("is not reached") == 3
    assert f"{WELL + 3} of 52 running" in re.sub(r"<[^>]*>", " ", text)
    for path in ("/apps/well7/deployments", f"/apps/{SILENT}/settings"):
        for _ in range(3):
            _, seconds = await page(application, door, cookie, path)
            took[path].append(seconds)
    # a second each, if nothing else used the machine; a node that holds a page up does so each time
    assert shown < 15, (shown, took)
    assert max(min(each) for each in took.values()) < 2, took
