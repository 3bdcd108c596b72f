"""The running node of an app, as deployments work with it: ask, compare, swap, watch."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from gatling.beam import channel, toolbox
from gatling.beam.comparison import Comparison
from gatling.beam.etf import Atom, Opaque
from gatling.errors import NodeUnreachable
from gatling.releases import untrusted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.deploy.planner import Answers
    from gatling.home import AppPaths
    from gatling.state.apps import App
    from gatling.state.releases import Release

SWAP_SECONDS = 180.0
_MARK = Atom("gatling_toolbox")


@dataclass(frozen=True, slots=True)
class Swapped:
    """What a swap did. Times in milliseconds."""

    processes: int
    migrated: dict[str, int]
    suspended_ms: float
    total_ms: float
    failed: tuple[str, ...]
    """What went wrong after the switch: children that did not start, and their like."""
    watcher: Opaque


class SwapFailed(Exception):
    """A swap that did not take place; `stage` says how far it came.

    `broken` is True when the node is left with new code and old states: it must be replaced.
    """

    def __init__(self, stage: str, what: str) -> None:
        super().__init__(f"{stage}: {what}")
        self.stage, self.what = stage, what

    @property
    def touched(self) -> bool:
        """Whether processes had been suspended or code switched (and were taken back)."""
        return self.stage in ("code_change", "load", "broken", "internal")

    @property
    def broken(self) -> bool:
        """Whether the node must be replaced."""
        return self.stage in ("broken", "internal")


class Control:
    """A connection to the running node, with Gatling's modules loaded there."""

    def __init__(self, node: channel.Node, paths: AppPaths) -> None:
        self._node, self._paths = node, paths

    def chain(self) -> list[tuple[str, float | None]]:
        """The releases that the node went through, with the Unix time in ms of each swap.

        Empty for a node that was never swapped.
        """
        return [
            (text(label), None if since == "undefined" else since)
            for label, since in self._node.call("gatling_agent", "chain")
        ]

    def inspect(self, live: Release, target: Release, answers: Answers | None) -> Comparison:
        """How the releases differ, and what a swap would meet."""
        found = self._node.call(
            "gatling_agent", "inspect", self._request(live, target, answers), timeout=60
        )
        return msgspec.convert(plain(found), Comparison)

    def swap(
        self,
        live: Release,
        target: Release,
        answers: Answers | None,
        *,
        suspend: float,
        insist: bool = False,
    ) -> Swapped:
        """Change the code of the node from one release to another; raises SwapFailed.

        `suspend` is the time in seconds that a process gets to be suspended, and to leave code
        that calls what will be gone; with `insist` the latter is only waited for.
        """
        request = self._request(live, target, answers) | {
            Atom("label"): target.label,
            Atom("from"): live.label,
            Atom("now_ms"): int(time.time() * 1000),
            Atom("suspend_ms"): int(suspend * 1000),
            Atom("insist"): insist,
        }
        result = self._node.call(
            "gatling_agent", "swap", request, timeout=SWAP_SECONDS + 4 * suspend
        )
        if result[0] == "error":
            raise SwapFailed(str(result[1]), said(result[2]))
        report = result[1]
        return Swapped(
            processes=report["processes"],
            migrated={str(module): count for module, count in report["migrated"]},
            suspended_ms=report["suspended_us"] / 1000,
            total_ms=report["total_us"] / 1000,
            failed=tuple(f"{text(what)}: {text(why)}" for what, why in report["failed"]),
            watcher=report["watcher"],
        )

    def clients(self, port: int) -> set[Opaque]:
        """The connections that are open to a port of the node."""
        return set(self._node.call("gatling_agent", "clients", port))

    def watch(self, swapped: Swapped, seconds: float) -> tuple[list[str], list[str]]:
        """What crashed within so many seconds: converted processes with their reasons; and where
        in changed code others did, which had not to be converted.
        """
        crashed, others = self._node.call(
            "gatling_agent", "await_watch", swapped.watcher, int(seconds * 1000),
            timeout=seconds + 30,
        )  # fmt: skip
        return [
            f"{text(process)} ({', '.join(elixir(str(m)) for m in modules)}): {text(reason)}"
            for process, modules, reason in crashed
        ], [text(where) for where in others]

    def restore_crashed(self, swapped: Swapped) -> int:
        """After a swap back: give processes that crashed their states from before; how many."""
        restored: int = self._node.call("gatling_agent", "restore_crashed", swapped.watcher)
        return restored

    def keep(self, swapped: Swapped) -> None:
        """The swap stays: the states from before it are forgotten."""
        self._node.call("gatling_agent", "keep", swapped.watcher)

    def _request(self, live: Release, target: Release, answers: Answers | None) -> dict[Any, Any]:
        old, new = (self._paths.release(r.number) for r in (live, target))
        return {
            Atom("old"): charlist(old),
            Atom("new"): charlist(new),
            Atom("files"): differing(old, new),
            Atom("direction"): Atom("up" if target.number >= live.number else "down"),
            Atom("answers"): Atom("none")
            if answers is None
            else (charlist(answers.old), charlist(answers.new)),
        }


