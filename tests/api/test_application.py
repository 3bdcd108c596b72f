"""Who may ask the API what, and what comes back: through a real server on a Unix socket."""

from __future__ import annotations

import concurrent.futures
import contextlib
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jsonschema
import pytest

from gatling.api import description
from gatling.api.routes import ROUTES
from gatling.operations import tokens
from gatling.state import config, locks
from gatling.state import tokens as state
from tests.api.served import VALUE, Served, server
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.api.contract import Route

Role = Literal["reader", "deployer", "admin"]

LEAST: dict[str, tuple[Role, int]] = {
    "get_caller": ("reader", 200),
    "list_apps": ("reader", 200),
    "get_app": ("reader", 200),
    "list_releases": ("reader", 200),
    "list_deployments": ("reader", 200),
    "get_deployment": ("reader", 200),
    "get_deployment_log": ("reader", 200),
    "get_plan": ("reader", 404),
    "list_config": ("reader", 200),
    "list_domains": ("reader", 200),
    "list_certificates": ("reader", 200),
    "get_stats": ("reader", 200),
    "get_settings": ("reader", 200),
    "list_processes": ("reader", 200),
    "list_audit": ("reader", 200),
    "get_description": ("reader", 200),
    "change_config": ("deployer", 200),
    "scale": ("deployer", 422),
    "restart": ("deployer", 422),
    "stop": ("deployer", 200),
    "start": ("deployer", 422),
    "rollback": ("deployer", 422),
    "get_rewind": ("deployer", 422),
    "begin_maintenance": ("deployer", 200),
    "end_maintenance": ("deployer", 200),
    "add_domain": ("deployer", 200),
    "remove_domain": ("deployer", 404),
    "get_https": ("reader", 200),
    "change_settings": ("deployer", 200),
    "list_jobs": ("reader", 200),
    "list_runs": ("reader", 200),
    "run_job": ("deployer", 404),
    "cancel_job": ("deployer", 404),
    "list_databases": ("reader", 200),
    "get_database": ("reader", 404),
    "list_backups": ("reader", 404),
    "back_up": ("deployer", 404),
    "set_pool": ("deployer", 404),
    "remove_pool": ("deployer", 404),
    "get_timeline": ("reader", 200),
    "get_watch": ("reader", 200),
    "get_metrics": ("reader", 200),
    "list_channels": ("admin", 200),
    "add_channel": ("admin", 200),
    "test_channel": ("admin", 404),
    "remove_channel": ("admin", 404),
}
"""Each route with the least role that may use it, and the status for an app that is not live.

The table is written by hand, so that a route which moves to another role, or is new, is a decision
here as well.
"""
BODIES: dict[str, Any] = {
    "change_config": {"A": "1"},
    "scale": {"web": 1},
    "add_domain": {"domain": "shop.example.com"},
    "change_settings": {"health.timeout": 30},
    "add_channel": {"name": "ops", "target": "https://hooks.example.com/secret-path"},
}
RANKS = ("reader", "deployer", "admin")
TOLD = [route for route in ROUTES if route.kind != "events"]
OF_AN_APP = [route for route in TOLD if route.of_app]


def path_of(route: Route, app: str = "shop") -> str:
    ident = {"shop": 1, "blog": 2}.get(app, 1)
    query = "?files=true&release=v9" if route.name == "get_plan" else ""
    named = {"job": "report", "domain": "none.example.com", "channel": "none"}
    return "/v1" + route.path.format(app=app, id=ident, **named) + query


def ask(served: Served, route: Route, token: str | None, app: str = "shop") -> Any:
    return served.ask(route.method, path_of(route, app), token, BODIES.get(route.name))


def tokens_of(served: Served) -> dict[str, str]:
    assert served.tokens is not None
    return served.tokens


