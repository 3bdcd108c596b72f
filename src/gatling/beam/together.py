"""A swap of several nodes at once: all of them run the new release in the end, or none.

Three times all nodes have to be as far as the others before any of them goes on: prepared,
suspended, switched (`priv/gatling_together.erl`). A node that fails or is not reached stops the
others, which go back. A node that Gatling has lost goes back by itself, unless the last word was on
its way: so what it runs is not known, and the outcome says so.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, field

from gatling.beam import answers
from gatling.beam.answers import typed
from gatling.beam.control import MODERATE, SWAP_SECONDS, NodeBusy, SwapFailed, Swapped, swapped
from gatling.beam.etf import Atom
from gatling.errors import NodeUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from gatling.beam.channel import Node

Point = Literal["prepared", "suspended", "switched"]
STEP_SECONDS = 30.0
"""For a step of a node whose processes stand still, besides the time to suspend them."""


class Outcome(Struct):
    """The result for each node, by its name."""

    done: dict[str, Swapped] = field(default_factory=dict)
    """Those that run the new release."""
    failed: dict[str, str] = field(default_factory=dict)
    """Those that ended it for all, with the reason. They run the old release."""
    unknown: dict[str, str] = field(default_factory=dict)
    """Those that may run either release, or are in neither as a whole."""
    touched: bool = False
    """Whether code or states of a node had been changed, and were taken back."""
    apart_ms: float = 0.0
    """For so long at most some nodes had new code while others had old code.

    From the first word to switch to the last answer that it was done, by Gatling's clock.
    """

    @property
    def all_done(self) -> bool:
        """Whether all nodes run the new release."""
        return not self.failed and not self.unknown


class Member:
    """A node that is swapped together with others.

    All methods raise NodeUnreachable, and SwapFailed or NodeBusy for a swap that has ended.
    """

    def __init__(self, node: Node, request: dict[Any, Any]) -> None:
        self._node, self._request = node, request
        self._suspend = 4 * request[Atom("suspend_ms")] / 1000
        self._swap: object = None

    def begin(self) -> Point:
        """Begin; the point at which the node stands."""
        return self._at(self._ask("start", self._request, timeout=SWAP_SECONDS))

    def proceed(self) -> Point:
        """Go on to the next point; which one that is."""
        return self._at(self._ask("go", self._swap, timeout=STEP_SECONDS + self._suspend))

    def end(self) -> Swapped:
        """Go on from the last point, after which there is no way back within the swap."""
        answer = self._ask("go", self._swap, timeout=SWAP_SECONDS)
        if isinstance(answer, answers.At):
            raise NodeUnreachable(f"The node is still {answer.point}.")
        return swapped(answer.result)

    def back(self) -> None:
        """Go back to the old release; raises SwapFailed if the node is in neither."""
        if self._swap is None:
            return
        try:
            answer = self._ask("abort", self._swap, timeout=STEP_SECONDS)
            if isinstance(answer, answers.At):
                raise NodeUnreachable(f"The node is still {answer.point}.")
            swapped(answer.result)
        except SwapFailed as failed:
            if failed.broken:
                raise
        else:
            raise NodeUnreachable("The node has gone on, although it was to go back.")

    def _at(self, answer: answers.At | answers.Ended) -> Point:
        if isinstance(answer, answers.At):
            self._swap = answer.swap
            return answer.point
        self._swap = None
        swapped(answer.result)
        raise NodeUnreachable("The node has gone on, although others are not ready.")

    def _ask(self, what: str, about: object, *, timeout: float) -> answers.At | answers.Ended:
        answer = self._node.call("gatling_together", what, about, timeout=timeout, limit=MODERATE)
        news: answers.At | answers.Ended | answers.Lost = typed(
            answer, answers.At | answers.Ended | answers.Lost, what
        )
        if isinstance(news, answers.Lost):
            raise NodeUnreachable("The swap was cut off in the node.")
        return news


def swap(members: Mapping[str, Member]) -> Outcome:
    """Swap all nodes, or none. Raises nothing: what went wrong is in the outcome."""
    outcome = Outcome()
    with ThreadPoolExecutor(max(1, len(members))) as pool:

        def of_all(ask: Callable[[Member], Any], members: Mapping[str, Member]) -> dict[str, Any]:
            """The answers of all nodes that give one; the others are in the outcome."""
            jobs = {name: pool.submit(ask, member) for name, member in members.items()}
            found = {}
            for name, job in jobs.items():
                try:
                    found[name] = job.result()
                except SwapFailed as failed:
                    kind = outcome.unknown if failed.broken else outcome.failed
                    kind[name] = str(failed)
                    outcome.touched |= failed.touched
                except NodeBusy as busy:
                    kind = outcome.unknown if busy.broken else outcome.failed
                    kind[name] = busy.what
                except NodeUnreachable as error:
                    outcome.unknown[name] = error.what
            return found

        step: Callable[[Member], Point] = lambda member: member.begin()  # noqa: E731
        points: tuple[Point, ...] = ("prepared", "suspended", "switched")
        for point in points:
            begun = time.monotonic()
            found = of_all(step, members)
            outcome.apart_ms = (time.monotonic() - begun) * 1000 if point == "switched" else 0.0
            for name, stands in found.items():
                if stands != point:
                    outcome.failed[name] = f"it is {stands}, while others are {point}"
            if not outcome.all_done:
                of_all(lambda member: member.back(), {name: members[name] for name in found})
                return outcome
            step = lambda member: member.proceed()  # noqa: E731
        outcome.done = of_all(lambda member: member.end(), members)
    return outcome
