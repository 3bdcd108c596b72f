"""What commands do on every platform: the same app, the same commands, the same results.

tests/contract.py is about the protocols of platforms of this machine. Apps on a cluster have none
of these, and users know commands: each check here states one thing that they rely on. It runs in an
embedded home, on a server over SSH, and on a real cluster. `DIFFERENCES` names what is not the same
everywhere, with the reason.
"""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from gatling.errors import Exit
from tests.conftest import until, warm

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.conftest import Project, World

Kind = Literal["embedded", "server", "cluster"]
MANIFEST = """\
[processes.worker]
command = "eval 'IO.puts(:working); Process.sleep(:infinity)'"
instances = 0
stop = 1

[schedule.report]
cron = "0 4 29 2 *"
command = "eval 'IO.puts(\\"report of \\" <> System.get_env(\\"GATLING_PROCESS\\"))'"

[schedule.broken]
cron = "0 5 29 2 *"
command = "eval System.halt(5)"
"""
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?P<release>v\d+)(?P<of>\[\S+\])? .*")


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str


class Place(Protocol):
    """An app named `shop` on a platform, as its users reach it."""

    kind: Kind

    @property
    def project(self) -> Project:
        """A clone whose remote is the app. The app is not deployed yet."""
        ...

    def run(self, *words: str) -> Done:
        """`gatling WORDS`."""
        ...

    def ask(self) -> tuple[int, str]:
        """Status and text of the app's page, asked for from outside; raises OSError."""
        ...

    def load(self) -> AbstractContextManager[list[str]]:
        """Ask again and again while the block runs; the failures are complete after it."""
        ...

    def kill(self) -> None:
        """SIGKILL to the process of the only instance."""
        ...


def at_home(world: World, *words: str) -> Done:
    """`gatling WORDS` in a home of this machine, with what it wrote to each of its two outputs."""
    with tempfile.TemporaryFile("w+") as errors:
        done = warm().run(words, env=world.env, stderr=errors.fileno())
        errors.seek(0)
        return Done(done.returncode, done.stdout, errors.read())


class Bench:
    """The app, pushed once."""

    def __init__(self, place: Place) -> None:
        self.place, self.project = place, place.project
        self.project.write("gatling.toml", MANIFEST)
        self.project.commit("with a worker and jobs")
        self.first = self.project.push()

    def ok(self, *words: str) -> str:
        """The output of a command that succeeds."""
        done = self.place.run(*words)
        assert done.status == 0, (words, done)
        assert "Traceback" not in done.err
        return done.out

    def json(self, *words: str) -> Any:
        return json.loads(self.ok(*words, "--json"))

    def status(self) -> Any:
        return self.json("status", "shop")

    def last(self) -> Any:
        """The newest deployment."""
        return self.json("deployments", "shop")[0]

    def live(self) -> str:
        return str(self.status()["release"])

    def shows(self, text: str, status: int = 200) -> bool:
        """Whether the page is there, with this text."""
        try:
            found, page = self.place.ask()
        except OSError:
            return False
        return found == status and text in page

    def push(self, title: str) -> str:
        """Push a change of one line."""
        self.project.title(title)
        return self.project.push()

    def deploys(self, *words: str) -> None:
        """A command that deploys, and the end of what goes on in the background after it."""
        self.ok(*words)
        until(lambda: not self.project.is_checked(), "the end of the boot check")

    def records(self) -> Any:
        """All that a command which changes nothing leaves as it is."""
        return [self.json(word, "shop") for word in ("deployments", "releases")], self.live()


# ---------------------------------------------------------------- what users rely on


def a_first_push(it: Bench) -> None:
    """The app is live, with its page, and on record."""
    first = it.json("deployments", "shop")[-1]
    known = {key: first[key] for key in ("release", "previous", "cause", "strategy", "outcome")}
    assert known == {
        "release": "v1", "previous": None, "cause": "push", "strategy": "start",
        "outcome": "succeeded",
    }  # fmt: skip
    assert "v1 is live" in it.first
    assert it.shows("<title>")


