"""The pages in Chromium: what people see and do, and what other pages try."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
from typing import TYPE_CHECKING

import pytest

from gatling.state import deployments
from tests.conftest import until
from tests.dashboard.chromium import ELSEWHERE, axe
from tests.dashboard.opened import add_history, opened, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import ConsoleMessage, Error, Page

    from tests.api.served import Served
    from tests.dashboard.chromium import Chromium
    from tests.dashboard.opened import Opened

PAGES = [
    "/", "/apps/shop", "/apps/shop/deployments", "/apps/shop/deployments/1", "/apps/shop/logs",
    "/apps/shop/jobs", "/apps/shop/settings", "/apps/shop/audit", "/certificates", "/databases",
    "/audit", "/apps/shop/stop", "/apps/shop/settings/set?key=health.path", "/apps/shop/config/set",
    "/nope",
]  # fmt: skip


@pytest.fixture(scope="module")
def history(home: Served) -> int:
    """Numbers and a deployment of shop; its number."""
    with home.opened() as gatling:
        add_history(gatling, "push")
        return deployments.of_app(gatling.db, "shop", limit=1)[0].id


@pytest.fixture(scope="module")
def page(here: Opened, browser: Chromium) -> Page:
    """A page for the tests that look at some of the dashboard's, one after another."""
    return browser.context(here).new_page()


@pytest.fixture(autouse=True)
def others_are_closed(browser: Chromium) -> Iterator[None]:
    with browser.closing():
        yield


ATTACK = """\
<!doctype html><title>evil</title>
<img src="{page}/"><script src="{page}/apps/shop"></script><iframe src="{page}/"></iframe>
<form id="f" method="post" action="{page}/apps/shop/stop" target="_blank">
<input name="token" value="{token}"></form>
<script>
const tries = [
  fetch("{page}/", {{credentials: "include"}}).then((r) => r.text()),
  fetch("{page}/apps/shop/stop", {{method: "POST", mode: "no-cors", credentials: "include",
    headers: {{"Content-Type": "application/x-www-form-urlencoded"}}, body: "token={token}"}})
    .then((r) => r.text()),
  new Promise((ok, no) => {{ const s = new EventSource("{page}/apps/shop/logs/stream",
    {{withCredentials: true}}); s.onopen = () => ok("stream"); s.onerror = no; }}),
];
document.getElementById("f").submit();
Promise.allSettled(tries).then((all) => {{
  window.read = all.map((one) => one.status === "fulfilled" ? one.value : "");
}});
</script>
"""


def test_the_link_opens_the_apps_and_works_once(home: Served, browser: Chromium) -> None:
    with opened(home.env) as found:
        context = browser.context()
        page = context.new_page()
        page.goto(found.link)
        page.wait_for_url(f"{found.origin}{found.base}/")
        assert page.get_by_role("link", name="shop").is_visible()
        assert page.evaluate("document.cookie") == ""
        (cookie,) = context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        other = browser.context().new_page()
        answer = other.goto(found.link)
        assert answer is not None
        assert answer.status == 403
        assert "only once" in other.inner_text("h1")


def noted(page: Page) -> list[str]:
    """The errors of a page, as they come."""
    errors: list[str] = []

    def failed(error: Error) -> None:
        errors.append(str(error))

    def printed(line: ConsoleMessage) -> None:
        if line.type == "error":
            errors.append(line.text)

    page.on("pageerror", failed)
    page.on("console", printed)
    return errors


VIOLATIONS = "axe.run(%s).then((r) => r.violations.map((v) => [v.id, v.nodes.map((n) => n.html)]))"
ALL = "{resultTypes: ['violations']}"
CONTRAST = "{runOnly: ['color-contrast'], resultTypes: ['violations']}"
"""What is another in the dark."""


BESIDE = """() => [...document.querySelectorAll("main a, main button, main td")]
  .map((one) => [one, one.getBoundingClientRect()])
  .filter(([_, at]) => at.width && (at.left < 0 || at.right > innerWidth))
  .map(([one]) => one.outerHTML)"""


FITS = "document.documentElement.scrollWidth <= innerWidth"


