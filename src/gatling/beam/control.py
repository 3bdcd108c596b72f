"""The running node of an app, as deployments work with it: ask, compare, swap, watch."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gatling.beam import answers, channel, toolbox, trees
from gatling.beam.answers import Announced, Busy, Count, Crash, Pages, elixir, said, typed
from gatling.beam.channel import LARGE
from gatling.beam.etf import Atom, Opaque
from gatling.beam.holds import Holds
from gatling.errors import NodeUnreachable
from gatling.releases import safe_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gatling.beam.comparison import Answers, Comparison
    from gatling.paths import AppPaths
    from gatling.platform.base import Address
    from gatling.state.apps import App
    from gatling.state.releases import Release

SWAP_SECONDS = 180.0
ASK_SECONDS = 10.0
"""For what a node answers without work."""
LOAD_SECONDS = 30.0
PAGES_SECONDS = 30.0
"""For the rendering of open pages. Those that remain follow without anybody waiting for them."""
MODERATE = channel.Limit(1 << 20, 50_000)
_MARK = Atom("gatling_toolbox")


class Swapped(Struct, frozen=True):
    """The result of a swap. Times in milliseconds."""

    processes: int
    suspended_ms: float
    failed: tuple[str, ...]
    """Failures after the switch, such as children that did not start."""
    watcher: Opaque
    paused_ms: float = 0
    """How long new requests were held, so that none was in code that calls what is removed."""


class Logged(Struct, frozen=True):
    """An error that the node logged after a swap and not before, and from how many processes."""

    what: str
    number: int
    in_changed: bool
    """Whether code was on its way that the swap changed."""


class Watched(Struct, frozen=True):
    """The failures after a swap."""

    crashed: list[str]
    """Converted processes, with their reasons."""
    others: list[str]
    """Places in changed code where older processes crashed that needed no conversion."""
    logged: list[Logged]
    """Errors of processes that began since, or that caught them and go on."""
    stopped: frozenset[Opaque] = frozenset()
    """Owners of sockets that crashed or were stopped, and did not end by themselves."""


class SwapFailed(Exception):
    """A swap that did not take place; `stage` says how far it came."""

    def __init__(self, stage: str, what: str, state: str) -> None:
        super().__init__(f"{stage}: {what}")
        self.stage, self.what, self._state = stage, what, state

    @property
    def touched(self) -> bool:
        """Whether code or states had been changed, and were taken back if it is not broken.

        Before that, processes were suspended at most.
        """
        return self.broken or (
            self._state == "restored" and self.stage in ("code_change", "load", "internal")
        )

    @property
    def broken(self) -> bool:
        """Whether the node is in neither release as a whole: it must be replaced."""
        return self._state == "broken"


class NodeBusy(NodeUnreachable):
    """A swap is under way in the node, or was cut off there: `announced` says which."""

    def __init__(self, announced: Announced) -> None:
        self.announced = announced
        change = f"from {announced.from_label} to {announced.to}"
        if self.broken:
            what = f"An upgrade of the node {change} was interrupted."
        elif announced.phase == "unknown":
            what = "A process of the app has a name that Gatling uses."
        else:
            what = f"The node is being upgraded {change}."
        super().__init__(what)

    @property
    def broken(self) -> bool:
        """Whether waiting is in vain."""
        return self.announced.phase in ("broken", "unknown")


class Control:
    """A connection to the running node, with Gatling's modules loaded there.

    All methods raise NodeUnreachable, also when the answer is not one that Gatling's code gives;
    and NodeBusy while a swap of another command is under way.
    """

    def __init__(
        self, node: channel.Node, paths: AppPaths, trees: Callable[[int], Path] | None = None
    ) -> None:
        self.node, self._paths = node, paths
        self._there = trees or paths.release
        """The tree of a release, where the node has it."""
        self._differing: dict[tuple[int, int], list[str]] = {}
        """The files that differ between two releases: of trees that do not change."""

    def chain(self) -> list[tuple[str, int | None]]:
        """The releases that the node went through, with the Unix time in ms of each swap.

        Empty for a node that was never swapped.
        """
        answer = self.node.call("gatling_agent", "chain", timeout=ASK_SECONDS)
        found: answers.Chain = unless_busy(typed(answer, answers.Chain | Busy, "chain"))
        return [
            (label, since if isinstance(since, int) else None) for label, since in found.releases
        ]

    def inspect(self, live: Release, target: Release, answered: Answers | None) -> Comparison:
        """How the releases differ, and what a swap would meet."""
        request = self._request(live, target, answered)
        answer = self.node.call("gatling_agent", "inspect", request, timeout=60, limit=LARGE)
        found: answers.Inspected = unless_busy(typed(answer, answers.Inspected | Busy, "inspect"))
        return found.comparison

    def holds(self, endings: Sequence[str]) -> Holds:
        """Return the node's open resources that no second node may open.

        Files that are opened in no known way count if they have one of these endings.
        """
        answer = self.node.call(
            "gatling_holds", "all", list(endings), timeout=ASK_SECONDS, limit=MODERATE
        )
        held: Holds = typed(answer, Holds, "holds")
        return held

    def swap(
        self,
        live: Release,
        target: Release,
        answered: Answers | None,
        *,
        suspend: float,
        insist: bool = False,
    ) -> Swapped:
        """Change the code of the node from one release to another; raises SwapFailed.

        `suspend` is the time in seconds that a process gets to be suspended, and to leave code
        that calls what will be gone; with `insist` the latter is only waited for.
        """
        request = self.swap_request(live, target, answered, suspend=suspend, insist=insist)
        answer = self.node.call(
            "gatling_swap", "swap", request, timeout=SWAP_SECONDS + 4 * suspend, limit=MODERATE
        )
        return swapped(typed(answer, answers.Done | answers.Failed | Busy, "swap"))

    def swap_request(
        self,
        live: Release,
        target: Release,
        answered: Answers | None,
        *,
        suspend: float,
        insist: bool = False,
    ) -> dict[Any, Any]:
        """The request of a swap, as gatling_swap has it."""
        return self._request(live, target, answered) | {
            Atom("label"): target.label,
            Atom("from"): live.label,
            Atom("now_ms"): int(time.time() * 1000),
            Atom("asker"): self.node.pid,
            Atom("suspend_ms"): int(suspend * 1000),
            Atom("insist"): insist,
        }

    def clients(self, port: int) -> dict[Opaque, Opaque]:
        """The connections that are open to a port of the node, and the process of each."""
        answer = self.node.call("gatling_agent", "clients", port, limit=LARGE)
        found: list[tuple[Opaque, Opaque]] = typed(answer, list[tuple[Opaque, Opaque]], "clients")
        return dict(found)

    def listen(self) -> None:
        """Note what the node logs as errors, until `deaf`: as a measure for `watch`."""
        self.node.call("gatling_errors", "listen")

    def deaf(self) -> None:
        """Note errors no more."""
        self.node.call("gatling_errors", "deaf")

    def watch(self, swapped: Swapped, seconds: float) -> Watched:
        """Watch the node for so many seconds; return its failures."""
        answer = self.node.call(
            "gatling_agent", "await_watch", swapped.watcher, int(seconds * 1000),
            timeout=seconds + 30, limit=LARGE,
        )  # fmt: skip
        crashed: list[Crash]
        others: list[str]
        logged: list[tuple[str, Count, bool]]
        stopped: list[Opaque]
        crashed, others, logged, stopped = typed(
            answer,
            tuple[list[Crash], list[str], list[tuple[str, Count, bool]], list[Opaque]],
            "await_watch",
        )
        return Watched(
            crashed=[
                f"{process} ({', '.join(elixir(m) for m in modules)}): {reason}"
                for process, modules, reason in crashed
            ],
            others=others,
            logged=[Logged(what, number, inside) for what, number, inside in logged],
            stopped=frozenset(stopped),
        )

    def restore_crashed(self, swapped: Swapped) -> int:
        """After a swap back: give processes that crashed their states from before; how many."""
        answer = self.node.call("gatling_agent", "restore_crashed", swapped.watcher)
        restored: int = typed(answer, Count, "restore_crashed")
        return restored

    def keep(self, swapped: Swapped) -> None:
        """The swap stays: the states from before it are forgotten."""
        self.node.call("gatling_agent", "keep", swapped.watcher)

    def prepare_pages(self, assets: Sequence[str]) -> None:
        """Let `static_changed?/1` work in new templates of the open LiveViews, before they render.

        `assets` as in `render_pages`.
        """
        self.node.call("gatling_pages", "prepare", [asset.encode() for asset in assets])

    def render_pages(self, assets: Sequence[str]) -> Opaque:
        """Let the open LiveViews render with the code that runs now; what `rendered_pages` takes.

        `assets` are the fingerprinted scripts and style sheets of the release before.
        """
        answer = self.node.call("gatling_pages", "start", [asset.encode() for asset in assets])
        worker: Opaque = typed(answer, Opaque, "start")
        return worker

    def rendered_pages(self, worker: Opaque) -> Pages:
        """Wait for the open LiveViews that `render_pages` lets render, for a time at most."""
        answer = self.node.call(
            "gatling_pages", "await", worker, int(PAGES_SECONDS * 1000),
            timeout=PAGES_SECONDS + ASK_SECONDS,
        )  # fmt: skip
        rendered: Pages = typed(answer, Pages, "await")
        return rendered

    def _request(self, live: Release, target: Release, answered: Answers | None) -> dict[Any, Any]:
        pair = (live.number, target.number)
        if pair not in self._differing:
            self._differing[pair] = trees.differing(*map(self._paths.release, pair))
        return {
            Atom("old"): charlist(self._there(live.number)),
            Atom("new"): charlist(self._there(target.number)),
            Atom("files"): self._differing[pair],
            Atom("direction"): Atom("up" if target.number >= live.number else "down"),
            Atom("answers"): Atom("none")
            if answered is None
            else (charlist(answered.old), charlist(answered.new)),
        }


def swapped(answer: answers.Done | answers.Failed | Busy) -> Swapped:
    """The result of a swap, by the node's answer; raises SwapFailed and NodeBusy."""
    result: answers.Done | answers.Failed = unless_busy(answer)
    if isinstance(result, answers.Failed):
        raise SwapFailed(result.stage, said(result.what), result.state)
    report = result.report
    return Swapped(
        processes=report.processes,
        suspended_ms=report.suspended_us / 1000,
        failed=tuple(f"{what}: {why}" for what, why in report.failed),
        watcher=report.watcher,
        paused_ms=report.held_us / 1000,
    )