@contextlib.contextmanager
def control(
    paths: AppPaths, app: App, booted: Release, patience: float = channel.PATIENCE_SECONDS
) -> Iterator[Control]:
    """A connection to the app's running node; raises NodeUnreachable.

    `patience` is how many seconds another command's connection is waited for; `booted` is the
    release that the node was started as, which knows its name and cookie.
    """
    if app.live_slot is None:
        raise NodeUnreachable(f"{app.name} has no running node.")
    name = f"{booted.name}@127.0.0.1"
    cookie = booted.config.get("RELEASE_COOKIE", "")
    with channel.connect(app.node_ports[app.live_slot], name, cookie, patience) as node:
        _load(node, toolbox.beams(paths, booted), paths.root if paths.server else paths.home)
        yield Control(node, paths)


def _load(node: channel.Node, beams: Path, base: Path) -> None:
    """Bring Gatling's modules into the node, unless it has this version of them.

    On a server they lie where the app's user can write. To that same user they go, so it matters
    only that they are no links: those might lead to what he cannot read.
    """
    digest = toolbox.digest()
    if node.call("persistent_term", "get", _MARK, Atom("none")) == digest.encode():
        return
    for module in toolbox.MODULES:
        file = beams / f"{module}.beam"
        try:
            binary = untrusted.read(file, base)
        except OSError as error:
            raise NodeUnreachable(f"{file} cannot be read: {error.strerror}.") from None
        node.call("code", "purge", Atom(module))
        node.call("code", "load_binary", Atom(module), charlist(file), binary)
    node.call("persistent_term", "put", _MARK, digest)


def differing(old: Path, new: Path) -> list[str]:
    """Files of the tree `new` that are not the very same (hard-linked) files in `old`."""
    before = dict(_inodes(str(old), ""))
    return [path for path, inode in _inodes(str(new), "") if before.get(path) != inode]


def _inodes(root: str, relative: str) -> Iterator[tuple[str, int]]:
    with os.scandir(f"{root}/{relative}") as entries:
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _inodes(root, path)
            else:
                yield path, entry.inode()


def charlist(path: Path) -> list[int]:
    """A path as Erlang's file functions take it."""
    return [ord(character) for character in str(path)]


def text(term: Any) -> str:
    """A text that came from the node."""
    return term.decode("utf-8", "replace") if isinstance(term, bytes) else str(term)


def elixir(module: str) -> str:
    """A module's name as people write it."""
    return module.removeprefix("Elixir.")


def plain(term: Any) -> Any:
    """A term as plain data: atoms and binaries as text, tuples as lists."""
    match term:
        case bytes():
            return text(term)
        case bool() | int() | float():
            return term
        case str():
            return str(term)
        case tuple() | list():
            return [plain(element) for element in term]
        case dict():
            return {plain(key): plain(value) for key, value in term.items()}
    return None


def said(term: Any) -> str:
    """What a failed swap says of itself, for people."""
    match term:
        case bytes():
            return text(term)
        case str():
            return elixir(term)
        case list() if all(isinstance(n, int) and 31 < n < 0x110000 for n in term):
            return "".join(map(chr, term))
        case tuple() | list():
            return ", ".join(said(element) for element in term)
    return str(term)
