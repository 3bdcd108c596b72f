"""What a node answers is decoded into types, whatever it is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings

from gatling.beam.control import Control, NodeBusy, SwapFailed, Swapped
from gatling.beam.etf import Atom, Opaque
from gatling.errors import NodeUnreachable
from tests.beam.test_etf import TERMS

if TYPE_CHECKING:
    from gatling.state.releases import Release

OLD, NEW = (cast("Release", SimpleNamespace(number=n, label=f"v{n}")) for n in (1, 2))
PID = Opaque(b"a pid")
SWAPPED = Swapped(processes=0, suspended_ms=0, failed=(), watcher=PID)
ANNOUNCED = {
    Atom("from"): b"v1",
    Atom("to"): b"v2",
    Atom("phase"): Atom("committed"),
}
REPORT = {
    Atom("processes"): 1,
    Atom("migrated"): [(Atom("Elixir.Shop"), 1)],
    Atom("suspended_us"): 1500,
    Atom("held_us"): 7500,
    Atom("total_us"): 2500,
    Atom("failed"): [],
    Atom("watcher"): PID,
}


class Node:
    """Answers each call with the same term."""

    pid = PID

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def call(self, *_: Any, **__: Any) -> Any:
        return self.answer


def control(answer: Any, tree: Path = Path("/nowhere")) -> Control:
    paths = SimpleNamespace(release=lambda _: tree)
    return Control(cast("Any", Node(answer)), cast("Any", paths))


def calls(answer: Any, tree: Path) -> list[Any]:
    """Each call of the control channel, as a function."""
    node = control(answer, tree)
    return [
        node.chain,
        lambda: node.inspect(OLD, NEW, None),
        lambda: node.swap(OLD, NEW, None, suspend=1),
        lambda: node.clients(80),
        lambda: node.watch(SWAPPED, 1),
        lambda: node.restore_crashed(SWAPPED),
    ]


@settings(max_examples=60)
@given(TERMS)
def test_any_term_is_an_answer_or_the_node_cannot_be_talked_to(term: Any) -> None:
    for call in calls(term, Path(__file__).parent):
        try:
            call()
        except (NodeUnreachable, SwapFailed):
            continue


@pytest.mark.parametrize(
    "term",
    [
        42,
        [],
        {},
        (),
        b"",
        (Atom("ok"),),
        (Atom("ok"), 42),
        (Atom("ok"), [(b"v1",)]),
        (Atom("ok"), [(b"../../etc", 1)]),
        (Atom("ok"), [(b"v0", 1)]),
        (Atom("ok"), [(b"v1\n", 1)]),
        (Atom("ok"), [(b"v99999999999", 1)]),
        (Atom("ok"), REPORT | {Atom("watcher"): 7}),
        (Atom("ok"), REPORT | {Atom("processes"): -1}),
        (Atom("ok"), REPORT | {Atom("processes"): True}),
        (Atom("ok"), {Atom("erts"): Atom("same"), Atom("changed"): [{}]}),
        (Atom("error"), Atom("load"), b"no state"),
        (Atom("error"), Atom("load"), b"", Atom("fine")),
        (Atom("busy"), 1),
        (Atom("busy"), ANNOUNCED | {Atom("phase"): Atom("fine")}),
    ],
)
def test_what_is_no_answer(term: Any, tmp_path: Path) -> None:
    for call in calls(term, tmp_path)[:3]:
        with pytest.raises(NodeUnreachable, match=r"is not valid"):
            call()


def test_what_is_an_answer(tmp_path: Path) -> None:
    assert control((Atom("ok"), [(b"v1", Atom("undefined")), (b"v2", 5)])).chain() == [
        ("v1", None),
        ("v2", 5),
    ]
    swapped = control((Atom("ok"), REPORT), tmp_path).swap(OLD, NEW, None, suspend=1)
    assert (swapped.suspended_ms, swapped.paused_ms, swapped.watcher) == (1.5, 7.5, PID)


@pytest.mark.parametrize(
    ("stage", "state", "touched", "broken"),
    [
        ("suspend", "restored", False, False),
        ("internal", "untouched", False, False),
        ("internal", "restored", True, False),
        ("code_change", "restored", True, False),
        ("calls", "broken", True, True),
    ],
)
def test_how_far_a_swap_came(
    stage: str, state: str, touched: bool, broken: bool, tmp_path: Path
) -> None:
    answer = (Atom("error"), Atom(stage), [b"why"], Atom(state))
    with pytest.raises(SwapFailed) as caught:
        control(answer, tmp_path).swap(OLD, NEW, None, suspend=1)
    assert (caught.value.touched, caught.value.broken) == (touched, broken)


def test_a_node_that_is_being_swapped_says_from_what_to_what(tmp_path: Path) -> None:
    for call in calls((Atom("busy"), ANNOUNCED), tmp_path)[:3]:
        with pytest.raises(NodeBusy, match="being upgraded from v1 to v2") as caught:
            call()
        assert not caught.value.broken
    cut_off = ANNOUNCED | {Atom("phase"): Atom("broken")}
    with pytest.raises(NodeBusy, match="was interrupted") as broken:
        control((Atom("busy"), cut_off)).chain()
    assert broken.value.broken
