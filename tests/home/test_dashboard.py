"""The dashboard of a home whose app runs: its changes, by role, and a node that hangs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from gatling.dashboard.live import FRESH_SECONDS
from gatling.platform.open import open_gatling
from gatling.state import keys
from tests.conftest import new_world, suspend, until
from tests.dashboard import chromium
from tests.dashboard.opened import Opened, add_keys, by_key, opened
from tests.operations.test_stats import REPORTING, TELEMETRY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from tests.conftest import Project
    from tests.dashboard.chromium import Chromium

JOBS = """\
schedule.tidy.cron=0 3 1 1 *
schedule.tidy.command=eval IO.puts(:tidied)
schedule.slow.cron=0 3 1 1 *
schedule.slow.command=eval Process.sleep(:infinity)
"""


HOSTILE = "<img src=x onerror=document.title='taken'>"
"""A name of a route, and a message."""


@pytest.fixture(scope="module")
def shop() -> Iterator[Project]:
    with new_world() as made:
        project = made.load(strategy="auto")
        project.write("lib/counter/telemetry.ex", TELEMETRY)
        answer = (
            '  defp answer("/count"), do: text(200, Integer.to_string(Counter.Store.count()))\n'
        )
        reporting = REPORTING.replace('route: "/count"', f'route: "/{HOSTILE}"')
        project.replace("lib/counter/router.ex", answer, reporting)
        project.replace("lib/counter/application.ex", "      Counter.Store,\n",
                        "      :telemetry,\n      Counter.Store,\n")  # fmt: skip
        project.commit()
        project.push()
        project.title("<b>second</b>")
        project.push()
        yield project


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium.started() as found:
        yield found


@pytest.fixture(autouse=True)
def pages_are_closed(browser: Chromium) -> Iterator[None]:
    with browser.closing():
        yield


@pytest.fixture(scope="module")
def here(shop: Project) -> Iterator[Opened]:
    with opened(shop.world.env) as found:
        found.enter()
        yield found


def test_a_release_is_gone_back_to_hot_with_one_click_and_a_confirmation(
    shop: Project, here: Opened, browser: Chromium
) -> None:
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


def test_jobs_are_scheduled_run_and_stopped_from_pages_without_javascript(
    shop: Project, here: Opened, browser: Chromium
) -> None:
    page = browser.context(here, java_script_enabled=False).new_page()
    page.goto(f"{here.origin}{here.base}/apps/shop/settings")
    page.get_by_role("link", name="Set settings").click()
    page.get_by_label("Settings").fill(JOBS)
    page.get_by_role("button", name="Store these settings").click()
    page.get_by_role("link", name="Jobs").click()
    page.get_by_role("link", name="Run tidy now").click()
    assert "IO.puts(:tidied)" in page.inner_text("main")
    page.get_by_role("button", name="Run tidy").click()
    page.get_by_role("link", name="Run slow now").click()
    page.get_by_role("button", name="Run slow").click()
    page.get_by_role("link", name="Stop slow").click()
    page.get_by_role("button", name="Stop slow").click()
    until(lambda: _runs(shop) == {"tidy": "succeeded", "slow": "cancelled"}, "the ends of the runs")
    page.reload()
    assert "cancelled" in page.inner_text("main")
    assert {run["actor"] for run in shop.world.json("jobs", "runs", "shop")} == {
        shop.world.json("whoami")["name"]
    }


def _runs(shop: Project) -> dict[str, str]:
    return {run["job"]: run["outcome"] for run in shop.world.json("jobs", "runs", "shop")}


def test_a_variable_is_set_with_a_deployment_from_a_page(
    shop: Project, here: Opened, browser: Chromium
) -> None:
    page = browser.context(here).new_page()
    page.goto(f"{here.origin}{here.base}/apps/shop/settings")
    page.get_by_role("link", name="Set a variable").click()
    page.get_by_label("Name").fill("FROM_THE_PAGE")
    page.get_by_label("Value").fill("a value that is kept")
    page.get_by_role("button", name="Set the variable").click()
    page.wait_for_url(re.compile(r"/apps/shop/deployments/\d+$"))
    page.locator("h1 .state.ok").wait_for(timeout=120_000)
    assert "config set FROM_THE_PAGE" in page.inner_text("main")
    assert "a value that is kept" not in page.content()
    assert shop.world.json("config", "list", "shop")["FROM_THE_PAGE"] == "a value that is kept"
    assert shop.world.json("status", "shop")["release"] == "v3"


def test_the_name_of_a_route_stays_text(shop: Project, here: Opened, browser: Chromium) -> None:
    assert shop.world.get("/count").status == 200
    page = browser.context(here).new_page()
    page.goto(f"{here.origin}{here.base}/apps/shop")
    page.locator("section.node td", has_text=HOSTILE).wait_for()
    assert page.locator("main img").count() == 0
    assert page.title().startswith("shop")


@pytest.fixture(scope="module")
def people(shop: Project) -> Path:
    """Keys of an admin, a deployer of shop, one of another app and a reader; a place for them."""
    with mock.patch.dict(os.environ, shop.world.env), open_gatling() as gatling:
        add_keys(gatling)
        keys.add(gatling.db, "dora", kind="ssh-ed25519", blob="AAAAdora",
                 fingerprint="SHA256:dora", role="deployer", apps=("shop",))  # fmt: skip
    return shop.world.root


@pytest.fixture(scope="module")
def dora(shop: Project, people: Path) -> Iterator[Opened]:
    with by_key(shop.world.env, people, "dora") as found:
        yield found


@pytest.fixture
def page(dora: Opened, browser: Chromium) -> Page:
    """The page of the app in the browser of the deployer."""
    page = browser.context(dora).new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{dora.origin}{dora.base}/apps/shop")
    return page


def test_a_deployer_restarts_stops_and_starts_an_app(shop: Project, page: Page) -> None:
    world = shop.world
    before = world.status()["pid"]
    page.get_by_role("link", name="Restart").click()
    page.get_by_role("button", name="Restart shop").click()
    page.wait_for_url("**/deployments/*")
    page.locator("h1 .state.ok").wait_for()
    assert world.status()["pid"] != before
    page.get_by_role("link", name="shop", exact=True).click()
    page.get_by_role("link", name="Stop").click()
    page.get_by_role("button", name="Stop shop").click()
    page.locator("h1", has_text="stopped").wait_for()
    assert world.get("/").status == 503
    page.get_by_role("button", name="Start").click()
    until(lambda: world.get("/").status == 200, "the app")
    own = [one for one in world.json("audit", "shop") if one["actor"] == "dora"]
    assert {"stop", "start"} <= {one["action"] for one in own}
    assert "restart" in {one["detail"].partition(",")[0] for one in own}


def test_visitors_see_the_maintenance_page_until_a_deployer_ends_it(
    shop: Project, page: Page
) -> None:
    page.get_by_role("link", name="Maintenance").click()
    page.get_by_label("Message for visitors").fill(HOSTILE)
    page.get_by_role("button", name="Show the maintenance page").click()
    page.locator("h1", has_text="maintenance").wait_for()
    answer = shop.world.get("/")
    assert answer.status == 503
    assert "&lt;img" in answer.text
    page.get_by_role("button", name="End maintenance").click()
    page.get_by_role("link", name="Maintenance").wait_for()
    assert shop.world.get("/").status == 200


CHANGES = re.compile(r'class="[^"]*\bbutton\b|<form[^>]*method="?post')
"""A button or a form of a page."""


def changes(text: str) -> list[str]:
    """The buttons and forms in what a page is about."""
    return CHANGES.findall(text[text.index("<main") : text.index("</main>")])


def test_who_may_change_nothing_sees_no_button_and_an_admin_sees_who_tried(
    shop: Project, people: Path
) -> None:
    with by_key(shop.world.env, people, "rita") as rita:
        for path in ("", "/jobs", "/settings"):
            text = rita.get(f"/apps/shop{path}").text
            assert "<h1" in text
            assert not changes(text), path
    with by_key(shop.world.env, people, "bob") as bob:
        assert f"{bob.base}/apps/shop" not in bob.get("/").text
        for path in ("", "/stop", "/jobs", "/rollback"):
            answer = bob.get(f"/apps/shop{path}")
            assert answer.status == 403
            assert not changes(answer.text)
    with by_key(shop.world.env, people, "ann") as ann:
        for path in ("", "/settings"):
            assert changes(ann.get(f"/apps/shop{path}").text), path
        assert f'href="{ann.base}/audit"' in ann.get("/").text
        rows = ann.get("/audit").text.split("<tr")
        assert any("bob" in row and "refused" in row for row in rows), rows


def test_a_node_that_hangs_is_shown_within_a_second_and_holds_up_nothing(
    shop: Project, here: Opened
) -> None:
    until(lambda: "Processes with the most memory" in here.get("/apps/shop").text, "the numbers")
    pid = shop.world.json("status", "shop")["pid"]
    node = next(
        int(path.parent.name) for path in _processes() if b"beam.smp" in _command(path)
        and (path.parent.name == str(pid) or _parent(path) == pid)
    )  # fmt: skip
    suspend(node)
    try:
        # until it is asked again, and for as long as it is waited for, its last numbers are shown
        began = time.monotonic()
        shown = re.compile("the node (does not answer|is not reached)")
        until(lambda: shown.search(here.get("/apps/shop").text), "the sign", longest=0.05)
        until(lambda: shown.search(here.get("/").text), "the sign", longest=0.05)
        # within a second of the question, if nothing else used the machine
        assert time.monotonic() - began < 2 * FRESH_SECONDS + 10
        began = time.monotonic()
        assert here.get("/apps/shop/deployments").status == 200
        assert time.monotonic() - began < 10
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
