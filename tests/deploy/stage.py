# ruff: noqa: ARG002 (what stands for another takes more than it notes)
"""A deployment whose surroundings are noted instead of real: what it does, in order, with faults.

The records are real. Each effect is a few words in `done`, and one that is named in `faults` fails.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

from gatling.beam.answers import Pages
from gatling.beam.control import Swapped, Watched
from gatling.beam.etf import Opaque
from gatling.deploy.context import Context
from gatling.deploy.evidence.health import Answer
from gatling.deploy.evidence.prober import Proof
from gatling.deploy.journal import Journal
from gatling.interrupt import Interruption
from gatling.platform.base import Address, State, Status, Surroundings, local_status
from gatling.platform.embedded.certificates import OwnCertificates
from gatling.platform.open import Gatling
from gatling.project import settings
from gatling.state import apps, deployments, releases
from gatling.state.database import open_database
from gatling.state.releases import Release
from gatling.ui.progress import Progress
from tests.places import embedded_home, surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TextIO

    from gatling.platform.base import Instance
    from gatling.platform.logs import Line
    from gatling.platform.restarts import End
    from gatling.state.apps import App

PLAIN = {"instance.drain": "0", "hot.boot_check": "off"}
"""Settings by which nothing waits, and a hot upgrade starts no second instance."""


class Stage:
    """Notes effects, and lets them fail."""

    def __init__(self, root: Path, output: TextIO) -> None:
        self.done: list[str] = []
        self.faults: dict[str, BaseException] = {}
        self.running: dict[int, int] = {1: 7}
        """The release that runs in a slot."""
        self.pointed: int | None = 1
        self.clients = 0
        self.uptime = 3600.0
        self.node: Node | None = None
        self.requests = root / "requests.log"
        """The proxy's log."""
        home = embedded_home(root / "home")
        db = open_database(home.database)
        apps.create(db, "shop", lambda _: True)
        places: Any = Places(home.root)
        instances: Any = Instances(self)
        self.ends: list[End] = []
        """The ends of the live instance that nobody asked for."""
        schedule: Any = Schedule(self)
        nothing: Any = None
        router: Any = Router(self)
        tasks: Any = Tasks(self)
        parts = SimpleNamespace(
            apps=places, instances=instances, schedule=schedule, logs=instances, tasks=tasks,
            router=router, certificates=OwnCertificates(home, db), toolchains=nothing,
            pools=SimpleNamespace(exists=lambda _: False),
        )  # fmt: skip
        self.gatling = Gatling(home, db, parts, "tester")
        self.progress = Progress(output)
        for number in (7, 8):
            self.release(number)
        make_live(db, "shop", release=7, slot=1, config={"A": "7"})

    def release(self, number: int) -> None:
        """Store a release."""
        releases.add(self.gatling.db, release(number))
        programs = self.gatling.home.app("shop").release(number) / "bin"
        programs.mkdir(parents=True)
        (programs / "shop").write_text("#!/bin/sh\n")
        (programs / "shop").chmod(0o755)

    def close(self) -> None:
        self.gatling.db.close()

    def do(self, effect: str) -> None:
        """Note an effect, which may fail."""
        self.done.append(effect)
        if effect in self.faults:
            raise self.faults[effect]

    def live(self) -> tuple[int | None, int | None]:
        """The release and the slot that are recorded as live."""
        app = apps.get(self.gatling.db, "shop")
        return app.live_release, app.live_slot

    def context(self, more: dict[str, str] | None = None, alone: tuple[str, ...] = ()) -> Context:
        """A deployment of release 8 that has just begun."""
        begun = deployments.begin(
            self.gatling.db, "shop", cause="push", actor="tester", mark="m", commit="b" * 40
        )
        journal = Journal(self.gatling.db, begun.id, self.progress)
        journal.at = self.step
        return Context(
            app=apps.get(self.gatling.db, "shop"), deployment=begun, journal=journal, alone=alone,
            settings=settings.parse(PLAIN | (more or {})), interruption=Interruption(),
            progress=self.progress,
        )  # fmt: skip

    def step(self, point: str) -> None:
        """Note that a step begins."""
        when, _, name = point.partition("_")
        if when == "before":
            self.done.append(f"[{name}]")


make_live = apps.make_live


def release(number: int) -> Release:
    """A release of the app shop."""
    return Release(
        app="shop", number=number, origin="build", base=None, commit=f"{number}" * 40, name="shop",
        version="0.1.0", elixir="", otp="", config={"A": str(number)}, bytes=0, created_at="",
        removed_at=None,
    )  # fmt: skip


