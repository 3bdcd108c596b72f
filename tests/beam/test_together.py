"""Several real nodes that are swapped together: all of them run the new release, or none."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import pytest

from gatling.beam import together
from gatling.beam.etf import Atom
from tests.beam.test_swap import AFTER, BEFORE, Demo, built, started
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.beam.test_swap import Built

__all__ = ["built"]  # a fixture


@pytest.fixture
def nodes(built: Built) -> Iterator[list[Demo]]:
    with contextlib.ExitStack() as running:
        yield [running.enter_context(started(built)) for _ in range(3)]


@contextlib.contextmanager
def members(nodes: list[Demo], live: int = 1, target: int = 2) -> Iterator[dict[str, Any]]:
    with contextlib.ExitStack() as connected:
        found = {}
        for number, demo in enumerate(nodes):
            node = connected.enter_context(demo.connect())
            found[f"n{number}"] = together.Member(node, demo.request(node.pid, live, target))
        yield found


def ended(demo: Demo) -> bool:
    return bool(demo.chain() == ("ok", []))


def states(nodes: list[Demo]) -> list[Any]:
    return [demo.state() for demo in nodes]


def test_all_go_there_and_back(nodes: list[Demo]) -> None:
    with members(nodes) as found:
        outcome = together.swap(found)
    assert outcome.all_done
    assert sorted(outcome.done) == ["n0", "n1", "n2"]
    assert all(one.processes == 1 and not one.failed for one in outcome.done.values())
    assert 0 < outcome.apart_ms < 2000
    assert states(nodes) == [AFTER] * 3
    with members(nodes, 2, 1) as found:
        assert together.swap(found).all_done
    assert states(nodes) == [BEFORE] * 3


@pytest.mark.parametrize(
    "point", ["prepare", "late", "stash", "last_look", "finish", "code_change"]
)
def test_one_that_fails_at_any_point_takes_all_back(nodes: list[Demo], point: str) -> None:
    nodes[1].fault(point, Atom("error"))
    with members(nodes) as found:
        outcome = together.swap(found)
    assert list(outcome.failed) == ["n1"]
    assert "went_wrong" in outcome.failed["n1"]
    assert not outcome.done
    assert not outcome.unknown
    assert states(nodes) == [BEFORE] * 3
    assert [demo.chain() for demo in nodes] == [("ok", [])] * 3
    nodes[1].fault(point, Atom("none"))
    with members(nodes) as found:
        assert together.swap(found).all_done


def test_one_that_is_lost_takes_the_others_back(nodes: list[Demo]) -> None:
    """It dies just before it would switch."""
    nodes[1].fault("finish", 60_000)
    with members(nodes) as found:
        found["n1"].proceed = dying(nodes[1], found["n1"].proceed)
        outcome = together.swap(found)
    assert list(outcome.unknown) == ["n1"]
    assert not outcome.done
    assert states([nodes[0], nodes[2]]) == [BEFORE] * 2


def dying(demo: Demo, proceed: Any) -> Any:
    def step() -> Any:
        demo.process.kill()
        return proceed()

    return step


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_when_gatling_is_killed_all_go_back_by_themselves(nodes: list[Demo], steps: int) -> None:
    with members(nodes) as found:
        for step in range(steps):
            for one in found.values():
                one.begin() if step == 0 else one.proceed()
    for demo in nodes:
        until(functools.partial(ended, demo), "the end of the swap")
    assert states(nodes) == [BEFORE] * 3


def test_what_waits_too_long_goes_back(nodes: list[Demo]) -> None:
    with members(nodes[:1]) as found:
        one = found["n0"]
        assert [one.begin(), one.proceed()] == ["prepared", "suspended"]
        with nodes[1].connect() as other:
            assert other.call("gatling_guard", "current") == "none"
        until(lambda: one._node.call("gatling_guard", "current") == "none", "the way back")
    assert states(nodes) == [BEFORE] * 3