@pytest.fixture
def fresh(served: Served) -> Iterator[dict[str, str]]:
    """A token of each role, which no limit knows yet."""
    at = time.monotonic_ns()
    made = {
        "reader": served.token(f"rita{at}", "reader", "shop"),
        "deployer": served.token(f"bob{at}", "deployer", "shop"),
        "admin": served.token(f"ann{at}", "admin"),
    }
    yield made
    with served.opened() as gatling:
        for name in ("rita", "bob", "ann"):
            tokens.remove(gatling, f"{name}{at}")


def test_no_route_is_missing() -> None:
    assert set(LEAST) == {route.name for route in TOLD}


@pytest.mark.parametrize("route", TOLD, ids=lambda route: route.name)
def test_a_role_may_use_a_route_or_is_refused_and_recorded(
    served: Served, fresh: dict[str, str], route: Route
) -> None:
    least, status = LEAST[route.name]
    for role, token in fresh.items():
        if route.kind == "work" and RANKS.index(role) > RANKS.index(least):
            break  # each change takes a process
        found = ask(served, route, token)
        assert found.headers["cache-control"] == "no-store"
        assert VALUE not in found.text
        assert VALUE not in str(found.headers)
        if RANKS.index(role) >= RANKS.index(least):
            assert found.status == status, found.text
            assert_described(route, found)
            continue
        assert (found.status, found.code) == (403, "not-allowed")
        newest = served.audit()[0]
        assert (newest.app, newest.action) == ("shop" if route.of_app else None, "refused")
        assert newest.actor.startswith({"reader": "rita", "deployer": "bob"}[role])
        assert newest.detail == f"{route.command} (HTTP API)"


def assert_described(route: Route, found: Any) -> None:
    """An answer is what the description says of its status."""
    document = description.document()
    operation = document["paths"][f"/v1{route.path}"][route.method.lower()]
    ((kind, content),) = operation["responses"][str(found.status)]["content"].items()
    assert found.headers["content-type"].startswith(kind)
    if kind == "application/json":
        whole = {**content["schema"], "components": document["components"]}
        jsonschema.validate(found.json, whole)


@pytest.mark.parametrize("route", OF_AN_APP, ids=lambda route: route.name)
def test_an_app_of_others_is_refused_and_recorded(
    served: Served, fresh: dict[str, str], route: Route
) -> None:
    for app in ("blog", "no-such-app"):
        found = ask(served, route, fresh["deployer"], app)
        assert (found.status, found.code) == (403, "not-allowed")
        assert f"has no access to an app {app}." in found.json["error"]["message"]
        newest = served.audit()[0]
        assert (newest.app, newest.action) == (app, "refused")
    if route.kind != "work" or route.name == "stop":  # each change takes a process
        assert ask(served, route, fresh["admin"], "no-such-app").status == 404


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer"}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"},
     {"Authorization": "Bearer " + "x" * 5000}],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/apps", "/v1/apps/shop/stop", "/v1/no", "/", "/v1/events"])
def test_without_a_valid_token_nothing_is_said(
    served: Served, headers: dict[str, str], path: str
) -> None:
    served.ask("GET", "/v1/me", "x")
    found = served.ask("GET", path, None, headers=headers)
    assert (found.status, found.code) in ((401, "unauthorized"), (429, "too-many-requests"))
    if found.status == 401:
        assert found.headers["www-authenticate"] == 'Bearer realm="gatling"'


def test_unknown_tokens_are_recorded_and_do_not_flood_the_audit(home: Served) -> None:
    with server(home):
        seen = [home.ask("GET", "/v1/me", f"x{n}").status for n in range(40)]
        assert home.ask("GET", "/v1/me", home.token("rita", "reader")).status == 200
    assert set(seen) == {401, 429}
    refused = [one for one in home.audit() if one.action == "refused"]
    assert [(one.actor, one.detail) for one in refused] == [
        ("api", "token is not known (HTTP API)")
    ]