def a_push_its_plan_and_the_way_back(it: Bench) -> None:
    """A change of one line is live without a failed request, as planned, and so is the way back."""
    before = it.live()
    with it.place.load() as failures:
        said = it.push("Autumn")
        until(lambda: it.shows("Autumn"), "the new page")
    assert not failures, failures[:5]
    now = it.live()
    assert now != before
    assert f"{now} is live" in said
    last = it.last()
    assert (last["release"], last["previous"], last["outcome"], last["strategy"]) == (
        now, before, "succeeded", "hot",
    ), last  # fmt: skip

    records = it.records()
    planned = it.json("plan", "shop", before)
    glanced = it.json("plan", "shop", before, "--files")
    assert it.records() == records
    assert it.shows("Autumn")
    assert (planned["live"], planned["target"]) == (now, before)
    assert planned["changed"] == [{"app": "counter", "module": "Counter.Page"}]
    assert (glanced["strategy"], glanced["changed"]) == (None, planned["changed"])

    with it.place.load() as failures:
        it.deploys("rollback", "shop", before)
        until(lambda: not it.shows("Autumn"), "the page of before")
    assert not failures, failures[:5]
    last = it.last()
    assert (last["release"], last["cause"]) == (before, f"rollback to {before}")
    assert (last["strategy"], last["reasons"]) == (planned["strategy"], planned["reasons"])
    with it.place.load() as failures:
        it.deploys("rollback", "shop", "--strategy", "rolling")
        until(lambda: it.shows("Autumn"), "the new page again")
    assert not failures, failures[:5]
    assert (it.live(), it.last()["strategy"]) == (now, "rolling")


def a_push_that_does_not_compile(it: Bench) -> None:
    """It is refused, on record, and the live release serves on."""
    live, text = it.live(), it.place.ask()[1]
    releases = it.json("releases", "shop")
    it.project.replace("lib/counter/page.ex", "def title,", "def title(,")
    it.project.commit("broken")
    said = it.project.push(ok=False)
    it.project.git("reset", "--quiet", "--hard", "HEAD~1")
    assert "lib/counter/page.ex" in said
    assert f"{live} is still live" in said
    last = it.last()
    assert (last["outcome"], last["release"], last["previous"]) == ("failed", None, live)
    assert last["error"]
    assert it.json("releases", "shop") == releases
    assert (it.live(), it.place.ask()[1]) == (live, text)


def a_lock(it: Bench) -> None:
    """Deployments are refused as long as it is there."""
    before = it.records()
    it.ok("lock", "shop", "--message", "Release freeze")
    it.project.commit("frozen")
    assert "Release freeze" in it.project.push(ok=False)
    it.project.git("reset", "--quiet", "--hard", "HEAD~1")
    assert it.place.run("rollback", "shop").status == Exit.REFUSED
    it.ok("unlock", "shop")
    assert it.records() == before


def config(it: Bench) -> None:
    """It reaches the instance at once, or with the next deployment."""
    before = it.live()
    it.deploys("config", "set", "shop", "GREETING=two words")
    until(lambda: it.shows("two words"), "the greeting")
    assert it.json("config", "list", "shop")["GREETING"] == "two words"
    newest = it.json("releases", "shop")[0]
    assert (newest["release"], newest["origin"], newest["base"]) == (it.live(), "config", before)

    it.ok("config", "set", "shop", "LATER=yes", "--no-restart")
    assert (it.live(), it.status()["waiting"]) == (newest["release"], ["LATER"])
    it.deploys("config", "unset", "shop", "GREETING")
    until(lambda: not it.shows("two words"), "the page without")
    assert it.status()["waiting"] == []
    assert it.ok("run", "shop", "--", "rpc", 'IO.puts(System.get_env("LATER"))') == "yes\n"


def logs(it: Bench) -> None:
    """The output of the instance, each line with time and release; a part of it if asked for."""
    live = it.live()
    it.ok("run", "shop", "--", "rpc", 'for n <- 1..4, do: IO.puts(:user, "said #{n}")')

    def said(*words: str) -> list[str]:
        lines = it.ok("logs", "shop", *words).splitlines()
        for line in lines:
            found = LINE.fullmatch(line)
            assert found, line
            assert found["release"] == live or "--release" not in words
            assert bool(found["of"]) == (it.place.kind == "cluster"), line
        return [line.split(" ", 2)[2] for line in lines]

    until(lambda: said("-n", "2") == ["said 3", "said 4"], "the last lines")
    assert said("-n", "2", "--release", live) == ["said 3", "said 4"]
    assert said("-n", "2", "--process", "web", "--since", "1h") == ["said 3", "said 4"]
    assert said("-n", "0") == []
    assert said("--since", "0s") == []


