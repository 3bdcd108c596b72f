"""What every platform has to fulfil (platform/interface.py), as a program without pytest.

`python contract.py` checks the platform of the home in use, with an app of its own whose instances
are a small web server. Tests run it for an embedded home, and inside of a Debian server.
"""

from __future__ import annotations

import contextlib
import http.client
import secrets
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gatling import files
from gatling.errors import CommandFailed, GatlingError, PortTaken, TimedOut
from gatling.operations import apps as operations
from gatling.operations import lifecycle
from gatling.platform.base import Instance, Prepared, State, Status, Task
from gatling.platform.local_paths import LocalPaths
from gatling.platform.open import Gatling, open_gatling
from gatling.state import apps, watches
from gatling.ui.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatling.state.apps import App

SECONDS = 60.0
Error = TypeVar("Error", bound=GatlingError)
APP = "contract"
DIGESTED = "app-0123456789abcdef0123456789abcdef.js"

# Seconds that nothing else sleeps: a box whose platform is checked, too, shows its processes here.
SLEEPER, CHILD = (str(10_000_000 + secrets.randbelow(90_000_000)) for _ in range(2))
PROGRAM = """#!/usr/bin/python3 -u
import http.server, os, signal, subprocess, sys
RELEASE = os.path.basename(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if len(sys.argv) > 1 and sys.argv[1] == "sleep":
    subprocess.Popen(["sleep", "SLEEPER"])
    print("sleeping", flush=True)
    signal.pause()
if len(sys.argv) > 1 and sys.argv[1] == "fail":
    print("it fails")
    sys.exit(3)
if len(sys.argv) > 1 and sys.argv[1] == "say":
    print("said", os.environ["WORD"], os.getcwd())
    sys.exit()
if os.environ.get("STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/crash":
            os._exit(3)
        print("asked for " + self.path)
        body = RELEASE.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
if os.environ.get("CHILD"):
    subprocess.Popen(["sleep", "CHILD"])
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
print("serving " + RELEASE)
server.serve_forever()
""".replace("SLEEPER", SLEEPER).replace('CHILD"]', f'{CHILD}"]')


def until(look: Callable[[], bool], what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + SECONDS
    while not look():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def raised(kind: type[Error], call: Callable[[], object]) -> Error:
    """The error of this very kind that a call raises."""
    try:
        call()
    except kind as error:
        if type(error) is kind:
            return error
        raise
    raise AssertionError(f"{kind.__name__} was not raised")


class Bench:
    """The platform, and an app with two releases."""

    def __init__(self, gatling: Gatling, app: App) -> None:
        self.gatling, self.app = gatling, app
        self.paths = gatling.home.app(app.name)
        self.instances = gatling.instances

    def instance(self, release: int, slot: int | str, **more: str) -> Instance:
        tree = self.paths.release(release)
        port = self.app.ports[slot] if isinstance(slot, int) else 0
        around = self.gatling.apps.surroundings(self.app.name)
        return Instance(
            app=self.app.name, slot=slot, release=release,
            argv=(str(tree / "bin/serve"), *(["sleep"] if isinstance(slot, str) else [])),
            env=dict(around.runtime) | {"PORT": str(port)} | more, cwd=tree,
            ports=self.app.every_port,
        )  # fmt: skip

    def start(self, release: int, slot: int = 1, **more: str) -> Status:
        self.instances.start(self.instance(release, slot, **more))
        until(lambda: self.body(slot) == f"v{release}", f"v{release} in slot {slot}")
        return self.instances.status(self.app.name, slot)

    def body(self, slot: int, path: str = "/") -> str | None:
        address = self.instances.address(self.app, slot)
        return _get(address.host, address.port, path, "localhost")[1]

    def stop(self, slot: int | str = 1, seconds: float = 10) -> None:
        self.instances.stop(self.app.name, slot, seconds)

    def through_proxy(self, path: str = "/") -> tuple[int | None, str | None]:
        address = self.gatling.router.probe_address()
        return _get(address.host, address.port, path, self.app.primary_domain)

    def task(self, *words: str) -> Task:
        around = self.gatling.apps.surroundings(self.app.name)
        tree = self.paths.release(1)
        env = dict(around.runtime) | {"WORD": "a word"}
        return Task(self.paths, "release", [str(tree / "bin/serve"), *words], env, tree)


def _get(host: str, port: int, path: str, name: str) -> tuple[int | None, str | None]:
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=5)) as connection:
        try:
            connection.request("GET", path, headers={"Host": name})
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            return None, None


