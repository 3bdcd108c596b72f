"""Pages and forms over HTTP, by role, and requests that are refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from gatling.dashboard import actions, pages
from gatling.dashboard.visit import Visit
from gatling.deploy import deployment_log
from gatling.deploy.evidence.prober import Proof, Sample
from gatling.ssh.policy import Grant
from gatling.state import apps, config, databases, deployments, issuance, keys
from gatling.state.databases import Attachment
from tests.api.served import VALUE
from tests.dashboard.opened import add_history, by_key, opened, refused

if TYPE_CHECKING:
    from tests.api.served import Served
    from tests.dashboard.opened import Opened

HOSTILE = "<script>alert(1)</script>\x1b]0;x\x07\u202e'\"&"
CONFIRMED = [
    page.path.partition("{app}/")[2]
    for page in pages.EVERY
    if page.template in {"confirm.html", "rewind.html"}
]
"""The forms that have a page of their own."""
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


def test_requests_of_the_prober_are_dots_and_one_that_was_held_is_a_line(
    home: Served, here: Opened
) -> None:
    samples = [Sample(0, 2, failed=False), Sample(100, 4, failed=True),
               Sample(50, 150, failed=False, held=True)]  # fmt: skip
    with home.opened() as gatling:
        paths = gatling.home.app("shop")
        deployment_log.keep_samples(paths, 1, Proof(3, 1, 4, samples=tuple(samples)))
        text = here.get("/apps/shop/deployments/1").text
        paths.deployment_probe(1).unlink()
    assert text.count("<circle") == 2
    assert "up to 4 ms." in text
    assert '<path class="held" d="M150.0,3.0h450.0">' in text
    assert "held open for 150 ms, from before the swap until after it" in text


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
    with home.opened() as gatling:
        add_history(gatling, HOSTILE)
    text = here.get("/apps/shop").text
    assert text.count('class="still"') == 4
    assert "43/s" in text
    assert "0.7/s" in text
    assert "98.0 MB" in text
    assert '<path class="mark deployment"' in text
    assert "<script>alert" not in text
    assert here.get("/").text.count('class="still"') == 1


def test_settings_are_found_by_name_and_where_they_are_from(home: Served, here: Opened) -> None:
    def keys_of(query: str) -> set[str]:
        text = here.get(f"/apps/shop/settings?{query}").text
        return set(re.findall(r"<code>([a-z_.]+\.[a-z_.]+)</code>", text))

    with home.opened() as gatling, gatling.db.transaction():
        gatling.db.execute("UPDATE apps SET settings = '{\"deploy.branch\": \"next\"}'"
                           " WHERE name = 'shop'")  # fmt: skip
    assert keys_of("q=TIMEOUT") >= {"health.timeout", "proxy.read_timeout"}
    assert all("timeout" in key for key in keys_of("q=TIMEOUT"))
    assert keys_of("own=yes") == {"deploy.branch"}
    text = here.get("/apps/shop/settings").text
    (group,) = re.findall(r'<details class="card group" open>.*?</details>', text, re.DOTALL)
    assert "<h2>deploy</h2>" in group
    assert "<span>1 set</span>" in group
    assert '<span class="dim">branch, strategy, ' in group
    assert '<details class="card group"><summary><h2>health</h2>' in text
    assert 'group"><summary>' not in here.get("/apps/shop/settings?q=timeout").text
    assert keys_of("q=timeout&own=yes") == set()
    found = here.get("/apps/shop/settings?q=%22%3E%3Cscript%3E").text
    assert "No setting matches" in found
    assert "<script>" not in found


def test_a_page_that_there_is_not_leads_on_only_who_is_let_in(here: Opened) -> None:
    found = here.get("/nope")
    assert found.status == 404
    assert f'href="{here.base}/certificates"' in found.text
    assert here.ask("GET", "/nope", headers={"Cookie": "x=y"}).status == 403


def test_a_failed_renewal_is_shown_without_a_question_to_the_supervisor(
    home: Served, here: Opened
) -> None:
    (page,) = (one for one in pages.EVERY if one.path == "/certificates")
    with home.opened() as gatling:
        issuance.put(gatling.db, issuance.Issuance(app="shop", error=f"The CA said {HOSTILE}"))
        everyone = Visit(Grant("ann", "admin", frozenset({"*"})), "", "", {})
        with mock.patch.object(gatling.instances, "statuses", side_effect=AssertionError):
            assert [app for app, _ in page.gather(gatling, everyone)["errors"]] == ["shop"]
    text = here.get("/certificates").text
    assert "has no new certificate: The CA said &lt;script&gt;" in text
    assert "<script>alert" not in text


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
    assert here.ask("POST", "/apps/shop/stop", {"token": "x" * 600_000}).status == 422
    many = {f"field{number}": "" for number in range(60)}
    assert here.ask("POST", "/apps/shop/stop", many).status == 422
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
        assert not re.search(rf'href="[^"]*/({"|".join(CONFIRMED)})', found.text)
        assert rita.get(f"/apps/blog{path}").status == 403, path
    assert rita.get("/audit").status == 403
    for name in CONFIRMED:
        assert rita.get(f"/apps/shop/{name}").status == 403
    assert "blog" not in rita.get("/certificates").text
    assert ("rita", "blog") in {(one.actor, one.app) for one in refused(home)}


def test_each_role_opens_the_pages_that_it_may_and_no_other(rita: Opened, bob: Opened) -> None:
    seen = 0
    for found, role, own, other in (
        (rita, "reader", "shop", "blog"),
        (bob, "deployer", "blog", "shop"),
    ):
        for one in pages.EVERY:
            changes = one.template in ("confirm.html", "rewind.html")
            for app in (own, other) if "{app}" in one.path else ("",):
                path = one.path.replace("{app}", app).replace("{id}", "1")
                may = app != other and path != "/audit" and not (changes and role == "reader")
                answer = found.get(path)
                assert (answer.status != 403) is may, (role, path, answer.status)
                assert len(re.findall(r"<h1[ >]", answer.text)) == 1, path
                posts = re.search(r'<form[^>]*method="?post', answer.text, re.IGNORECASE)
                assert role == "deployer" or not posts, path
                seen += 1
    assert seen > 2 * len(pages.EVERY)
    text = rita.get("/apps/shop/settings").text
    assert "health.path" in text
    assert "Change health.path" not in text
    assert "Change health.path" in bob.get("/apps/blog/settings").text


def test_a_form_is_checked_as_its_command_is(home: Served, rita: Opened, bob: Opened) -> None:
    token = bob.token("blog")
    for action in actions.EVERY:
        assert rita.ask("POST", f"/apps/shop/{action.name}", {"token": ""}).status == 403
        found = bob.ask("POST", f"/apps/shop/{action.name}", {"token": token})
        assert found.status == 403, action.name
        assert (refused(home)[0].actor, refused(home)[0].detail) == (
            "bob", f"{action.command} (dashboard)"
        )  # fmt: skip


def test_a_deployer_changes_their_app(home: Served, bob: Opened) -> None:
    token = bob.token("blog")
    found = bob.ask("POST", "/apps/blog/stop", {"token": token})
    assert (found.status, found.headers["location"]) == (303, f"{bob.base}/apps/blog")
    assert "stopped" in bob.get("/apps/blog").text or "empty" in bob.get("/apps/blog").text
    with home.opened() as gatling:
        row = gatling.db.row("SELECT actor, app FROM audit WHERE action = 'stop'")
    assert row is not None
    assert (row["actor"], row["app"]) == ("bob", "blog")


def test_settings_are_set_and_unset(home: Served, bob: Opened) -> None:
    def own() -> dict[str, str]:
        with home.opened() as gatling:
            return apps.get(gatling.db, "blog").settings

    def post(action: str, **fields: str) -> tuple[int, str]:
        sent = {"token": bob.token("blog"), **fields}
        found = bob.ask("POST", f"/apps/blog/settings/{action}", sent)
        return found.status, found.headers.get("location", "")

    settings = f"{bob.base}/apps/blog/settings?at="
    assert 'value="60"' in bob.get("/apps/blog/settings/set?key=health.timeout").text
    assert post("set", key="health.timeout", value="120") == (
        303, f"{settings}health.timeout#at-health.timeout"
    )  # fmt: skip
    assert post("set", lines="deploy.branch = next\r\n\r\nalerts.errors=2\r\n") == (
        303, f"{settings}deploy.branch%2Calerts.errors#at-deploy.branch"
    )  # fmt: skip
    wanted = {"health.timeout": "120", "deploy.branch": "next", "alerts.errors": "2"}
    assert own() == wanted
    for fields in (
        {"key": "health.timeout", "value": "soon"}, {"key": "no.such", "value": "1"},
        {"lines": "health.path=/up\nno equals"}, {"lines": "health.path=/up\nno.such=1"}, {},
    ):  # fmt: skip
        assert post("set", **fields)[0] == 422, fields
    assert own() == wanted
    assert bob.get("/apps/blog/settings/set?key=no.such").status == 404
    assert "gatling.toml" not in bob.get("/apps/blog/settings/unset?key=alerts.errors").text
    assert post("unset", key="alerts.errors") == (303, f"{settings}alerts.errors#at-alerts.errors")
    groups = bob.get("/apps/blog/settings?at=hot.watch,alerts.errors,no.such,%22").text
    for name, is_open in (("hot", True), ("alerts", True), ("stats", False)):
        mark = " open" if is_open else ""
        assert f'<details class="card group"{mark}><summary><h2>{name}</h2>' in groups, name
    assert post("unset", key="alerts.errors")[0] == 404
    assert bob.get("/apps/blog/settings/unset?key=alerts.errors").status == 404
    assert own() == {"health.timeout": "120", "deploy.branch": "next"}
    with home.opened() as gatling:
        row = gatling.db.row("SELECT actor, detail FROM audit WHERE action = 'settings' LIMIT 1")
    assert row is not None
    assert tuple(row) == ("bob", "health.timeout")


def test_a_variable_is_set_and_unset_and_its_value_never_shown(home: Served, bob: Opened) -> None:
    typed = "-----BEGIN\r\nof-a-secret\r\n"
    texts = []

    def post(action: str, **fields: str) -> tuple[int, str]:
        sent = {"token": bob.token("blog"), **fields}
        found = bob.ask("POST", f"/apps/blog/config/{action}", sent)
        texts.append(found.text)
        return found.status, found.headers.get("location", "")

    settings = f"{bob.base}/apps/blog/settings?at=KEY#at-KEY"
    assert post("set", name="KEY", value=typed) == (303, settings)
    with home.opened() as gatling:
        assert config.of_app(gatling.db, "blog")["KEY"] == "-----BEGIN\nof-a-secret\n"
    assert post("set", name="KEY", value=typed)[0] == 200
    assert "Nothing was changed" in texts[-1]
    for name in ("RELEASE_NAME", "KEY=of-a-secret", "", "1x"):
        assert post("set", name=name, value=typed)[0] == 422, name
    assert post("set", name="KEY", value="of-a-secret\0")[0] == 422
    assert post("set", name="KEY", value="of-a-secret" * 20_000)[0] == 422
    assert post("set", name="KEY", value="")[0] == 422
    texts += [
        bob.get(f"/apps/blog{path}").text for path in
        ("/settings", "/audit", "/config/set?name=KEY", "/config/unset?name=KEY", "/deployments")
    ]  # fmt: skip
    assert "KEY" in texts[-5]
    assert not any("of-a-secret" in text for text in texts)
    assert post("unset", name="KEY") == (303, settings)
    assert bob.get("/apps/blog/config/unset?name=KEY").status == 404
    with home.opened() as gatling:
        assert "KEY" not in config.of_app(gatling.db, "blog")
        found = gatling.db.rows("SELECT actor, action FROM audit WHERE action LIKE 'config%'")
    assert [tuple(row) for row in found] == [("bob", "config set KEY"), ("bob", "config unset KEY")]


def test_a_pool_is_offered_to_those_who_may_turn_it_on(
    home: Served, bob: Opened, rita: Opened
) -> None:
    with home.opened() as gatling:
        for name in ("shop", "blog"):
            databases.add(gatling.db, name, name, 17, "DATABASE_URL")
        databases.attach(gatling.db, Attachment("blog", "shop", "BLOG_URL", "read"))
        databases.mark(gatling.db, "blog", "ready")
    try:
        shown = bob.get("/databases").text
        assert f'href="{bob.base}/apps/blog/pool?name=blog"' in shown
        assert "/apps/shop/" not in shown
        assert "/pool" not in rita.get("/databases").text
        form = bob.get("/apps/blog/pool?name=blog").text
        assert "DATABASE_CONNECTION_POOL_URL" in form
        assert 'value="20"' in form
        assert bob.get("/apps/blog/pool?name=shop").status == 404
        assert bob.get("/apps/blog/pool/off?name=blog").status == 404
        token = bob.token("blog")
        for size in ("0", "1001", "many"):
            sent = {"token": token, "name": "blog", "size": size}
            assert bob.ask("POST", "/apps/blog/pool", sent).status == 422, size
        # DATABASE_URL is not set here, and PostgreSQL does not run for root
        sent = {"token": token, "name": "blog", "size": "5"}
        refused = bob.ask("POST", "/apps/blog/pool", sent)
        assert re.search("is not the URL of the database blog|does not run as root", refused.text)
        assert bob.ask("POST", "/apps/blog/pool/off", sent).status == 404
    finally:
        with home.opened() as gatling:
            for name in ("shop", "blog"):
                databases.forget(gatling.db, name)


def test_a_job_that_there_is_not(bob: Opened) -> None:
    for action in ("run", "cancel"):
        assert bob.get(f"/apps/blog/jobs/{action}?job=report").status == 404
        sent = {"token": bob.token("blog"), "job": "../report"}
        assert bob.ask("POST", f"/apps/blog/jobs/{action}", sent).status == 404


def test_a_change_that_fails_says_why(bob: Opened) -> None:
    token = bob.token("blog")
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
