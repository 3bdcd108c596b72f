"""What single routes do: through a real server on a Unix socket."""

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gatling.api import answers
from gatling.api.routes import BY_NAME, ON_CLUSTERS
from gatling.operations import apps as loading
from gatling.operations.sending import NotDelivered
from gatling.state import apps, audit, databases, platforms
from gatling.state.databases import Attachment
from gatling.state.platforms import Connection, Store
from tests.proxy.bench import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.api.served import Answer, Served


@pytest.fixture
def tokens(served: Served) -> dict[str, str]:
    assert served.tokens is not None
    return served.tokens


def answer(served: Served, token: str, method: str, path: str, body: object = None) -> Answer:
    found = served.ask(method, f"/v1{path}", token, body)
    assert found.status == 200, found.text
    return found


def test_domains_are_added_taken_over_and_removed(served: Served, tokens: dict[str, str]) -> None:
    path, deployer = "/apps/shop/domains", tokens["deployer"]
    wanted = {"domain": "Shop.Example.org."}
    added = answer(served, deployer, "POST", path, wanted).json
    assert (added["changed"], added["domains"][-1]) == (True, "shop.example.org")
    assert any("PHX_HOST" in note for note in added["notes"]), added
    assert not answer(served, deployer, "POST", path, wanted).json["changed"]

    # another app's domain only with access to both
    answer(served, tokens["admin"], "POST", "/apps/blog/domains", {"domain": "a.example.org"})
    theirs = {"domain": "a.example.org", "other_app": "blog"}
    refused = served.ask("POST", f"/v1{path}", deployer, theirs)
    assert (refused.status, refused.code) == (403, "not-allowed")
    newest = served.audit()[0]
    assert (newest.actor, newest.app, newest.action) == ("bob", "blog", "refused")
    with served.opened() as gatling:
        assert "a.example.org" in apps.get(gatling.db, "blog").domains
    taken = answer(served, tokens["admin"], "POST", path, theirs).json
    assert "a.example.org" in taken["domains"]

    left = answer(served, deployer, "DELETE", f"{path}/a.example.org").json
    assert left["domains"] == ["shop.localhost", "shop.example.org"]
    newest = served.audit()[0]
    assert (newest.actor, newest.action, newest.detail) == (
        "bob", "domains remove", "a.example.org")  # fmt: skip


def test_settings_are_typed_and_null_unsets(served: Served, tokens: dict[str, str]) -> None:
    path, deployer = "/apps/shop/settings", tokens["deployer"]
    wanted = {"health.timeout": 90, "alerts.errors": 2.5, "alerts.quiet": "22:00-07:00",
              "hot.enabled": False}  # fmt: skip
    known = answer(served, deployer, "GET", path).json["values"]
    wanted = {key: value for key, value in wanted.items() if key in known}
    assert len(wanted) >= 3
    done = answer(served, deployer, "PATCH", path, wanted).json
    assert done["applied"] == ["alerts.errors", "alerts.quiet"]
    assert "health.timeout" in done["waiting"]
    now = answer(served, deployer, "GET", path).json
    assert {key: now["values"][key] for key in wanted} == wanted
    assert now["sources"]["health.timeout"] == "this host"
    answer(served, deployer, "PATCH", path, dict.fromkeys(wanted))
    again = answer(served, deployer, "GET", path).json
    assert again["sources"]["alerts.quiet"] == "default"
    refused = served.ask("PATCH", f"/v1{path}", deployer, {"alerts.quiet": None})
    assert (refused.status, refused.code) == (404, "not-found")
    assert "90" not in str([one.detail for one in served.audit()])


class Hook(http.server.BaseHTTPRequestHandler):
    """A receiver of webhooks."""

    status = 204

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{receiver.server_port}/secret-path"
        receiver.shutdown()


