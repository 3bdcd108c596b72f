"""The running node: who may be asked, what it ran, and what is said where it cannot be reached."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

import pytest

from gatling.beam import compiler
from gatling.deploy import live_node
from gatling.errors import NodeUnreachable
from gatling.runtime import spec
from gatling.state import apps
from tests.deploy.stage import Node, release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.beam.control import Control
    from tests.deploy.stage import Stage


@pytest.fixture
def opened(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The errors with which the next connections fail; which are noted."""
    errors: list[object] = []

    @contextlib.contextmanager
    def control(_: object, __: object, booted: object, *___: object) -> Iterator[Node]:
        stage.do(f"connect to {getattr(booted, 'label', '')}")
        if errors:
            raise cast("Exception", errors.pop())
        yield Node(stage)
        stage.do("disconnect")

    monkeypatch.setattr(compiler, "ensure", lambda *_: stage.do("compile"))
    monkeypatch.setattr(live_node, "control", control)
    return errors


def connect(stage: Stage) -> None:
    with live_node.connected(stage.gatling, apps.get(stage.gatling.db, "shop")):
        stage.do("work")


@pytest.mark.usefixtures("opened")
def test_it_is_reached_as_the_release_that_it_booted_as(stage: Stage) -> None:
    stage.running = {1: 8}  # not what is recorded as live
    connect(stage)
    assert stage.done == ["compile", "connect to v8", "work", "disconnect"]


@pytest.mark.usefixtures("opened")
def test_an_app_that_does_not_run_is_not_asked(stage: Stage) -> None:
    stage.running = {}
    with pytest.raises(NodeUnreachable, match="shop is not running"):
        connect(stage)
    with pytest.raises(NodeUnreachable, match="shop is not running"):
        live_node.seen(stage.gatling, apps.get(stage.gatling.db, "shop"), 1)
    assert stage.done == []


@pytest.mark.parametrize(
    ("faults", "told"), [([], "no answer"), (["vm.args sets -name"], "vm.args sets -name")]
)
def test_flags_of_the_project_explain_why_it_cannot_be_reached(
    stage: Stage,
    opened: list[object],
    monkeypatch: pytest.MonkeyPatch,
    faults: list[str],
    told: str,
) -> None:
    monkeypatch.setattr(spec, "flag_faults", lambda *_: faults)
    opened.append(NodeUnreachable("no answer"))
    with pytest.raises(NodeUnreachable, match=told):
        connect(stage)


@pytest.mark.parametrize(
    ("chain", "seen"), [([], ["v7"]), (["v7", "v8"], ["v7", "v8"]), (["v7", "v9"], None)]
)
def test_a_release_that_nobody_knows_is_not_believed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, chain: list[str], seen: list[str] | None
) -> None:
    monkeypatch.setattr(live_node, "seen_chain", lambda *_: chain)
    app = apps.get(stage.gatling.db, "shop")
    if seen is None:
        with pytest.raises(NodeUnreachable, match="a release that does not exist"):
            live_node.seen(stage.gatling, app, 1)
    else:
        assert live_node.seen(stage.gatling, app, 1) == seen


@pytest.mark.parametrize(
    ("chain", "number"),
    [([], 7), ([("v7", None), ("v8", 3)], 8), ([("v7", None), ("something else", 1)], 7)],
)
def test_what_runs_is_the_end_of_the_chain(
    stage: Stage, chain: list[tuple[str, int | None]], number: int
) -> None:
    node = Node(stage)
    node.chain = lambda: chain  # type: ignore[attr-defined]
    assert live_node.running(cast("Control", node), booted=7) == number


def test_a_node_that_is_lost_need_not_be_told_to_stop_listening(stage: Stage) -> None:
    node = Node(stage)
    stage.faults["stop listening"] = NodeUnreachable("lost")
    with live_node.listening(cast("Control", node)):
        stage.do("work")
    assert stage.done == ["listen", "work", "stop listening"]


def test_its_next_start_is_that_of_a_release(stage: Stage) -> None:
    live_node.prepare(stage.gatling, apps.get(stage.gatling.db, "shop"), release(8))
    assert stage.done == ["prepare v8"]