@contextlib.contextmanager
def bench(gatling: Gatling) -> Iterator[Bench]:
    """An app with two releases, which is gone at the end."""
    lifecycle.ensure_up(gatling, Progress())
    app = operations.load(gatling, APP)
    try:
        paths = gatling.home.app(APP)
        for number in (1, 2):
            program = paths.release(number) / "bin/serve"
            program.parent.mkdir(parents=True)
            program.write_text(PROGRAM)
            program.chmod(0o755)
            asset = paths.release(number) / "lib/shop-0.1.0/priv/static/assets" / DIGESTED
            asset.parent.mkdir(parents=True)
            asset.write_text(f"of v{number}")
        yield Bench(gatling, app)
    finally:
        operations.unload(gatling, APP, Progress())


def an_empty_slot(it: Bench) -> None:
    """Nothing runs there, nothing is known of it, and to stop it does nothing."""
    status = it.instances.status(APP, 1)
    assert (status.state, status.process, status.up) == (State.STOPPED, None, False), status
    assert it.instances.started_as(APP, 1) is None
    assert it.instances.prepared(APP, 1) is None
    assert it.instances.command_line(APP, 1) == []
    assert it.instances.listening(it.app, 1) == []
    assert it.instances.connections(it.app, 1)() == 0
    it.instances.check_free(it.app, 1)
    it.stop()


def an_instance_that_runs(it: Bench) -> None:
    """It is found at its address, and everything about it is known."""
    status = it.start(1)
    assert status.up
    assert status.process
    assert it.instances.started_as(APP, 1) == 1
    assert it.instances.prepared(APP, 1) == Prepared(1, it.instance(1, 1).argv)
    assert any(word.endswith("/serve") for word in it.instances.command_line(APP, 1))
    known = it.instances.statuses([(APP, 1), (APP, 2)])
    assert known[APP, 1].up
    assert (APP, 2) not in known or not known[APP, 2].up
    used = it.instances.usages(known)
    assert used.keys() == {(APP, 1)}
    assert used[APP, 1].memory > 1 << 20
    assert it.instances.ends(APP, 1) == []
    assert not it.instances.is_intruded(it.app, 1)
    around = it.gatling.apps.surroundings(APP)
    assert it.instances.node_address(it.app, 1).host == around.node_host
    address = it.instances.address(it.app, 1)
    assert any(f":{address.port}" in where for where in it.instances.listening(it.app, 1))
    it.stop()


def its_clients_are_counted(it: Bench) -> None:
    """As long as they are connected, and not after what they are connected to is gone."""
    it.start(1)
    address = it.instances.address(it.app, 1)
    count = it.instances.connections(it.app, 1)
    with socket.create_connection((address.host, address.port), 5):
        until(lambda: count() == 1, "a client")
    until(lambda: count() == 0, "the end of the client")
    it.stop()
    assert count() == 0


def two_slots_at_once(it: Bench) -> None:
    """Each has its address and its release; to stop one leaves the other alone."""
    one, two = it.start(1, 1), it.start(2, 2)
    assert one.process != two.process
    it.stop(1)
    assert it.body(2) == "v2"
    assert it.instances.started_as(APP, 2) == 2
    it.stop(2)