def test_a_token_that_expired_or_was_removed(served: Served) -> None:
    text = served.token("old", "admin")
    assert served.ask("GET", "/v1/me", text).json["name"] == "old"
    with served.opened() as gatling:
        assert state.get(gatling.db, "old").used_at is not None
        gatling.db.execute("UPDATE tokens SET expires_at = '2026-01-01' WHERE name = 'old'")
    found = served.ask("GET", "/v1/me", text)
    assert (found.status, found.code) == (401, "expired")
    newest = served.audit()[0]
    assert (newest.actor, newest.action, newest.detail) == (
        "old", "refused", "token has expired (HTTP API)")  # fmt: skip
    with served.opened() as gatling:
        tokens.remove(gatling, "old")
    # the attempts of other tests with unknown tokens may have used up what all may try
    until(lambda: served.ask("GET", "/v1/me", text).code == "unauthorized", "the removal", 30)


def test_only_a_digest_of_a_token_is_stored(served: Served) -> None:
    text = tokens_of(served)["admin"]
    assert text.startswith("gatling_")
    assert len(text) == 51
    home = served.root / "home"
    for name in ("state.db", "state.db-wal"):
        assert text.encode() not in (home / name).read_bytes()


def test_a_token_sees_its_apps_alone(served: Served, fresh: dict[str, str]) -> None:
    seen = served.ask("GET", "/v1/apps", fresh["reader"]).json
    assert [one["app"] for one in seen] == ["shop"]
    seen = served.ask("GET", "/v1/apps", fresh["admin"]).json
    assert [one["app"] for one in seen] == ["blog", "shop"]


def test_what_is_read(served: Served, fresh: dict[str, str]) -> None:
    def got(path: str) -> Any:
        found = served.ask("GET", f"/v1{path}", fresh["admin"])
        assert found.status == 200, found.text
        return found.json

    assert [one["release"] for one in got("/apps/shop/releases")] == ["v2", "v1"]
    (done,) = got("/apps/shop/deployments")
    assert (done["id"], done["outcome"], done["steps"][0]["name"]) == (1, "succeeded", "build")
    assert got("/apps/shop/deployments/1") == done
    log = served.ask("GET", "/v1/apps/shop/deployments/1/log", fresh["admin"])
    assert (log.status, log.text) == (200, "-----> it was built\n")
    assert log.headers["content-type"] == "text/plain; charset=utf-8"
    assert {"name": "SECRET", "waiting": False} in got("/apps/shop/config")
    assert got("/apps/blog/domains") == ["blog.localhost"]
    assert got("/apps/shop/settings")["values"]["alerts.errors"] == 5.0
    assert got("/openapi.json")["openapi"] == "3.1.0"
    head = served.ask("HEAD", "/v1/apps/shop", fresh["admin"])
    assert (head.status, head.text) == (200, "")


def test_a_change_is_that_of_the_command(served: Served, fresh: dict[str, str]) -> None:
    path = "/v1/apps/shop/config"
    found = served.ask("PATCH", path, fresh["deployer"], {"PRICE": VALUE, "POOL": "5"})
    assert found.status == 200, found.text
    assert found.json == {"changed": True, "deployment": None, "waiting": []}
    with served.opened() as gatling:
        stored = config.of_app(gatling.db, "shop")
    assert (stored["PRICE"], stored["POOL"]) == (VALUE, "5")
    newest = served.audit()[0]
    assert newest.actor.startswith("bob")
    assert newest.action == "config set POOL set PRICE"
    again = served.ask("PATCH", path, fresh["deployer"], {"PRICE": VALUE, "NONE": None})
    assert not again.json["changed"]
    assert served.ask("PATCH", path, fresh["deployer"], {"PRICE": None}).json["changed"]
    with served.opened() as gatling:
        assert "PRICE" not in config.of_app(gatling.db, "shop")
    debug = served.root / "home/debug.log"
    assert not debug.exists()


