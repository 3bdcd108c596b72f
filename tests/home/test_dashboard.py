"""The dashboard of a home whose app runs: a rollback by one click, and a node that hangs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import new_world, until
from tests.dashboard import chromium
from tests.dashboard.opened import Opened, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project


@pytest.fixture(scope="module")
def shop() -> Iterator[Project]:
    with new_world() as made:
        project = made.load(strategy="auto")
        project.push()
        project.title("<b>second</b>")
        project.push()
        yield project


@pytest.fixture(scope="module")
def here(shop: Project) -> Iterator[Opened]:
    with opened(shop.world.env) as found:
        found.enter()
        yield found


def test_a_release_is_gone_back_to_hot_with_one_click_and_a_confirmation(
    shop: Project, here: Opened
) -> None:
    with chromium.started() as browser:
        page = browser.context(here).new_page()
        page.goto(f"{here.origin}{here.base}/apps/shop")
        assert page.get_by_text("<b>second</b>").first.is_visible()
        page.click("text=Roll back to v1")
        assert "v2 → v1" in page.inner_text("main")
        page.click("button:has-text('Roll back to v1')")
        page.wait_for_url(re.compile(r"/apps/shop/deployments/3$"))
        page.locator("h1 .state.ok").wait_for(timeout=120_000)
        text = page.inner_text("main")
        assert "v2 → v1" in text
        assert "hot" in text
        assert "0 of" in text
        assert page.locator("svg.dots circle").count() > 5
    (last,) = shop.world.json("deployments", "shop")[:1]
    assert (last["release"], last["strategy"], last["outcome"]) == ("v1", "hot", "succeeded")
    assert last["actor"] == shop.world.json("whoami")["name"]


def test_a_node_that_hangs_is_shown_within_a_second_and_holds_up_nothing(
    shop: Project, here: Opened
) -> None:
    until(lambda: "Processes with the most memory" in here.get("/apps/shop").text, "the numbers")
    pid = shop.world.json("status", "shop")["pid"]
    node = next(
        int(path.parent.name) for path in _processes() if b"beam.smp" in _command(path)
        and (path.parent.name == str(pid) or _parent(path) == pid)
    )  # fmt: skip
    os.kill(node, signal.SIGSTOP)
    try:
        until(lambda: "node is being asked" in here.get("/apps/shop").text, "a new question")
        began = time.monotonic()
        shown = re.compile("the node (does not answer|is not reached)")
        until(lambda: shown.search(here.get("/apps/shop").text), "the sign", longest=0.05)
        until(lambda: shown.search(here.get("/").text), "the sign", longest=0.05)
        assert time.monotonic() - began < 3
        began = time.monotonic()
        assert here.get("/apps/shop/deployments").status == 200
        assert time.monotonic() - began < 1
    finally:
        os.kill(node, signal.SIGCONT)
    until(lambda: "Processes with the most memory" in here.get("/apps/shop").text, "the numbers")


def _processes() -> list[Path]:
    return list(Path("/proc").glob("[0-9]*/cmdline"))


def _command(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def _parent(path: Path) -> int:
    return int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