def unless_busy(answer: Any) -> Any:
    """The answer; raises NodeBusy when it is that a swap is under way."""
    if isinstance(answer, Busy):
        raise NodeBusy(answer.swap)
    return answer


@contextlib.contextmanager
def control(
    paths: AppPaths,
    app: App,
    booted: Release,
    address: Address,
    patience: float = channel.PATIENCE_SECONDS,
) -> Iterator[Control]:
    """A connection to the app's running node at an address, into which our modules are loaded.

    `patience` is how many seconds another command's connection is waited for; `booted` is the
    release that the node was started as, which knows its name and cookie. Raises NodeUnreachable.
    """
    with connection(paths, app, booted, address, patience) as node:
        load_all(node, toolbox.beams(paths, booted), paths.cache_anchor)
        yield Control(node, paths)


def seen_chain(
    paths: AppPaths, app: App, booted: Release, address: Address, patience: float
) -> list[str]:
    """The releases that the node went through, if it says so with nothing loaded into it.

    Empty for one that was never swapped: then Gatling's modules may not be there. Raises
    NodeUnreachable.
    """
    with connection(paths, app, booted, address, patience) as node:
        there = node.call(
            "erlang", "function_exported", Atom("gatling_agent"), Atom("chain"), 0,
            timeout=ASK_SECONDS,
        )  # fmt: skip
        return [label for label, _ in Control(node, paths).chain()] if there is True else []


