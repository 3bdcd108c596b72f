"""A watch in a real home, as a program without pytest: the release is a small web server.

`python watched.py` deploys v1 and v2, lets clients ask, and waits until v2, which fails every
second request but the health check, is undone by the process in the background: by a switch to the
instance of v1, which is kept ready.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import time

from gatling.operations import apps as operations
from gatling.operations import deploys, lifecycle
from gatling.platform.open import Gatling, open_gatling
from gatling.state import apps, audit, deployments, releases, watches
from gatling.state.releases import Release
from gatling.ui.progress import Progress

APP = "shop"
SECONDS = 90.0
PROGRAM = """#!/usr/bin/python3 -u
import http.server, os
RELEASE = os.path.basename(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += self.path == "/page"
        fails = RELEASE == "v2" and self.path == "/page" and Handler.asked % 2
        self.send_response(500 if fails else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def release(gatling: Gatling, number: int) -> None:
    """Store a release that is this web server."""
    program = gatling.home.app(APP).release(number) / "bin" / APP
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM)
    program.chmod(0o755)
    releases.add(
        gatling.db,
        Release(
            app=APP, number=number, origin="build", base=None, commit=f"{number}" * 40, name=APP,
            version="0.1.0", elixir="", otp="", config={}, bytes=0, created_at="", removed_at=None,
        ),
    )  # fmt: skip


def ask(gatling: Gatling, times: int) -> None:
    """Send requests through the proxy."""
    address = gatling.router.probe_address()
    for _ in range(times):
        with contextlib.closing(http.client.HTTPConnection(address.host, address.port)) as client:
            client.request("GET", "/page", headers={"Host": f"{APP}.localhost"})
            client.getresponse().read()


def main() -> None:
    """Deploy, watch, and check what is recorded."""
    with open_gatling() as gatling:
        lifecycle.ensure_up(gatling, Progress())
        operations.load(gatling, APP)
        # so that nothing depends on a node, which there is none of
        wanted = {"deploy.strategy": "rolling", "deploy.second_instance": "allow",
                  "instance.drain": "0", "rolling.watch": "10m"}  # fmt: skip
        apps.change_settings(gatling.db, APP, lambda _: wanted)
        for number in (1, 2):
            release(gatling, number)
        deploys.deploy_release(gatling, APP, 1, cause="deploy", progress=Progress())
        ask(gatling, 150)
        time.sleep(0.3)  # what nginx holds back
        ready = gatling.instances.status(APP, 1).pid
        deploys.deploy_release(gatling, APP, 2, cause="deploy", progress=Progress())
        (watch,) = watches.every(gatling.db)
        assert (watch.release, watch.previous, watch.previous_slot) == (2, 1, 1), watch
        assert watch.before[1:3] == (150, 0), watch
        assert gatling.instances.status(APP, 1).pid == ready, "it is kept ready"
        deadline = time.monotonic() + SECONDS
        while apps.get(gatling.db, APP).live_release != 1:
            assert time.monotonic() < deadline, audit.latest(gatling.db, APP)
            ask(gatling, 10)
        while watches.every(gatling.db) or deployments.running(gatling.db, APP):
            time.sleep(0.05)
        undone, bad = deployments.of_app(gatling.db, APP)[:2]
        while not bad.error:
            assert time.monotonic() < deadline, bad
            bad = deployments.get(gatling.db, bad.id)
        assert (undone.cause, undone.outcome, undone.release) == ("watch", "succeeded", 1), undone
        assert bad.error.startswith("v2 was undone. Within "), bad
        share = re.search(r"requests failed \(([0-9.]+)", bad.error)
        assert share, bad
        assert abs(float(share[1]) - 50) < 20, bad
        assert gatling.instances.status(APP, 1).pid == ready, "it was switched to"
        assert undone.reasons == ("v1 is still running",), undone
        print(bad.error)


if __name__ == "__main__":
    main()