def test_maintenance_and_a_message(served: Served, fresh: dict[str, str]) -> None:
    path = "/v1/apps/shop/maintenance"
    found = served.ask("PUT", path, fresh["deployer"], {"message": "Back at 14:00."})
    assert (found.status, found.json["maintenance"]) == (200, True)
    assert served.ask("DELETE", path, fresh["deployer"]).json["maintenance"] is False


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/apps/shop/deployments/99", None, 404, "not-found"),
        ("GET", "/v1/apps/shop/deployments/x", None, 422, "invalid-input"),
        ("GET", f"/v1/apps/shop/deployments/{2**70}", None, 422, "invalid-input"),
        ("GET", "/v1/apps/Shop", None, 422, "invalid-input"),
        ("GET", "/v1/apps/..%2f", None, 404, "not-found"),
        ("GET", "/v1/apps/shop/", None, 404, "not-found"),
        ("GET", "/v2/apps", None, 404, "not-found"),
        ("GET", "/v1/apps?app=shop", None, 422, "invalid-input"),
        ("GET", "/v1/apps/shop/deployments?limit=0", None, 422, "invalid-input"),
        ("GET", "/v1/apps/shop/deployments?limit=1&limit=2", None, 422, "invalid-input"),
        ("GET", "/v1/apps/shop/stats?since=never", None, 422, "invalid-input"),
        ("DELETE", "/v1/apps/shop", None, 405, "method-not-allowed"),
        ("OPTIONS", "/v1/apps", None, 405, "method-not-allowed"),
        ("PATCH", "/v1/apps/shop/config", b"{", 400, "malformed"),
        ("PATCH", "/v1/apps/shop/config", b"\xff", 400, "malformed"),
        ("PATCH", "/v1/apps/shop/config", {}, 422, "invalid-input"),
        ("PATCH", "/v1/apps/shop/config", {"A": 1}, 422, "invalid-input"),
        ("PATCH", "/v1/apps/shop/config", {"a b": "1"}, 422, "invalid-input"),
        ("PATCH", "/v1/apps/shop/config?restart=perhaps", {"A": "1"}, 422, "invalid-input"),
        ("POST", "/v1/apps/shop/rollback", {"release": "v1", "x": 1}, 422, "invalid-input"),
        ("POST", "/v1/apps/shop/rollback", b"[" * 60_000, 400, "malformed"),
        ("POST", "/v1/apps/shop/stop", {"x": 1}, 422, "invalid-input"),
        ("POST", "/v1/apps/shop/domains", {"domain": "a b"}, 422, "invalid-input"),
        ("POST", "/v1/apps/shop/domains", {"domain": "a.de", "other_app": "-"}, 422,
         "invalid-input"),
        ("PATCH", "/v1/apps/shop/settings", {"health.pth": "/"}, 422, "invalid-input"),
        ("PATCH", "/v1/apps/shop/settings", {"health.path": ["/"]}, 422, "invalid-input"),
        ("POST", "/v1/apps/shop/jobs/..%00/run", None, 404, "not-found"),
        ("GET", "/v1/apps/shop/jobs/runs?job=", None, 422, "invalid-input"),
        ("POST", "/v1/channels", {"name": "x", "target": "file:///etc"}, 422, "invalid-input"),
        ("DELETE", "/v1/channels/x%27y", None, 404, "not-found"),
    ],
)  # fmt: skip
def test_requests_that_cannot_be_accepted(
    served: Served, method: str, path: str, body: Any, status: int, code: str
) -> None:
    name = f"zoe{time.monotonic_ns()}"
    found = served.ask(method, path, served.token(name, "admin"), body)
    assert (found.status, found.code) == (status, code), found.text
    assert found.json["error"].keys() == {"code", "message", "hint", "log"}
    if status == 405:
        assert found.headers["allow"]


def test_bodies_have_a_limit_and_a_type(served: Served, fresh: dict[str, str]) -> None:
    path, token = "/v1/apps/shop/config", fresh["deployer"]
    plain = {"Content-Type": "text/plain"}
    assert served.ask("PATCH", path, token, b"{}", plain).status == 415
    large = b'{"A": "' + b"x" * (1 << 20) + b'"}'
    # the server may answer and close before it has got everything
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        assert served.ask("PATCH", path, token, large).status == 413
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        pieces = {"Transfer-Encoding": "chunked"}
        assert served.ask("PATCH", path, token, large, pieces).status in (400, 413)
    with served.opened() as gatling:
        assert "A" not in config.of_app(gatling.db, "blog")
    assert served.ask("GET", "/v1/me", token).status == 200


