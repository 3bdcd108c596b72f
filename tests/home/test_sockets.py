"""Open sockets after a rolling deployment: the push does not wait for them, and they reconnect."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import new_world, until
from tests.home import sockets
from tests.home.sockets import Browsers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import World


@pytest.fixture(scope="module")
def app() -> Iterator[World]:
    """A home in which `sockets` is live."""
    with new_world() as world:
        sockets.load(world).push()
        yield world


@pytest.fixture
def pages(app: World) -> Iterator[Browsers]:
    """Twenty-four open pages."""
    with Browsers(app.port, 24) as browsers:
        until(lambda: browsers.open == 24, "open sockets")
        yield browsers


def one_instance(world: World) -> None:
    """Wait until the drain is over."""
    until(lambda: len(world.beams()) == 1 and not world.watching(), "the end of the drain")


def test_sockets_reconnect_at_a_pace(app: World, pages: Browsers) -> None:
    app.run("settings", "set", "sockets", "instance.drain=1", "instance.drain_rate=8")
    output = app.run("restart", "sockets")
    assert "v1 will reconnect 24 sockets over 3.0 s, and then ends in the background" in output
    assert pages.open > 12, "the push does not wait"
    until(lambda: len(pages.reconnected) == 24, "new sockets")
    one_instance(app)
    moments = [at for at, _ in pages.closed]
    assert all(asked for _, asked in pages.closed), "each one is closed for a restart"
    # that it is two at a time, tests/deploy/cutover/test_previous.py shows: nginx may be late here
    assert moments[-1] - moments[0] > 2, moments
    for at in moments:
        assert sum(at <= each < at + 0.2 for each in moments) < 12, "not all at the same time"
    probe = app.last("sockets")["probe"]
    assert (probe["cut"], probe["reconnected"]) == (0, 24)


def test_a_drain_whose_process_is_killed_goes_on(app: World, pages: Browsers) -> None:
    app.run("settings", "set", "sockets", "instance.drain=1", "instance.drain_rate=4")
    app.run("restart", "sockets")
    until(lambda: len(pages.closed) > 3, "the first that reconnect")
    (pid,) = app.watching()
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in app.watching(), "its end")
    app.run("up")
    until(lambda: len(pages.reconnected) == 24, "new sockets")
    one_instance(app)
    assert all(asked for _, asked in pages.closed)
    assert app.last("sockets")["outcome"] == "succeeded"


def test_a_deployment_while_the_one_before_drains(app: World, pages: Browsers) -> None:
    app.run("settings", "set", "sockets", "instance.drain=600", "instance.drain_rate=0")
    app.run("restart", "sockets")
    first = app.last("sockets")["id"]
    output = app.run("restart", "sockets")
    assert "v1 drains no longer: its slot is needed, which closes 24 connections" in output
    until(lambda: len(pages.reconnected) == 24, "new sockets")
    assert app.json("deployments", "sockets", str(first))["probe"]["cut"] == 24
    app.run("settings", "set", "sockets", "instance.drain=1")
    app.run("restart", "sockets")
    one_instance(app)


def test_a_reboot_while_an_instance_drains(app: World, pages: Browsers) -> None:
    app.run("settings", "set", "sockets", "instance.drain=600", "instance.drain_rate=0")
    app.run("restart", "sockets")
    for pid in [*app.watching(), app.supervisord(), *app.beams()]:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not app.beams(), "the end of all")
    app.run("up")
    until(lambda: pages.open == 24, "new sockets")
    one_instance(app)
    assert app.last("sockets")["outcome"] == "succeeded"