def one_off_commands(it: Bench) -> None:
    """Their output and exit status are those of the command."""
    assert it.ok("run", "shop", "--", "eval", 'IO.puts("sum:\\n#{20 + 22}")') == "sum:\n42\n"
    assert it.place.run("run", "shop", "--", "eval", "System.halt(7)").status == 7
    title = it.ok("run", "shop", "--", "rpc", "IO.puts(Counter.Page.title())").strip()
    assert f"<title>{title}</title>" in it.place.ask()[1]
    failed = it.place.run("run", "shop", "--", "rpc", 'raise "not that"')
    assert (failed.status, failed.out, "not that" in failed.err) == (1, "", True)


def stop_and_start(it: Bench) -> None:
    """Nothing serves in between, and the release is the same after it."""
    live = it.live()
    it.ok("stop", "shop")

    def serves() -> bool:
        try:
            return it.place.ask()[0] == 200
        except OSError:
            return False

    until(lambda: not serves(), "the end")
    stopped = it.status()
    assert (stopped["state"], stopped["release"]) == ("stopped", live)
    assert it.place.run("run", "shop", "--", "rpc", "1").status == Exit.INVALID
    assert it.place.run("jobs", "run", "shop", "report").status == Exit.INVALID
    assert {one["next"] for one in it.json("jobs", "list", "shop")} == {None}
    it.ok("stop", "shop")
    it.ok("start", "shop")
    until(lambda: it.shows("<title>"), "the page")
    assert (it.status()["state"], it.live()) == ("running", live)


def maintenance(it: Bench) -> None:
    """A page is shown in place of the app, which runs on."""
    it.ok("maintenance", "on", "shop", "--message", "Back at <14:00> UTC.")
    until(lambda: it.shows("Back at &lt;14:00&gt; UTC.", 503), "the maintenance page")
    status = it.status()
    assert (status["maintenance"], status["state"]) == (True, "running")
    it.ok("maintenance", "off", "shop")
    until(lambda: it.shows("<title>"), "the app")
    assert it.status()["maintenance"] is False


def jobs(it: Bench) -> None:
    """They are run by hand as they are by the schedule, and each run is on record."""
    listed = it.json("jobs", "list", "shop")
    assert [one["job"] for one in listed] == ["report", "broken"]
    assert all(one["next"] for one in listed)
    assert it.ok("jobs", "run", "shop", "report") == "report of report\n"
    assert it.place.run("jobs", "run", "shop", "broken").status == Exit.FAILURE
    broken, report = it.json("jobs", "runs", "shop")[:2]
    assert (broken["job"], broken["outcome"], broken["cause"]) == ("broken", "failed", "by hand")
    assert "status 5" in broken["error"]
    assert (report["job"], report["outcome"], report["error"]) == ("report", "succeeded", None)
    assert broken.keys() == report.keys()
    assert "report of report" in it.ok("logs", "shop", "--job", "report")


def workers(it: Bench) -> None:
    """They run in the number that is asked for, and their output is in the log of the app."""

    def scaled() -> dict[str, int]:
        return {one["process"]: one["instances"] for one in it.json("scale", "shop")}

    own = {"web": 1} if it.place.kind == "cluster" else {}
    assert scaled() == own | {"worker": 0}
    it.ok("scale", "shop", "worker=1")
    assert scaled() == own | {"worker": 1}
    until(lambda: "working" in it.ok("logs", "shop", "--process", "worker"), "its line")
    assert "working" not in it.ok("logs", "shop", "--process", "web")

    def all_of_it() -> list[str]:
        """Its states; a pod of another process may still end."""
        found = it.status()["processes"]
        return [one["state"] for one in found if "worker" in one["process"]]

    def running() -> list[str]:
        up = ("starting", "running")  # a supervisor takes its time to call it running
        return [state for state in all_of_it() if state in up]

    until(lambda: len(running()) == 1, "the worker")
    # a pod that is starting has no time of its start yet
    until(lambda: None not in [one["uptime"] for one in it.status()["processes"]], "its start")
    has_its_shape(it, "status shop")
    it.ok("restart", "shop", "--process", "worker")
    until(lambda: len(running()) == 1, "the worker again")
    it.ok("scale", "shop", "worker=0")
    until(lambda: not all_of_it(), "its end")


