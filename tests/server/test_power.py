"""A power cut at any moment of a deployment: after the boot the old or the new release is live."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until
from tests.push.test_push import STEPS
from tests.scale import scaled
from tests.server.whole import (
    check_whole,
    newest_log,
    recovered,
    seeded,
    shown,
    steps_in,
    was_undone,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.server.server import Checkout, Person, Server
    from tests.server.whole import Seen

pytestmark = pytest.mark.timeout(3000)

HOT_STEPS = ["plan", "hot_swap", "watch", "boot_check"]
AT_STEPS = scaled(1, 10)
"""Number of steps of a strategy, chosen at random in each run, at which the power is cut.

Gatling alone is killed at every step in tests/push/test_recovery.py.
"""
CUTS = scaled(2, 30)
TRIES = 2
"""How often a step that is over in a moment is tried to be hit."""

LENGTHS: dict[str, float] = {}
"""Seconds that the last undisturbed push of each strategy took."""

numbers = itertools.count(1)
"""For titles, each of which is there once."""


@pytest.fixture(scope="module")
def other(ann: Person) -> Checkout:
    """An app that nobody touches."""
    project = ann.project("other")
    project.title("untouched")
    project.push()
    return project


@pytest.fixture(scope="module")
def shop(ann: Person, other: Checkout) -> Checkout:
    project = ann.project("shop")
    project.push()
    return project


def change(project: Checkout, strategy: str) -> str:
    """A new edition, which asks for a strategy; its commit."""
    project.write("gatling.toml", f'[deploy]\nstrategy = "{strategy}"\n')
    return project.title(f"edition {next(numbers)} {strategy}")


def end(push: subprocess.Popen[str]) -> None:
    """End a push whose server is gone, however far it has come."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(push.pid, signal.SIGKILL)
    push.communicate(timeout=60)


def cut(
    server: Server,
    project: Checkout,
    new: str,
    moment: Callable[[subprocess.Popen[str]], int | None],
) -> Seen:
    """Push, cut the power at a moment, boot; what there is then is whole.

    `moment` waits for it, and tells the push's exit status if there is one by then.
    """
    old = server.status(project.app)["commit"]
    push = project.start_push()
    try:
        status = moment(push)
        server.box.crash()
    finally:
        end(push)
    server.box.start(None)
    until(lambda: shown(server, project.app), "the app after the boot", 300)
    recovered(server)
    server.box.wait_ready()
    seen = check_whole(server, project, old=old, new=new)
    assert status in (None, 0), "it had failed before the power cut"
    if (status == 0 or seen.branch == new) and not was_undone(seen):
        assert seen.status["commit"] == new, "it had been said to be live"
    until(lambda: shown(server, "other") == "untouched", "the other app", 300)
    return seen


def cut_at(server: Server, shop: Checkout, strategy: str, step: str) -> list[str]:
    """Cut the power at a step, or soon after; the steps that had begun."""
    before, pid1, line = newest_log(server)[0], server.box.pid1(), f"   --> {step}\n"
    assert pid1 is not None

    def there(push: subprocess.Popen[str]) -> int | None:
        def going_on() -> bool:
            return push.poll() is None

        until(lambda: newest_log(server)[0] > before or not going_on(), "its log", 120)
        log = newest_log(server)[1]
        deadline = time.monotonic() + 120
        while log and going_on() and line not in log.read_text(errors="replace"):
            assert time.monotonic() < deadline, f"no {step}"
            time.sleep(0.002)
        status = push.poll()
        os.kill(pid1, signal.SIGKILL)  # at once: some steps take a millisecond
        return status

    cut(server, shop, change(shop, strategy), there)
    return steps_in(server, before)