def a_crash(it: Bench) -> None:
    """It is started again, as what was prepared for the next start, and the end is known."""
    before = it.start(1)
    it.instances.prepare(it.instance(2, 1))
    assert it.body(1) == "v1"
    assert it.instances.status(APP, 1).process == before.process
    assert it.instances.prepared(APP, 1) == Prepared(2, it.instance(2, 1).argv)
    it.body(1, "/crash")
    until(lambda: it.body(1) == "v2", "the other release")
    until(lambda: it.instances.status(APP, 1).up, "the new instance")
    assert it.instances.status(APP, 1).process != before.process
    (end,) = it.instances.ends(APP, 1)
    assert "3" in end.cause, end
    it.stop()
    assert it.instances.ends(APP, 1) == []


def an_end(it: Bench) -> None:
    """Takes along what ignores SIGTERM, and what the instance has started."""
    it.start(1, STUBBORN="1", CHILD="1")
    until(lambda: _running(CHILD), "the child")
    started = time.monotonic()
    it.stop(1, 1)
    assert 0.9 < time.monotonic() - started < SECONDS
    assert it.instances.status(APP, 1).state == State.STOPPED
    assert not _running(CHILD)
    assert it.body(1) is None


def a_port_that_is_taken(it: Bench) -> None:
    """By a stranger: it is named before anything is started."""
    address = it.instances.address(it.app, 1)
    with socket.create_server((address.host, address.port)):
        assert not it.gatling.apps.may_have(address.port)
        error = raised(PortTaken, lambda: it.instances.check_free(it.app, 1))
        assert str(address.port) in error.what


def a_process(it: Bench) -> None:
    """A slot of a further process comes and goes."""
    it.instances.start(it.instance(1, "worker.1"))
    until(lambda: it.instances.status(APP, "worker.1").up, "the process")
    assert it.instances.process_slots(APP) == ["worker.1"]
    until(lambda: it.instances.started_as(APP, "worker.1") == 1, "its release")
    it.stop("worker.1")
    it.instances.discard(APP, "worker.1")
    assert it.instances.process_slots(APP) == []
    assert not _running(SLEEPER)


def logs(it: Bench) -> None:
    """Each line with its release; who follows misses none."""
    it.start(1)
    until(lambda: "serving v1" in [x.text for x in it.gatling.logs.read(APP, lines=50)], "a line")
    (line,) = [x for x in it.gatling.logs.read(APP, lines=50) if x.text == "serving v1"][-1:]
    assert line.release == "v1"
    followed: list[str] = []
    seen = threading.Event()

    def follow() -> None:
        for each in it.gatling.logs.follow(APP, lines=1):
            followed.append(each.text)
            seen.set()
            if each.text.endswith("/last"):
                return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    until(seen.is_set, "the line before")
    for path in ("/first", "/second", "/last"):
        it.body(1, path)
    follower.join(SECONDS)
    asked = [text for text in followed if text.startswith("asked for /") and len(text) > 11]
    assert asked == ["asked for /first", "asked for /second", "asked for /last"], followed
    it.stop()


def the_proxy(it: Bench) -> None:
    """Sends requests where it is pointed, at once, and says so."""
    router = it.gatling.router
    assert router.pointed(APP) is None
    assert it.through_proxy()[0] == 503
    assert APP in router.url(it.app)
    it.start(1, 1)
    it.start(2, 2)
    for slot, body in ((1, "v1"), (2, "v2"), (1, "v1")):
        router.point(APP, slot)
        assert router.pointed(APP) == slot
        assert it.through_proxy() == (200, body)
    assert it.gatling.configure_router() is False
    router.check()
    router.point(APP, None)
    assert it.through_proxy()[0] == 503
    it.stop(1)
    it.stop(2)