def test_pages_are_accessible_fit_a_phone_and_log_no_error(
    history: int, here: Opened, browser: Chromium
) -> None:
    """Nothing on a phone is beside the screen.

    A table that can be scrolled looks whole, and its last columns are those of changes.
    """
    script = axe()
    # one page for all: the browser compiles the script once
    page = browser.context(here).new_page()
    wide = page.viewport_size
    assert wide is not None
    errors = noted(page)
    for path in [*PAGES, f"/apps/shop/deployments/{history}"]:
        errors.clear()
        page.emulate_media(color_scheme="light")
        page.goto(here.origin + here.base + path)
        page.evaluate(script)  # in spite of the policy for scripts, which holds for the page's own
        assert page.evaluate(VIOLATIONS % ALL) == [], path
        page.emulate_media(color_scheme="dark")
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        assert page.evaluate(VIOLATIONS % CONTRAST) == [], path
        page.set_viewport_size({"width": 375, "height": 700})
        page.wait_for_function(FITS)  # some parts follow a moment after the window has changed
        assert page.evaluate(BESIDE) == [], path
        page.set_viewport_size(wide)
        assert errors == [] if path != "/nope" else all("404" in one for one in errors), path


EDGES = "all => all.map((one) => Math.round(one.getBoundingClientRect().%s))"


def test_columns_and_time_axes_are_in_line(history: int, here: Opened, page: Page) -> None:
    page.goto(f"{here.origin}{here.base}/apps/shop/settings")
    for place in (1, 2, 3, 4):
        cells = page.locator(f".group td:nth-child({place})")
        assert len(set(cells.evaluate_all(EDGES % "left"))) == 1, place
    page.goto(f"{here.origin}{here.base}/apps/shop/deployments/{history}")
    assert page.get_by_text("cancelled").is_visible()
    for edge in ("left", "right"):
        assert len(set(page.locator(".steps svg").evaluate_all(EDGES % edge))) == 1


def test_settings_out_of_sight_are_laid_out_when_they_are_scrolled_to(
    here: Opened, page: Page
) -> None:
    """The first paint would wait for a hundred rows, of which twenty can be seen."""
    page.goto(f"{here.origin}{here.base}/apps/shop/settings")
    group = page.locator("details.group", has=page.get_by_role("heading", name="health"))
    assert not group.locator("table").is_visible()
    group.locator("summary").press("Enter")
    assert group.locator("table").is_visible()
    page.goto(f"{here.origin}{here.base}/apps/shop/settings?q=.")
    laid_out = "one => one.checkVisibility({contentVisibilityAuto: true})"
    last = page.locator(".group table").last
    until(lambda: page.locator(".group table").first.evaluate(laid_out), "the first group")
    assert not last.evaluate(laid_out)
    last.scroll_into_view_if_needed()
    until(lambda: last.evaluate(laid_out), "the last group")


def test_everything_can_be_read_without_javascript(here: Opened, browser: Chromium) -> None:
    page = browser.context(here, java_script_enabled=False).new_page()
    page.goto(here.origin + here.base)
    page.goto(f"{here.origin}{here.base}/")
    page.click("text=shop")
    page.click("nav[aria-label=shop] >> text=Deployments")
    page.get_by_role("link", name="1", exact=True).click()
    assert page.inner_text("h1").startswith("Deployment")
    assert "it was built" in page.inner_text("pre")


def test_settings_and_config_are_changed_without_javascript(
    here: Opened, browser: Chromium
) -> None:
    page = browser.context(here, java_script_enabled=False).new_page()
    page.goto(f"{here.origin}{here.base}/apps/blog/settings")
    page.get_by_role("heading", name="health").click()
    page.get_by_role("link", name="Change health.path").click()
    assert "with the next deployment" in page.inner_text("main")
    page.get_by_label("health.path").fill("/up?<b>")
    page.get_by_role("button", name="Store health.path").click()
    # its group is open, and the keyboard goes on from what was changed
    row = page.get_by_role("row", name="health.path")
    assert page.locator("a:focus").get_attribute("aria-label") == "Change health.path"
    assert "/up?<b>" in row.inner_text()
    assert "this host" in row.inner_text()
    row.get_by_role("link", name="Unset health.path").click()
    page.get_by_role("button", name="Unset health.path").click()
    assert page.locator("a:focus").get_attribute("aria-label") == "Change health.path"
    assert "default" in page.get_by_role("row", name="health.path").inner_text()
    page.get_by_role("link", name="Set a variable").click()
    page.get_by_label("Name").fill("API_KEY")
    page.get_by_label("Value").fill("from\nthe-browser")
    page.get_by_role("button", name="Set the variable").click()
    assert "waits" in page.get_by_role("row", name="API_KEY").inner_text()
    assert page.locator("a:focus").get_attribute("aria-label") == "Set API_KEY"
    assert "the-browser" not in page.content()


def test_the_keyboard_leads_to_the_content_first(here: Opened, page: Page) -> None:
    page.goto(f"{here.origin}{here.base}/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id || location.hash") in {"main", "#main"}


def test_a_page_is_loaded_again_while_it_is_looked_at(
    home: Served, here: Opened, page: Page
) -> None:
    page.goto(f"{here.origin}{here.base}/apps/blog")
    assert page.get_by_text("locked by ann").count() == 0
    with home.opened() as gatling:
        from gatling.state import locks

        locks.put(gatling.db, "blog", "ann", "")
    page.get_by_text("locked by ann").wait_for(timeout=30_000)