def test_a_locked_app_is_a_conflict(served: Served, fresh: dict[str, str]) -> None:
    with served.opened() as gatling:
        locks.put(gatling.db, "shop", actor="ann", reason="freeze")
        gatling.db.execute("UPDATE apps SET live_release = 2, live_slot = 1 WHERE name = 'shop'")
    try:
        found = served.ask("POST", "/v1/apps/shop/rollback", fresh["deployer"], {"release": "v1"})
        assert (found.status, found.code) == (409, "locked"), found.text
    finally:
        with served.opened() as gatling:
            locks.remove(gatling.db, "shop")
            gatling.db.execute("UPDATE apps SET live_release = NULL, live_slot = NULL")


def test_a_token_that_asks_too_much_keeps_no_other_waiting(
    served: Served, fresh: dict[str, str]
) -> None:
    assert served.ask("GET", "/v1/me", fresh["reader"]).status == 200
    # side by side, and as many as it takes: on a slow machine a token may ask again meanwhile
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            asked = [pool.submit(served.ask, "GET", "/v1/me", fresh["reader"]) for _ in range(70)]
            refused = [one.result() for one in asked if one.result().status == 429]
            if refused:
                break
    assert refused[0].code == "too-many-requests"
    assert int(refused[0].headers["retry-after"]) >= 1
    assert served.ask("GET", "/v1/me", fresh["deployer"]).status == 200


def test_requests_at_the_same_time(served: Served, fresh: dict[str, str]) -> None:
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        paths = ["/v1/apps", "/v1/apps/shop", "/v1/apps/shop/stats", "/v1/apps/blog/releases"] * 5
        asked = [pool.submit(served.ask, "GET", path, fresh["admin"]) for path in paths]
        statuses = [one.result().status for one in asked]
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 4


def test_the_socket_is_this_user_s_alone_and_there_is_one_server(served: Served) -> None:
    assert served.place == str(served.root / "home/run/api.sock")
    assert stat.S_IMODE(Path(served.place).stat().st_mode) == 0o600
    second = subprocess.run(
        [sys.executable, "-I", "-m", "gatling", "api", "--listen", "127.0.0.1:1"], env=served.env,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (second.returncode, second.stdout) == (3, "")
    assert "is served already" in second.stderr


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:8090", "192.0.2.1:80", "127.0.0.1:0", "api.sock", "[::]:80", "1.2.3:4"]
)
def test_no_other_place_than_loopback_or_a_socket(home: Served, listen: str) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "gatling", "api", "--listen", listen], env=home.env,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, ""), done.stderr


def test_a_server_that_was_killed_leaves_no_socket_in_the_way(home: Served) -> None:
    text, place = home.token("rita", "reader"), home.root / "home/run/api.sock"
    place.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(place))
    with server(home):
        assert home.ask("GET", "/v1/me", text).status == 200
    assert not place.exists()


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_the_packages_it_says_which_to_install(home: Served, package: str) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['gatling', 'api']\n"
        "from gatling.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], env=home.env, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stdout) == (8, "")
    assert f"The HTTP API needs {package}, which is not installed." in done.stderr
    assert "-m pip install starlette uvicorn`" in done.stderr


def test_no_command_loads_the_api(home: Served) -> None:
    program = (
        "import sys; sys.argv = ['gatling', 'apps']\n"
        "from gatling.cli import run_command_line\n"
        "assert run_command_line() == 0\n"
        "known = ('starlette', 'uvicorn', 'h11', 'asyncio', 'gatling.api')\n"
        "sys.exit([name for name in sys.modules if name.startswith(known)] or None)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], env=home.env, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