def a_killed_instance(it: Bench) -> None:
    """It is started again by itself, and `status` and the log say so."""
    before = it.status()
    it.ok("run", "shop", "--", "rpc", 'IO.puts(:user, "last words")')
    until(lambda: "last words" in it.ok("logs", "shop"), "its last line")
    it.place.kill()
    until(lambda: it.status()["restarts"] == before["restarts"] + 1, "the end on record")
    until(lambda: it.status()["state"] == "running" and it.shows("<title>"), "another instance")
    now = it.status()
    assert now["release"] == before["release"]
    assert now["last_end"]["cause"].startswith("killed by SIGKILL")
    assert now["last_end"].keys() == {"at", "after", "cause"}
    assert "last words" in it.ok("logs", "shop")


# ---------------------------------------------------------------- the JSON of commands

LEFT_OUT = object()
"""In the place of a type: the key is not there."""
WORKER = {
    "process": str, "state": str, "release": str, "pid": int, "uptime": float, "restarts": int,
    "last_end": (None, {"at": str, "after": float, "cause": str}),
}  # fmt: skip
APP = {
    "app": str, "state": str, "release": str, "version": str, "commit": str, "author": str,
    "subject": str, "slot": int, "port": int, "pid": int, "instance": LEFT_OUT, "uptime": float,
    "memory": int, "memory_limit": str, "cpu": float, "cpu_seconds": float,
    "requests": {"per_second": float, "failed": int, "p95_ms": (int, None)},
    "url": str, "also": (None, str), "maintenance": bool, "waiting": [str], "restarts": int,
    "last_end": (None, {"at": str, "after": float, "cause": str}),
    "https_until": (None, str), "https_error": (None, str),
}  # fmt: skip
DETAILS = APP | {
    "domains": [str], "password_domains": [str], "ports": [int], "repository": str,
    "last_deployment": int, "last_outcome": str, "chain": [str], "chain_unknown": None,
    "processes": [WORKER],
}  # fmt: skip
RELEASE = {
    "release": str, "commit": str, "author": str, "subject": str, "version": str,
    "created_at": str, "live": bool, "kept": bool, "ever_live": bool, "origin": str,
    "base": (None, str), "elixir": str, "otp": str, "bytes": int,
}  # fmt: skip
DEPLOYMENT = {
    "id": int, "release": (None, str), "previous": (None, str), "commit": (None, str),
    "cause": str, "actor": str, "strategy": (None, str), "reasons": [str], "outcome": str,
    "error": (None, str), "started_at": str, "seconds": float,
    "steps": [{"name": str, "seconds": (float, None), "outcome": str}],
    "probe": (None, {}), "suspended_ms": (None, float),
}  # fmt: skip
SHAPES: dict[str, Any] = {
    "apps": [APP],
    "status shop": DETAILS,
    "releases shop": [RELEASE],
    "deployments shop": [DEPLOYMENT],
}
_PODS = "there may be several instances, each with its own in `processes`"
DIFFERENCES: dict[Kind, dict[str, tuple[Any, str]]] = {
    "embedded": {},
    "server": {},
    "cluster": {
        "slot": (None, "a cluster has no slots"),
        "port": (None, "nor ports of this machine"),
        "ports": ([], "nor ports of this machine"),
        "pid": (None, "nor processes of this machine"),
        "instance": (str, "so this says how many instances are ready"),
        "uptime": (None, _PODS),
        "memory": (None, "nodes are asked by `stats`, through the API server"),
        "cpu": (None, "nodes are asked by `stats`, through the API server"),
        "cpu_seconds": (None, "nodes are asked by `stats`, through the API server"),
        "requests": (None, "Gatling is not between the clients and the cluster"),
        "chain": ([], "the nodes of several pods may have come different ways"),
        "processes": ([WORKER | {"pid": None, "instance": str}],
                      "the pods of the app itself are in it, each with its machine"),
        "probe": (None, "Gatling is not between the clients and the cluster"),
    },
}  # fmt: skip
"""The keys that are something else on a platform, and why."""


def fits(found: Any, shape: Any, changed: dict[str, tuple[Any, str]], at: str) -> None:
    """Fail with the place in which JSON differs from its shape."""
    if isinstance(shape, tuple):
        if found is None and None in shape:
            return
        (shape,) = (one for one in shape if one is not None)
    if isinstance(shape, list):
        assert isinstance(found, list), at
        assert shape or not found, at
        for one in found:
            fits(one, shape[0], changed, f"{at}[]")
    elif isinstance(shape, dict):
        assert isinstance(found, dict), at
        wanted = {key: changed[key][0] if key in changed else of for key, of in shape.items()}
        wanted = {key: of for key, of in wanted.items() if of is not LEFT_OUT}
        assert not wanted or found.keys() == wanted.keys(), (at, found.keys() ^ wanted.keys())
        for key, of in wanted.items():
            # what a difference says holds for all below it
            fits(found[key], of, {} if key in changed else changed, f"{at}.{key}")
    elif shape is None:
        assert found is None, (at, found)
    else:
        accepted = (int, float) if shape is float else shape
        assert isinstance(found, accepted), (at, found)
        assert shape is bool or not isinstance(found, bool), (at, found)