@contextlib.contextmanager
def connection(
    paths: AppPaths,
    app: App,
    booted: Release,
    address: Address,
    patience: float,
    within: float = channel.CONNECT_SECONDS,
) -> Iterator[channel.Node]:
    """A connection to the app's running node, with nothing loaded; raises NodeUnreachable.

    It has to come about `within` so many seconds, once no other command is connected.
    """
    name = f"{booted.name}@{address.host}"
    cookie = booted.config.get("RELEASE_COOKIE", "")
    gate = paths.root / f"node-{app.live_slot}.lock"
    with channel.connect(address, name, cookie, patience, gate, within) as node:
        yield node


def load_all(node: channel.Node, beams: Path, base: Path) -> None:
    """Bring the modules of deployments into the node, unless it has this version of them."""
    digest = toolbox.digest()
    if has_version(node, _MARK, digest, ASK_SECONDS):
        return
    # a swap of another version of these modules would lose its code
    if isinstance(node.call("erlang", "whereis", Atom("gatling_swap")), Opaque):
        raise NodeBusy(Announced("?", "?", "unknown"))
    load(node, toolbox.MODULES, beams, base)
    node.call("persistent_term", "put", _MARK, digest)


def has_version(node: channel.Node, mark: Atom, digest: str, timeout: float) -> bool:
    """Whether a node has modules of that digest, by the mark that their load has left there."""
    answer = node.call("persistent_term", "get", mark, Atom("none"), timeout=timeout)
    return bool(answer == digest.encode())


def load(
    node: channel.Node,
    modules: Sequence[str],
    beams: Path,
    base: Path,
    timeout: float = LOAD_SECONDS,
) -> None:
    """Load Gatling's modules into the node; each of two steps of a module may take `timeout`.

    On a server they lie where the app's user can write. The node belongs to the same user, so it
    matters only that they are not links to files that the user cannot read.
    """
    for module in modules:
        file = beams / f"{module}.beam"
        try:
            binary = safe_copy.read(file, base)
        except OSError as error:
            raise NodeUnreachable(f"{file} cannot be read: {error.strerror}.") from None
        node.call("code", "purge", Atom(module), timeout=timeout)
        loaded = (Atom(module), charlist(file), binary)
        node.call("code", "load_binary", *loaded, timeout=timeout)


def charlist(path: Path) -> list[int]:
    """A path as Erlang's file functions take it."""
    return [ord(character) for character in str(path)]