def test_what_was_opened_stays_open(history: int, here: Opened, page: Page) -> None:
    page.goto(f"{here.origin}{here.base}/apps/shop")
    page.get_by_text("What happened in this time").click()
    for _ in range(2):
        with page.expect_response(lambda answer: answer.url.endswith("/apps/shop")):
            page.evaluate("document.getElementById('main').dataset.every = 0.01")
    page.get_by_text("by ann").first.wait_for()
    assert page.locator("details.marks").get_attribute("open") is not None


def test_a_page_says_so_when_nothing_answers_it_any_more(home: Served, browser: Chromium) -> None:
    """Its numbers would look like those of now."""
    with opened(home.env) as found:
        found.enter()
        page = browser.context(found).new_page()
        page.goto(f"{found.origin}{found.base}/")
        assert page.get_by_role("alert").count() == 0
    page.get_by_role("alert").wait_for(timeout=30_000)
    assert "does not answer" in page.get_by_role("alert").inner_text()
    assert re.fullmatch(r"\d\d:\d\d:\d\d", page.locator("#lost time").inner_text())
    assert page.get_by_role("link", name="shop").is_visible()


def test_a_second_click_is_no_second_change(here: Opened, page: Page) -> None:
    sent = []
    page.on("request", lambda one: sent.append(one.url) if one.method == "POST" else None)
    page.goto(f"{here.origin}{here.base}/apps/blog/settings/set?key=deploy.branch")
    page.get_by_label("deploy.branch").fill("next")
    page.get_by_role("button", name="Store deploy.branch").dblclick()
    page.wait_for_url("**/apps/blog/settings?at=deploy.branch#at-deploy.branch")
    assert page.locator("a:focus").get_attribute("aria-label") == "Change deploy.branch"
    assert len(sent) == 1
    page.go_back()
    page.get_by_label("deploy.branch").fill("main")
    page.get_by_role("button", name="Store deploy.branch").click()
    page.wait_for_url("**/apps/blog/settings?at=deploy.branch#at-deploy.branch")
    assert len(sent) == 2


def test_a_log_is_followed_as_text(home: Served, here: Opened, browser: Chromium) -> None:
    with home.opened() as gatling:
        log = gatling.home.app("shop").deployment_log(1).parent / "instances.log"
    page = browser.context(here).new_page()
    page.goto(f"{here.origin}{here.base}/apps/shop/logs")
    with page.expect_response(lambda answer: "stream" in answer.url):
        page.click("#follow")
    line = "<img src=x onerror=alert(1)> from afar"
    for _ in range(60):  # the command that follows may begin after the first lines
        with log.open("a") as file:
            file.write(f"2026-01-01T00:00:00.000Z v1 {line}\n")
        with contextlib.suppress(Exception):
            page.get_by_text("from afar").first.wait_for(timeout=500)
            break
    assert line in page.inner_text("#lines")
    assert page.locator("#lines img").count() == 0
    page.click("#follow")


@contextlib.contextmanager
def evil(text: str) -> Iterator[int]:
    """A page of somebody else on this machine; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("host", ["127.0.0.1", ELSEWHERE])
def test_a_page_of_another_origin_reads_and_changes_nothing(
    home: Served, here: Opened, browser: Chromium, host: str
) -> None:
    """Even if it knew the path and the token; on 127.0.0.1 it is of the same site."""
    context = browser.context(here)
    text = ATTACK.format(page=here.origin + here.base, token=here.token())
    with evil(text) as port:
        page = context.new_page()
        with context.expect_page() as popup:
            page.goto(f"http://{host}:{port}/")
        page.wait_for_function("window.read !== undefined")
        read = page.evaluate("window.read")
        popup.value.wait_for_load_state()
        assert "Stop" not in popup.value.title()
        assert popup.value.locator("h1").inner_text() != "shop"
    assert not any("shop" in one for one in read), json.dumps(read)[:300]
    with home.opened() as gatling:
        assert not gatling.db.row("SELECT 1 FROM audit WHERE action = 'stop' AND app = 'shop'")
    assert any("another origin" in one.detail for one in refused(home))


def test_a_name_that_leads_here_is_refused(here: Opened, browser: Chromium) -> None:
    """DNS rebinding: the browser takes the dashboard for a page of that name."""
    page = browser.context(here).new_page()
    port = here.origin.rpartition(":")[2]
    answer = page.goto(f"http://{ELSEWHERE}:{port}{here.base}/")
    assert answer is not None
    assert answer.status == 403