def has_its_shape(it: Bench, command: str) -> None:
    """The JSON of a command."""
    found = it.json(*command.split())
    assert found, command
    fits(found, SHAPES[command], DIFFERENCES[it.place.kind], command)


def json_has_the_same_keys_and_types(it: Bench) -> None:
    """Of each command that programs read, for an app that runs."""
    # supervisord counts in seconds, and without a second there is no share of the processor
    if it.place.kind != "cluster":  # whose pods have a time of their own each
        until(lambda: it.json("status", "shop")["uptime"], "the first second of the instance")
    for command in SHAPES:
        has_its_shape(it, command)


# ---------------------------------------------------------------- wrong input

WRONG: tuple[tuple[Exit, str], ...] = (
    (Exit.NOT_FOUND, "status nobody"),
    (Exit.NOT_FOUND, "releases shop v99"),
    (Exit.NOT_FOUND, "deployments shop 999"),
    (Exit.NOT_FOUND, "deployments shop --follow"),
    (Exit.NOT_FOUND, "plan shop v99"),
    (Exit.NOT_FOUND, "deploy shop v99"),
    (Exit.NOT_FOUND, "deploy shop no-such-branch"),
    (Exit.USAGE, "deploy shop --strategy sideways"),
    (Exit.INVALID, "rollback shop LIVE"),
    (Exit.INVALID, "deploy shop LIVE --strategy hot"),
    (Exit.NOT_FOUND, "rollback shop v99"),
    (Exit.INVALID, "config set shop NAME"),
    (Exit.INVALID, "config set shop 1NAME=x"),
    (Exit.NOT_FOUND, "config unset shop NAME"),
    (Exit.INVALID, "settings set shop health.timeout=never"),
    (Exit.INVALID, "logs shop --since yesterday"),
    (Exit.NOT_FOUND, "logs shop --release v99"),
    (Exit.NOT_FOUND, "logs shop --process nobody"),
    (Exit.NOT_FOUND, "run shop -- no-such-program"),
    (Exit.NOT_FOUND, "run shop --release v99 -- eval 1"),
    (Exit.INVALID, "scale shop worker=many"),
    (Exit.INVALID, "scale shop worker=1000"),
    (Exit.INVALID, "scale shop nobody=1"),
    (Exit.NOT_FOUND, "restart shop --process nobody"),
    (Exit.NOT_FOUND, "jobs run shop nobody"),
    (Exit.NOT_FOUND, "jobs cancel shop report"),
    (Exit.INVALID, "domains add shop not_a_domain!"),
    (Exit.NOT_FOUND, "domains remove shop nobody.example.com"),
    (Exit.INVALID, "unload shop --confirm other"),
)
"""Commands that cannot be, with their exit status. LIVE is the live release."""


def wrong_input(it: Bench) -> None:
    """It leaves the releases as they are, and has the same exit status."""
    before = it.json("releases", "shop")
    live, found = it.live(), []
    for wanted, words in WRONG:
        done = it.place.run(*words.replace("LIVE", live).split())
        if done.status != wanted or "Traceback" in done.err:
            found.append(f"{words}: {done.status} and not {wanted:d}: {done.err}")
    assert not found, "\n".join(found)
    done = it.place.run("releases", "shop", "v99", "--json")
    error = json.loads(done.err)["error"]
    assert (done.status, error["code"]) == (Exit.NOT_FOUND, "not-found")
    assert error.keys() == {"code", "message", "hint", "log"}
    assert it.json("releases", "shop") == before


CHECKS: tuple[Callable[[Bench], None], ...] = (
    a_first_push,
    a_push_its_plan_and_the_way_back,
    a_push_that_does_not_compile,
    a_lock,
    config,
    logs,
    one_off_commands,
    stop_and_start,
    maintenance,
    jobs,
    workers,
    a_killed_instance,
    json_has_the_same_keys_and_types,
    wrong_input,
)
"""Each leaves the app as it found it, but for its release."""
NAMES = [check.__name__ for check in CHECKS]
