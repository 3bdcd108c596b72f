"""Notifications of a server: sent in a unit of their own when something waits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.conftest import until

if TYPE_CHECKING:
    from tests.server.server import Checkout, Server

SINK = """\
import http.server, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open("/root/got", "ab") as file:
            file.write(body + b"\\n")
        self.send_response(204)
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", 8099), Handler).serve_forever()
"""


def test_failures_are_reported(server: Server, shop: Checkout) -> None:
    box = server.box
    box.exec(["tee", "/root/sink.py"], stdin=SINK)
    box.exec(["systemd-run", "--unit=sink", "python3", "/root/sink.py"])
    box.exec(["gatling", "notify", "add", "ops", "http://127.0.0.1:8099/"])
    until(lambda: "accepted" in box.exec(["gatling", "notify", "test", "ops"], check=False).stdout,
          "the test")  # fmt: skip

    def told() -> list[dict[str, str]]:
        lines = box.exec(["cat", "/root/got"], check=False).stdout.splitlines()
        found = [json.loads(line) for line in lines]
        return [one["data"] | {"type": one["type"]} for one in found if one["type"] != "test"]

    shop.write("mix.exs", "this is no Elixir (")
    shop.title("broken")
    shop.push(ok=False)
    until(told, "the notification of the push", 60)
    assert told()[0]["type"] == "deployment.failed"

    # of a crash, by the timer of recovery
    box.exec(["systemctl", "kill", "--signal=KILL", "gatling@shop.1.service"])
    until(lambda: len(told()) > 1, "the notification of the crash", 120)
    crash = told()[1]
    assert (crash["type"], crash["app"], crash["cause"]) == (
        "instance.ended", "shop", "killed by SIGKILL",
    )  # fmt: skip
    assert box.exec(["systemctl", "is-failed", "gatling-notify.service"], check=False).stdout != (
        "failed\n"
    )