def test_a_channel_is_added_tried_and_removed(
    served: Served, tokens: dict[str, str], hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = tokens["admin"]
    wanted = {"name": "hooks", "target": hook, "apps": ["shop"], "quiet": "22:00-07:00"}
    added = answer(served, admin, "POST", "/channels", wanted).json
    assert added["secret"].startswith("whsec_")
    assert added["channel"]["apps"] == ["shop"]
    listed = answer(served, admin, "GET", "/channels")
    assert "hooks" in [one["name"] for one in listed.json]
    assert "secret-path" not in listed.text
    assert added["secret"] not in listed.text
    assert answer(served, admin, "POST", "/channels/hooks/test").json["name"] == "hooks"
    monkeypatch.setattr(Hook, "status", 500)
    refused = served.ask("POST", "/v1/channels/hooks/test", admin)
    assert (refused.status, refused.code) == (409, "not-delivered"), refused.text
    again = served.ask("POST", "/v1/channels", admin, wanted)
    assert (again.status, again.code) == (422, "invalid-input")
    left = answer(served, admin, "DELETE", "/channels/hooks").json
    assert "hooks" not in [one["name"] for one in left]


def test_a_token_sees_the_numbers_of_its_apps_alone(served: Served, tokens: dict[str, str]) -> None:
    metrics = answer(served, tokens["reader"], "GET", "/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'gatling_app_up{app="shop"} 0' in metrics.text
    assert "blog" not in metrics.text
    assert 'app="blog"' in answer(served, tokens["admin"], "GET", "/metrics").text
    watch = answer(served, tokens["reader"], "GET", "/watch").json
    assert (watch["on"], watch["alerts"]) == (False, [])
    with served.opened() as gatling:
        audit.record(gatling.db, "gatling", "shop", "alert started", "errors: 3 of 20")
    line = answer(served, tokens["reader"], "GET", "/apps/shop/timeline?since=1h&points=5").json
    assert [one["kind"] for one in line["marks"]][-1] == "alert"


def test_a_token_sees_the_databases_of_its_apps_alone(
    served: Served, tokens: dict[str, str]
) -> None:
    with served.opened() as gatling:
        for name in ("shop", "blog"):
            databases.add(gatling.db, name, name, 17, "DATABASE_URL")
            databases.attach(gatling.db, Attachment(name, "blog", f"{name.upper()}_URL", "write"))
    try:
        (one,) = answer(served, tokens["reader"], "GET", "/databases").json
        assert (one["name"], one["app"], _users(one)) == ("shop", "shop", ["shop"])
        every = answer(served, tokens["admin"], "GET", "/databases").json
        assert {one["name"] for one in every} == {"shop", "blog"}
        shown = answer(served, tokens["reader"], "GET", "/apps/shop/database").json
        assert (shown["state"], _users(shown), shown["facts"]) == ("creating", ["shop"], None)
    finally:
        with served.opened() as gatling:
            for name in ("shop", "blog"):
                databases.forget(gatling.db, name)


def _users(shown: dict[str, Any]) -> list[str]:
    return [use["app"] for use in shown["used_by"]]


def test_an_error_that_is_not_gatling_s_is_no_500() -> None:
    assert answers.status_of(NotDelivered("No.")) == 409


def test_an_app_on_a_cluster_is_shown_and_changed(served: Served, tokens: dict[str, str]) -> None:
    """Its cluster is away. tests/cluster has the operations behind the routes on a real one."""
    admin = tokens["admin"]
    cluster = Connection(server=f"http://127.0.0.1:{free_port()}", namespace="shop")
    with served.opened() as gatling:
        platforms.add(gatling.db, "prod", cluster, Store(place="registry.example.com/team"))
        loading.load(gatling, "yard", platform="prod")
    shown = answer(served, admin, "GET", "/apps").json
    assert [one["app"] for one in shown] == ["blog", "shop", "yard"]
    assert shown[2]["state"].startswith("unknown: The cluster")
    for path in ("", "/releases", "/deployments", "/config", "/domains", "/settings", "/jobs"):
        answer(served, admin, "GET", f"/apps/yard{path}")
    web = {"process": "web", "instances": 1, "command": ""}
    assert answer(served, admin, "GET", "/apps/yard/processes").json == [web]
    done = answer(served, admin, "PATCH", "/apps/yard/settings", {"cluster.instances": 2}).json
    assert done["waiting"] == ["cluster.instances"]
    assert answer(served, admin, "GET", "/apps/yard/processes").json[0]["instances"] == 2
    failed = served.ask("PATCH", "/v1/apps/yard/processes", admin, {"web": 3})
    assert (failed.status, failed.code) == (503, "cluster-failed"), failed.text
    assert answer(served, admin, "GET", "/apps/yard/processes").json[0]["instances"] == 2
    unknown = answer(served, admin, "GET", "/apps/yard/stats").json["node_unknown"]
    assert unknown.startswith("The cluster")
    refused = served.ask("GET", "/v1/apps/yard/https", admin)
    assert refused.code == "not-on-cluster", refused.text
    with served.opened() as gatling:
        apps.delete(gatling.db, "yard")
        platforms.remove(gatling.db, "prod")


def test_routes_on_clusters_are_routes() -> None:
    assert BY_NAME.keys() >= ON_CLUSTERS
