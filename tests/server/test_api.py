"""The HTTP API on a server, with the unit that docs/operations.md shows."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

from tests.conftest import ROOT, until

if TYPE_CHECKING:
    from tests.server.server import Server

PORT = 8090


def unit() -> str:
    """The unit on the page."""
    found = re.search(
        r"^# /etc/systemd/system/gatling-api\.service\n(.*?)^```",
        (ROOT / "docs/operations.md").read_text(), re.DOTALL | re.MULTILINE,
    )  # fmt: skip
    assert found
    return found[1]


def ask(server: Server, token: str, method: str, path: str, body: object = None) -> Any:
    """A request from the server itself, by curl."""
    words = ["curl", "-sS", "-X", method, "-H", f"Authorization: Bearer {token}",
             f"http://127.0.0.1:{PORT}/v1{path}"]  # fmt: skip
    if body is not None:
        words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    return json.loads(server.box.exec(words).stdout)


def test_deployments_over_http(server: Server) -> None:
    admin = server.admin("mia")
    project = admin.project()
    project.push()
    server.box.exec(["tee", "/etc/systemd/system/gatling-api.service"], stdin=unit())
    server.box.exec(["systemctl", "enable", "--now", "--quiet", "gatling-api"])
    token = re.findall(
        r"^gatling_\S+", admin.run("tokens", "add", "ci", "--role", "deployer", "--app", "shop"),
        re.MULTILINE,
    )[0]  # fmt: skip
    until(
        lambda: server.box.exec(["curl", "-s", f"http://127.0.0.1:{PORT}/"], check=False).stdout,
        "the API",
    )
    assert [one["app"] for one in ask(server, token, "GET", "/apps")] == ["shop"]
    done = ask(server, token, "POST", "/apps/shop/restart")
    assert (done["outcome"], done["actor"]) == ("succeeded", "ci")
    stopped = ask(server, token, "POST", "/apps/shop/stop")
    assert stopped["state"] == "stopped"
    assert ask(server, token, "POST", "/apps/shop/start")["state"] == "running"
    assert ask(server, token, "GET", "/apps/shop/stats")["node"]["numbers"]["schedulers"] >= 1
    assert ask(server, token, "GET", "/apps/shop/plan?release=v1")["target"] == "v1"
    job = {"schedule.hello.cron": "0 0 1 1 *", "schedule.hello.command": "eval IO.puts(1)"}
    assert len(ask(server, token, "PATCH", "/apps/shop/settings", job)["applied"]) == 2
    ran = ask(server, token, "POST", "/apps/shop/jobs/hello/run")
    assert (ran["outcome"], ran["actor"]) == ("succeeded", "ci")
    (listed,) = ask(server, token, "GET", "/apps/shop/jobs")
    assert listed["last"] == ran
    assert ask(server, token, "GET", "/apps/shop/jobs/runs?job=hello") == [ran]
    refused = ask(server, token, "GET", "/apps/blog")
    assert refused["error"]["code"] == "not-allowed"
    pid = server.show("gatling-api.service", "MainPID")["MainPID"]
    assert server.box.exec(["ps", "-o", "user=", "-p", pid]).stdout.strip() == "gatling"

    # a deployment goes on when the API is restarted
    newest = server.last()["id"]
    line = shlex.join([
        "curl", "-s", "--retry", "9", "--retry-connrefused", "-X", "PATCH", "-H",
        f"Authorization: Bearer {token}", "-H", "Content-Type: application/json",
        "-d", '{"A": "1"}', f"http://127.0.0.1:{PORT}/v1/apps/shop/config",
    ])  # fmt: skip
    server.box.exec(["systemd-run", "--quiet", "--unit=asking", "sh", "-c", line])
    until(lambda: server.last()["id"] > newest, "the deployment")
    server.box.exec(["systemctl", "restart", "gatling-api"])
    until(lambda: server.last()["outcome"] != "running", "its end")
    assert (server.last()["outcome"], server.last()["actor"]) == ("succeeded", "ci")
    assert server.json("config", "list", "shop")["A"] == "1"
