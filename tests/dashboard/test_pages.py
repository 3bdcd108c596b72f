"""Pages and forms over HTTP, by role, and requests that are refused."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from gatling.dashboard import actions, pages
from gatling.operations import sampling
from gatling.state import deployments, keys, samples
from tests.api.served import VALUE
from tests.dashboard.opened import by_key, opened, refused

if TYPE_CHECKING:
    from tests.api.served import Served
    from tests.dashboard.opened import Opened

HOSTILE = "<script>alert(1)</script>\x1b]0;x\x07\u202e'\"&"
OF_APP = ["", "/deployments", "/deployments/1", "/logs", "/jobs", "/settings", "/audit"]


@pytest.mark.parametrize("path", ["/", "/certificates", "/databases", "/audit"])
def test_pages_of_all_apps(here: Opened, path: str) -> None:
    found = here.get(path)
    assert found.status == 200
    assert 'aria-current="page"' in found.text


@pytest.mark.parametrize("path", OF_APP)
def test_pages_of_an_app(here: Opened, path: str) -> None:
    found = here.get(f"/apps/shop{path}")
    assert found.status == 200
    assert "shop" in found.text
    assert VALUE not in found.text


def test_every_page_of_an_app_is_among_them() -> None:
    forms = {f"/apps/{{app}}/{one.name}" for one in actions.EVERY}
    shown = {page.path for page in pages.EVERY if page.path.startswith("/apps/")} - forms
    assert shown == {f"/apps/{{app}}{path}".replace("/1", "/{id}") for path in OF_APP}


def test_a_deployment_shows_its_steps_probe_and_output(here: Opened) -> None:
    text = here.get("/apps/shop/deployments/1").text
    assert "Probe report" in text
    assert "0 of 7" in text
    assert "it was built" in text
    assert here.get("/apps/shop/deployments/2").status == 404  # blog's
    assert here.get("/apps/shop/deployments/x").status == 422
    assert here.get("/apps/nope").status == 404
    assert here.get("/apps/..%2f").status in {404, 422}
    assert here.get("/nope").status == 404


def test_answers_have_the_headers_that_keep_other_pages_out(here: Opened) -> None:
    for path in ("/", "/nope", "/static/app.js", "/static/nope"):
        headers = here.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert here.get("/").headers["cache-control"] == "no-store"


def test_no_page_has_inline_script_or_style(here: Opened) -> None:
    for path in ("/", *(f"/apps/shop{one}" for one in OF_APP)):
        text = here.get(path).text
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", text)


def test_text_from_elsewhere_stays_text(home: Served, here: Opened) -> None:
    with home.opened() as gatling:
        one = deployments.begin(
            gatling.db, "blog", cause=HOSTILE, actor="ann", mark="m", commit=None
        )
        deployments.end(gatling.db, one.id, "failed", error=HOSTILE, seconds=1.0)
        gatling.home.app("blog").deployment_log(one.id).write_text(HOSTILE)
        log = gatling.home.app("blog").deployment_log(1).parent / "instances.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"2026-01-01T00:00:00.000Z v1 {HOSTILE}\n")
    for path in ("", "/deployments", f"/deployments/{one.id}", "/logs", "/logs?q=%3Cscript"):
        text = here.get(f"/apps/blog{path}").text
        assert "&lt;script&gt;alert(1)" in text
        assert "<script>alert" not in text
        assert "\x1b" not in text
        assert "\u202e" not in text


@pytest.mark.parametrize(
    "query",
    ["release=nope", "since=yesterday", "release=--help"],
)
def test_a_filter_of_a_log_that_is_none_is_refused(here: Opened, query: str) -> None:
    assert here.get(f"/apps/shop/logs?{query}").status == 422


def test_history_is_drawn_with_marks(home: Served, here: Opened) -> None:
    assert "No history is kept" in here.get("/apps/shop").text
    assert 'class="still"' not in here.get("/").text
    now = time.time() // 10 * 10
    with home.opened() as gatling, samples.opened(sampling.file_of(gatling)) as store:
        for back in range(10, 600, 10):
            taken = samples.Sample(seconds=10, up=10, classes=[0, 420, 0, 0, 7], memory=98_000_000)
            store.add(now - back, {"shop": taken})
        one = deployments.begin(
            gatling.db, "shop", cause=HOSTILE, actor="ann", mark="m", commit=None
        )
        deployments.end(gatling.db, one.id, "succeeded", seconds=1.0)
    text = here.get("/apps/shop").text
    assert text.count('class="still"') == 4
    assert "43/s" in text
    assert "0.7/s" in text
    assert "98.0 MB" in text
    assert '<path class="mark deployment"' in text
    assert "<script>alert" not in text
    assert here.get("/").text.count('class="still"') == 1


# -- who is let in --------------------------------------------------------------------------------


def test_a_link_that_was_used_is_refused_and_put_on_record(home: Served) -> None:
    with opened(home.env) as found:
        assert found.get("/").status == 403
        assert found.enter().status == 200
        assert found.get("/").status == 200
        again = found.enter()
        assert again.status == 403
        assert "only once" in again.text
        assert "set-cookie" not in again.headers
    whats = [(one.actor, one.detail or one.action) for one in refused(home)]
    assert ("dashboard", "link is not valid (dashboard)") in whats
    assert ("dashboard", "no access (dashboard)") in whats


def test_a_forged_origin_is_refused_and_put_on_record(home: Served, here: Opened) -> None:
    token = here.token()
    for headers in (
        {"Origin": "http://evil.example"}, {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
    ):  # fmt: skip
        found = here.ask("POST", "/apps/shop/stop", {"token": token}, headers)
        assert found.status == 403, headers
    assert here.ask("POST", "/apps/shop/stop", {}).status == 403
    assert here.ask("POST", "/apps/shop/stop", {"token": "x"}).status == 403
    assert here.get("/", Host="evil.example").status == 403
    assert here.get("/", Sec_Fetch_Site="cross-site").status == 403
    assert here.get("/", Sec_Fetch_Dest="iframe").status == 403
    details = {one.detail for one in refused(home)}
    assert {"another origin (dashboard)", "no token (dashboard)", "another host (dashboard)",
            "in a frame (dashboard)"} <= details  # fmt: skip
    with home.opened() as gatling:
        assert not gatling.db.row("SELECT 1 FROM audit WHERE action = 'stop'")


def test_bodies_that_are_no_forms(here: Opened) -> None:
    kind = {"Content-Type": "application/json"}
    assert here.ask("POST", "/apps/shop/stop", {"token": here.token()}, kind).status == 422
    assert here.ask("POST", "/apps/shop/stop", {"token": "x" * 70_000}).status == 422
    assert here.ask("PUT", "/apps/shop/stop", {"token": here.token()}).status == 404
    assert here.ask("DELETE", "/apps/shop").status == 404


# -- roles ----------------------------------------------------------------------------------------


def test_a_reader_sees_their_app_and_changes_nothing(home: Served, rita: Opened) -> None:
    text = rita.get("/").text
    assert "/apps/shop" in text
    assert "/apps/blog" not in text
    assert "rita" in text
    for path in OF_APP:
        found = rita.get(f"/apps/shop{path}")
        assert found.status == 200, path
        assert not re.search(r'href="[^"]*/(rollback|restart|stop|maintenance)', found.text)
        assert rita.get(f"/apps/blog{path}").status == 403, path
    assert rita.get("/audit").status == 403
    for name in ("rollback", "restart", "stop", "maintenance"):
        assert rita.get(f"/apps/shop/{name}").status == 403
    assert "blog" not in rita.get("/certificates").text
    assert ("rita", "blog") in {(one.actor, one.app) for one in refused(home)}


@pytest.mark.parametrize("action", [one.name for one in actions.EVERY])
def test_a_form_is_checked_as_its_command_is(
    home: Served, rita: Opened, bob: Opened, action: str
) -> None:
    for person, app, name in ((rita, "shop", "rita"), (bob, "shop", "bob")):
        text = (bob.get("/apps/blog/stop") if person is bob else person.get("/apps/shop")).text
        token = text.partition('name="token" value="')[2].partition('"')[0]
        found = person.ask("POST", f"/apps/{app}/{action}", {"token": token})
        assert found.status == 403, name
    assert refused(home)[0].actor in {"rita", "bob", "dashboard"}


def test_a_deployer_changes_their_app(home: Served, bob: Opened) -> None:
    text = bob.get("/apps/blog/stop").text
    token = text.partition('name="token" value="')[2].partition('"')[0]
    found = bob.ask("POST", "/apps/blog/stop", {"token": token})
    assert (found.status, found.headers["location"]) == (303, f"{bob.base}/apps/blog")
    assert "stopped" in bob.get("/apps/blog").text or "empty" in bob.get("/apps/blog").text
    with home.opened() as gatling:
        row = gatling.db.row("SELECT actor, app FROM audit WHERE action = 'stop'")
    assert row is not None
    assert (row["actor"], row["app"]) == ("bob", "blog")


def test_a_change_that_fails_says_why(bob: Opened) -> None:
    text = bob.get("/apps/blog/stop").text
    token = text.partition('name="token" value="')[2].partition('"')[0]
    found = bob.ask("POST", "/apps/blog/rollback", {"token": token, "release": "v99"})
    assert found.status in {404, 409, 422}
    assert re.search(r'<section class="card fault">\s*<h1>[^<]{10,}', found.text)


def test_a_key_that_was_removed_ends_its_sessions(home: Served) -> None:
    with by_key(home.env, home.root, "ann") as ann:
        assert ann.get("/audit").status == 200
        with home.opened() as gatling, gatling.db.transaction():
            gatling.db.execute("UPDATE keys SET role = 'reader', apps = '[\"blog\"]'"
                               " WHERE name = 'ann'")  # fmt: skip
        assert ann.get("/apps/shop").status == 403
        with home.opened() as gatling:
            keys.remove(gatling.db, "ann")
        assert ann.get("/").status != 200


def test_over_ssh_a_browser_is_not_opened_there(home: Served) -> None:
    with mock.patch.dict("os.environ", home.env | {"GATLING_ROLE": "reader"}):
        from click.testing import CliRunner

        from gatling.dashboard.command import dashboard_command

        done = CliRunner().invoke(dashboard_command, [])
    assert "own machine" in str(done.exception)