class Places:
    """Apps of an embedded home."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def surroundings(self, name: str) -> Surroundings:
        return surroundings(self._root, name)

    def guard(self, _: object) -> None:
        pass


class Instances:
    """Keeps what runs in a dictionary."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def start(self, instance: Instance) -> None:
        what = f"v{instance.release} in {instance.slot}"
        self._stage.do(f"boot {what}" if instance.check else f"start {what}")
        self._stage.running[int(instance.slot)] = instance.release

    def prepare(self, instance: Instance) -> None:
        self._stage.do(f"prepare v{instance.release}")

    def stop(self, app: str, slot: int, timeout: float, *, unused: bool = False) -> None:
        self._stage.do(f"stop {slot}")
        self._stage.running.pop(slot, None)

    def begin_to_stop(self, slots: list[tuple[str, int]]) -> None:
        for _, slot in slots:
            self._stage.do(f"begin to stop {slot}")
            self._stage.running.pop(slot, None)

    def status(self, app: str, slot: int) -> Status:
        runs = slot in self._stage.running
        return (
            local_status(State.RUNNING, 1000 + slot, self._stage.uptime)
            if runs
            else Status(State.STOPPED)
        )

    def started_as(self, app: str, slot: int) -> int | None:
        return self._stage.running.get(slot)

    def read(self, app: str, **_: object) -> list[Line]:
        return []

    def ends(self, app: str, slot: int) -> list[End]:
        return self._stage.ends

    def address(self, app: App, slot: int) -> Address:
        return Address("127.0.0.1", app.ports[slot])

    node_address = address

    def ephemeral_ports(self) -> range:
        return range(32768, 61000)

    def check_free(self, app: App, slot: int) -> None:
        pass

    def connections(self, app: App, slot: int) -> Callable[[], int]:
        return lambda: self._stage.clients


class Router:
    """Notes where it is pointed."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def check(self) -> None:
        self._stage.do("check the proxy")

    def configure(self, _: object) -> bool:
        self._stage.do("configure the proxy")
        return True

    def point(self, app: str, slot: int | None) -> None:
        self._stage.do(f"point to {'down' if slot is None else slot}")
        self._stage.pointed = slot

    def pointed(self, app: str) -> int | None:
        return self._stage.pointed

    def request_log(self) -> Path:
        return self._stage.requests

    def in_maintenance(self, app: str) -> bool:
        return False

    def url(self, app: object) -> str:
        return "http://shop.localhost"

    def offers_https(self) -> bool:
        return False

    def need_http3(self, *, applied: bool = False) -> None:
        pass

    def publish(self, *_: object) -> None:
        self._stage.done.append("publish")


class Schedule:
    """Notes what is to run in the background."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def watch(self, app: str) -> None:
        self._stage.do("watch in the background")


class Tasks:
    """Notes what is ended."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def end(self, app: str, mark: str) -> None:
        self._stage.do("end programs")

    def discard(self, paths: object, directory: Path) -> None:
        self._stage.do("discard builds")


class Prober:
    """Notes for how long it asks."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.proof = Proof(requests=9, failed=0, longest_ms=1.0)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        self._stage.do("probe")
        try:
            yield
        finally:
            self._stage.done.append("probed")

    def saw(self, problem: str, *, held_since: float | None = None) -> None:
        if problem:
            self._stage.do(f"saw {problem}")

    def slow_down(self) -> None:
        pass


class Held:
    """A held request that is answered."""

    began = 0.0

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def finish(self) -> str:
        return ""


class Node:
    """A node that swaps as it is told to."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.failed: tuple[str, ...] = ()
        """What fails after the next switch."""
        self.watched = Watched([], [], [])

    def swap(
        self, live: Release, target: Release, _: object, *, suspend: float, insist: bool = False
    ) -> Swapped:
        self._stage.do(f"swap {live.label} → {target.label}{' at any rate' if insist else ''}")
        failed, self.failed = self.failed, ()
        return Swapped(processes=3, suspended_ms=1.5, failed=failed, watcher=Opaque(b""))

    def watch(self, swapped: Swapped, seconds: float) -> Watched:
        self._stage.do("watch")
        return self.watched

    def restore_crashed(self, swapped: Swapped) -> int:
        self._stage.do("restore crashed processes")
        return 0

    def keep(self, swapped: Swapped) -> None:
        self._stage.do("keep")

    def prepare_pages(self, assets: list[str]) -> None:
        self._stage.do("prepare pages")

    def render_pages(self, assets: list[str]) -> Opaque:
        self._stage.do("render pages")
        return Opaque(b"worker")

    def rendered_pages(self, worker: Opaque) -> Pages:
        self._stage.do("pages rendered")
        return Pages(open=2, rendered=1, failed=1, left=0, busy=0, unreached=0, why="undef")

    def listen(self) -> None:
        self._stage.do("listen")

    def deaf(self) -> None:
        self._stage.do("stop listening")

    def clients(self, port: int) -> dict[Opaque, Opaque]:
        return {Opaque(b"client"): Opaque(b"its process")}


def healthy(stage: Stage) -> Callable[..., Answer]:
    """A health check that is noted, and fails where a fault says so."""

    def check(*_: object) -> Answer:
        stage.done.append("ask")
        failed = stage.faults.get("ask")
        return Answer(None, str(failed)) if failed else Answer(200)

    return check