def what_the_proxy_serves_itself(it: Bench) -> None:
    """A page of maintenance in the place of the app, and digested files of releases."""
    router, one, two = it.gatling.router, it.paths.release(1), it.paths.release(2)
    it.start(1)
    router.point(APP, 1)
    router.publish(APP, "<h1>away</h1>", [])
    assert router.in_maintenance(APP)
    status, body = it.through_proxy()
    assert (status, body) == (503, "<h1>away</h1>")
    router.publish(APP, None, [two, one])
    assert not router.in_maintenance(APP)
    assert it.through_proxy() == (200, "v1")
    assert it.through_proxy(f"/assets/{DIGESTED}") == (200, "of v2")
    router.publish(APP, None, [])
    assert it.through_proxy(f"/assets/{DIGESTED}") == (200, "v1")
    it.stop()
    router.point(APP, None)


def tasks(it: Bench) -> None:
    """Their output, their end, their time limit; what they start ends with them."""
    lines: list[str] = []
    run = it.gatling.tasks.run
    assert run(it.task("say"), timeout=SECONDS, on_line=lines.append).status == 0
    assert lines == [f"said a word {it.paths.release(1)}"], lines
    failed = raised(CommandFailed, lambda: run(it.task("fail"), timeout=SECONDS))
    assert "it fails" in failed.log, failed.log
    late = raised(TimedOut, lambda: run(it.task("sleep"), timeout=2))
    assert "sleeping" in late.log, late.log
    until(lambda: not _running(SLEEPER), "the end of what it started")


def a_watch(it: Bench) -> None:
    """It runs in the background: here it finds that its release is not the live one."""
    db = it.gatling.db
    with db.transaction():
        watches.put(db, watches.Watch(APP, 1, 999, 998, 0.0, time.time() + 600, (0, 0, 0, 0, 0)))
    it.gatling.schedule.watch(APP)
    until(lambda: watches.of_app(db, APP) is None, "the watching process")


def a_sampler(it: Bench) -> None:
    """It runs while it is wanted, which its lock shows."""

    def runs() -> bool:
        with files.open_lock(it.gatling.home.root / "watch.lock") as lock:
            return not files.try_lock(lock)

    it.gatling.schedule.sample(wanted=True)
    until(runs, "the sampler")
    it.gatling.schedule.sample(wanted=False)
    until(lambda: not runs(), "its end")


def the_schedule(it: Bench) -> None:
    """Can be set, set again, and emptied."""
    for jobs in ({"tick": "0 0 29 2 *"}, {"tick": "0 0 29 2 *", "tock": "* * 29 2 *"}, {}, {}):
        it.gatling.schedule.set(APP, jobs)


def _running(argument: str) -> bool:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
            if words[:2] == [b"sleep", argument.encode()]:
                return True
    return False


CHECKS: tuple[Callable[[Bench], None], ...] = (
    an_empty_slot,
    an_instance_that_runs,
    its_clients_are_counted,
    two_slots_at_once,
    a_crash,
    an_end,
    a_port_that_is_taken,
    a_process,
    logs,
    the_proxy,
    what_the_proxy_serves_itself,
    tasks,
    a_watch,
    a_sampler,
    the_schedule,
)


def broken(gatling: Gatling) -> list[str]:
    """The checks that fail, each with its traceback; and what is left of the app at the end."""
    found = []
    with bench(gatling) as it:
        for check in CHECKS:
            try:
                check(it)
            except Exception:  # noqa: BLE001 (the others are made as well)
                found.append(f"{check.__name__}:\n{traceback.format_exc()}")
                there: list[int | str] = [1, 2, *it.instances.process_slots(APP)]
                for slot in there:
                    it.stop(slot, 1)
    places = [it.paths.repository, it.paths.root]
    places += [it.paths.route] if isinstance(it.paths, LocalPaths) else []
    left = [str(path) for path in places if path.exists()]
    if left:
        found.append(f"left after unload: {', '.join(left)}")
    if APP in [app.name for app in apps.every(gatling.db)]:
        found.append("the records still know the app")
    return found


def main() -> int:
    """Say which checks fail; the exit status."""
    with open_gatling() as gatling:
        found = broken(gatling)
    for text in found:
        sys.stdout.write(f"{text}\n")
    sys.stdout.write(f"{len(CHECKS)} checks, {len(found)} failed\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