@pytest.mark.parametrize(
    ("strategy", "steps"), [("rolling", STEPS), ("auto", HOT_STEPS)], ids=["rolling", "hot"]
)
def test_at_steps(server: Server, shop: Checkout, strategy: str, steps: list[str]) -> None:
    hit: list[str] = []
    for number, step in enumerate(seeded("steps").sample(steps, len(steps)), start=1):
        if number > AT_STEPS and hit:  # all of a few may be over too soon
            break
        for _ in range(TRIES):
            if cut_at(server, shop, strategy, step)[-1:] == [step]:
                hit.append(step)
                break
    print(f"hit: {hit}")
    assert hit
    works(server, shop, strategy)


def test_while_a_tree_is_taken_over(server: Server, shop: Checkout) -> None:
    """What was built is copied by another user than the one who has built it."""
    releases = server.box.root / "var/lib/gatling/apps/shop/releases"
    for _ in range(scaled(1, 2)):

        def taken(push: subprocess.Popen[str]) -> int | None:
            while not (releases / "incoming").exists() and push.poll() is None:
                time.sleep(0.002)
            return push.poll()

        cut(server, shop, change(shop, "rolling"), taken)
    works_once_more(server, shop)


def works_once_more(server: Server, project: Checkout) -> None:
    """What was pushed last is live when it is pushed once more."""
    commit = project.git("rev-parse", "HEAD")
    project.push()
    check_whole(server, project, old=commit, new=None)


def works(server: Server, project: Checkout, strategy: str = "auto") -> None:
    """What is pushed next is live."""
    new = change(project, strategy)
    begun = time.monotonic()
    text = project.push()
    LENGTHS[strategy] = time.monotonic() - begun
    assert re.search(r"=====> shop v\d+ is live \([\w ]+\) in ", text), text
    check_whole(server, project, old=new, new=None)


def test_at_random_moments_under_load(server: Server, shop: Checkout) -> None:
    random = seeded("moments")
    strategies = "auto", "rolling"
    for strategy in strategies:
        if strategy not in LENGTHS:  # if this test runs alone
            works(server, shop, strategy)
    moments = []
    live: dict[str, int] = {"old": 0, "new": 0}
    with server.client() as client:
        for number in range(CUTS):
            strategy = strategies[number % 2]
            moments.append(random.uniform(0, LENGTHS[strategy]))

            def moment(push: subprocess.Popen[str]) -> int | None:
                time.sleep(moments[-1])
                return push.poll()

            new = change(shop, strategy)
            seen = cut(server, shop, new, moment)
            live["new" if seen.status["commit"] == new else "old"] += 1
            if number % 15 == 14 or number == CUTS - 1:
                works_once_more(server, shop)
                works(server, shop)
    assert all(re.search("<h1>edition ", text) for text in client.texts)
    print(f"{live}; {[round(moment, 2) for moment in moments]} of {LENGTHS}")


def test_while_an_app_is_made_and_removed(server: Server, ann: Person, shop: Checkout) -> None:
    random = seeded("moments")
    for number in range(scaled(1, 3)):
        project = ann.project(f"new{number}")
        title = f"edition {next(numbers)}"
        project.title(title)
        push = project.start_push()
        try:
            time.sleep(random.uniform(0.2, 2.5))
            server.box.crash()
        finally:
            end(push)
        boot(server)
        project.push()
        assert shown(server, project.app) == title
        check_whole(server, project, old=project.git("rev-parse", "HEAD"), new=None)
        words = ["unload", project.app, "--confirm", project.app]
        admin = server.admin(f"root{number}")
        removal = server.box.start_ssh("gatling", words, key=admin.key)
        try:
            time.sleep(random.uniform(0.2, 2.5))
            server.box.crash()
        finally:
            end(removal)
        boot(server)
        if project.app in [app["app"] for app in server.json("apps")]:
            server.gatling(*words)
        project.push()
        assert shown(server, project.app) == title
        server.gatling(*words)


def boot(server: Server) -> None:
    """Boot after a power cut, until whoever is there can push."""
    server.box.start(None)
    until(lambda: shown(server), "the app that was there before", 300)
    recovered(server)
    server.box.wait_ready()
