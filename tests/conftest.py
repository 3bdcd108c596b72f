"""A whole Gatling home for a test: real git, mix, BEAM, nginx and supervisord."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import gc
import http.client
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self
from unittest import mock

import hypothesis
import pytest

from gatling import proc
from gatling.beam import toolbox
from tests import builds
from tests.scale import LONG
from tests.warm import Warm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# a shell has SIGINT ignored in what it starts in the background, and so would what is started here
signal.signal(signal.SIGINT, signal.default_int_handler)

# a slow machine takes longer than 200 ms for an example now and then, which is no failure
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).parents[1]
LONGEST = (
    "server/test_databases.py", "hot/test_traps.py", "home/test_repositories.py",
    "push/test_recovery.py", "home/test_processes.py", "home/test_backups.py",
    "hot/test_rolling.py", "server/test_power.py", "server/test_power_databases.py",
    "server/test_server.py",
    "server/test_install.py", "server/test_moving_databases.py", "server/test_hostile_builds.py",
    "server/test_acme.py", "server/test_connections.py", "server/test_jobs.py",
    "project/test_mutations.py", "hot/test_recovery.py", "hot/test_boot_check.py",
    "operations/test_stats.py", "server/test_neighbours.py", "server/test_processes.py",
    "server/test_contract.py", "home/test_contract.py",
    "home/test_jobs.py", "home/test_sockets.py", "home/test_rewinds.py", "push/test_migrations.py",
    "project/test_refs.py", "push/test_manifest.py", "push/test_push.py", "server/test_drains.py",
    "server/test_package.py", "distillery/test_distillery.py", "server/test_toolchains.py",
    "hot/test_undone.py", "hot/test_hostile.py", "platform/kubernetes/test_check.py",
    "server/test_upgrades.py", "push/test_failures.py", "server/test_killed.py",
    "home/test_supervision.py", "server/test_moving.py", "ssh/test_roles.py",
    "callbacks/test_callbacks.py", "hot/test_calls.py", "home/test_upgrades.py",
    "home/test_proxy.py", "push/test_assets.py", "server/test_certificates.py", "hot/test_trees.py",
    "server/test_repositories.py", "platform/test_toolchains.py", "server/test_deploy_key.py",
    "hot/test_second.py", "home/test_restore_points.py", "operations/test_year.py",
    "home/test_rehearsals.py", "home/test_examples.py", "push/test_reproducible.py",
    "server/test_notify.py", "home/test_concurrency.py", "home/test_releases.py",
    "home/test_config.py", "home/test_api.py", "api/test_description.py",
    "operations/test_platforms.py", "project/test_source.py", "cli/test_remote.py",
    "erlang/test_eunit.py", "beam/test_swap.py", "images/test_registry.py", "proxy/test_figures.py",
    "operations/test_issuing_faults.py", "beam/test_channel.py", "ca/test_authority.py",
    "ca/test_dns.py", "deploy/evidence/test_health.py", "dashboard/test_serving.py",
    "project/test_schedule.py", "proxy/test_nginx.py", "deploy/cutover/test_previous.py",
    "test_wheel.py", "test_words.py", "platform/server/helper/test_service.py",
    "ssh/test_hostile.py", "platform/embedded/test_supervisor.py", "project/test_repository.py",
    "proxy/test_wishes.py",
)  # fmt: skip
"""Files that take minutes, the longest first, and those that mostly wait, while others compute.

Only one of the first seven needs the images of boxes, which the first test that needs them makes.
`bin/test` prints the slowest tests.
"""
BEAMS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatling" / "test-beams"
"""What the first home that builds has compiled for nodes and builds, for all other homes."""
KEPT_BUILDS_SECONDS = 7 * 86400
SLOW = ("server", "hot", "push", "home", "callbacks", "distillery")
"""Directories whose tests take seconds each; all others are quick."""
COUNTER = ROOT / "examples" / "counter"
ROOM_BYTES = 4 << 30
"""The free memory that homes in memory need: one takes 20 to 300 MB, and a few are there."""
QUIET = "+sbwt none\n+sbwtdcpu none\n+sbwtdio none\n"
"""vm.args of instances: their schedulers do not spin while they wait, which took 6 % of a push."""
ON_DEMAND = "export RELEASE_MODE=interactive\n"
"""env.sh of instances that load modules on demand: their boot takes half the CPU."""
PAUSE_SECONDS = 0.005 if LONG else 0.04
"""Between two requests of a client, each of which costs 2.4 ms of CPU: a push lasts 100 of them.

Gatling's own prober asks every 10 ms while it cuts over, and tests look at what it has counted.
"""
RESTING_SECONDS = 1.5
"""The longest pause after a look that takes long itself: without one, a test that waits for a
minute would use a core for it."""
CHECKED_ON = "continues in the background. If v"
"""Stands in the output of a hot upgrade that a slow machine has not proved before it returns."""
BOOT_CHECKS = "SELECT 1 FROM watches WHERE app = ? AND unproven = ''"
NEWEST_STEP = """
    SELECT outcome, (SELECT name FROM steps WHERE deployment = id ORDER BY position DESC LIMIT 1)
    FROM deployments WHERE app = ? ORDER BY id DESC LIMIT 1
"""
BEGUN_STEPS = """
    SELECT outcome, (SELECT coalesce(group_concat(name, ' '), '') FROM steps WHERE deployment = id)
    FROM deployments WHERE app = ? ORDER BY id DESC LIMIT 1
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="units, and tests marked `quick`")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "quick(kind): the one test of a slow directory that `bin/test --quick` runs"
    )


def pytest_sessionstart() -> None:
    """Collect no garbage while tests are collected: it took a third of that time."""
    gc.disable()
    if "PYTEST_XDIST_WORKER" not in os.environ:
        _remove_old_builds()


def _remove_old_builds() -> None:
    """Remove what earlier versions of Gatling have built: 13 MB each."""
    earliest = time.time() - KEPT_BUILDS_SECONDS
    for kept in builds.BUILDS.glob("*") if builds.BUILDS.exists() else ():
        with contextlib.suppress(OSError):
            if kept.stat().st_mtime < earliest:
                shutil.rmtree(kept)


def pytest_collection_finish() -> None:
    """Let no later collection look through the tests themselves."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run long files first, so that all test processes end at about the same time."""
    tests = Path(__file__).parent
    if config.getoption("--quick"):
        slow = [item for item in items if not quick(item.path.relative_to(tests), item)]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]

    def rank(item: pytest.Item) -> tuple[int, int]:
        path = item.path.relative_to(tests)
        if str(path) in LONGEST:
            return 0, LONGEST.index(str(path))
        return (1, SLOW.index(path.parts[0])) if path.parts[0] in SLOW else (2, 0)

    items.sort(key=rank)


def quick(path: Path, item: pytest.Item) -> bool:
    """Whether `bin/test --quick` runs a test: a unit, or one that is marked."""
    return path.parts[0] not in SLOW or item.get_closest_marker("quick") is not None


def until(
    condition: Callable[[], object], what: str, seconds: float = 180, longest: float = 0.2
) -> Any:
    """Wait for a condition; its value. A test that waits in vain fails with `what`.

    Pauses between two looks grow up to `longest` seconds: to look may cost more than to wait. A
    look that takes long itself, as a command in a box does, is followed by a pause of three times
    its length, up to `RESTING_SECONDS`.
    """
    deadline = time.monotonic() + seconds
    pause = 0.02
    while True:
        begun = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        assert now < deadline, f"{what} did not come about within {seconds} s"
        time.sleep(max(pause, min(RESTING_SECONDS, 3 * (now - begun))))
        pause = min(longest, pause * 1.5)


def kill_and_wait(pid: int) -> None:
    """SIGKILL, and wait until the process is gone: until then its sockets still accept."""
    os.kill(pid, signal.SIGKILL)
    assert proc.wait_gone(pid, 60)


def suspend(pid: int) -> None:
    """Send SIGSTOP, and wait until all threads have stopped.

    The thread that takes the signal stops the others, and on a busy machine they go on until then.
    """
    os.kill(pid, signal.SIGSTOP)

    def has_stopped() -> bool:
        stats = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/stat")]
        return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)

    until(has_stopped, "the stop")


@functools.cache
def warm() -> Warm:
    """What runs this process' commands."""
    return Warm()


@dataclass
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    text: str


class Project:
    """A git repository with an app, and a remote `gatling`."""

    patience = 240.0
    """Seconds for a push."""
    forks_hook = True
    """Whether the hook of a push may be forked: it is run on this machine, by this user."""
    kept_as: str | None = None
    """The name by which tests share what the first build has made, until that is kept."""

    def __init__(self, world: World, app: str, directory: Path) -> None:
        self.world, self.app, self.directory = world, app, directory
        self.env = world.env

    def git(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.directory, env=self.env, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def replace(self, path: str, old: str, new: str) -> None:
        text = (self.directory / path).read_text()
        assert old in text
        self.write(path, text.replace(old, new))

    def commit(self, message: str = "change") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def title(self, title: str) -> str:
        """A one-line change that shows on the app's page; its commit."""
        page = self.directory / "lib/counter/page.ex"
        lines = [
            f'  def title, do: "{title}"' if line.startswith("  def title") else line
            for line in page.read_text().splitlines()
        ]
        page.write_text("\n".join(lines) + "\n")
        return self.commit(title)

    def start_push(self, *refs: str, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """`git push` in a process group of its own, as in a terminal."""
        return self._start_push(refs, options, self.env)

    def _start_push(
        self, refs: tuple[str, ...], options: tuple[str, ...], env: dict[str, str]
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["git", "push", *options, "gatling", *(refs or ("main",))],
            cwd=self.directory, env=env, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def push(self, *refs: str, ok: bool = True, options: tuple[str, ...] = ()) -> str:
        """`git push`; what was printed, as a person reads it.

        Its hook is a process that has already loaded everything. One that a test interrupts or
        kills, or whose program it replaces, begins as it does for a user: see `start_push`.
        """
        if self.forks_hook and not self.world.has_own_command():
            env = self.env | {"GIT_CONFIG_GLOBAL": str(self.forks().directory / "gitconfig")}
            push = self._start_push(refs, options, env)
        else:
            push = self.start_push(*refs, options=options)
        text = output_of(push, None, self.patience)
        assert (push.returncode == 0) == ok, text
        if self.kept_as and ok:
            name, self.kept_as = self.kept_as, None
            builds.keep(self.world.home, self.app, name)
        if CHECKED_ON in text:
            until(lambda: not self.is_checked(), "the end of the boot check")
        return text

    def forks(self) -> Warm:
        """Where the hook of a push is forked."""
        return warm()

    def is_checked(self) -> bool:
        """Whether the boot check of the newest release goes on."""
        return self.world.is_checked(self.app)


class World:
    """A home of its own, and what a person does with it."""

    loads_on_demand = False
    """Whether instances load modules on demand, and not all of them at boot, as releases do."""

    shares_builds = False
    """Whether the first build of an app takes what that of another one has made."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        first, self._claim = _claim_ports()
        self.port = first + 49
        self._beams = f"beam-{toolbox.digest()}"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        # nor the width of the terminal that the tests were started in
        own = ("GIT_", "GATLING_", "COLUMNS", "LINES", "NO_COLOR")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(own)}
        identity = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.com",
                    "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.com",
                    "GIT_CONFIG_GLOBAL": "/dev/null"}  # fmt: skip
        self.env = kept | identity | {
            "PATH": path,
            "GATLING_HOME": str(self.home),
            "GATLING_LISTEN": f"127.0.0.1:{self.port}",
            "GATLING_PORTS": f"{first}-{first + 48}",
        }  # fmt: skip

    def run(self, *arguments: str, ok: bool = True, stdin: str | None = None) -> str:
        """`gatling …`; what it printed."""
        done = self.try_run(*arguments, stdin=stdin)
        assert (done.returncode == 0) == ok, done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout

    def try_run(
        self, *arguments: str, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return warm().run(arguments, env=self.env, stdin=stdin)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`gatling …`, going on while the test does; `output_of` waits for its end."""
        return subprocess.Popen(
            [sys.executable, "-I", "-m", "gatling", *arguments], env=self.env, text=True,
            start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    def json(self, *arguments: str) -> Any:
        done = warm().run([*arguments, "--json"], env=self.env, stderr=2)
        done.check_returncode()
        return json.loads(done.stdout)

    def load(self, app: str = "shop", strategy: str = "rolling") -> Project:
        """An app made from the example, ready to be pushed; upgraded hot with strategy `auto`."""
        self.run("load", app)
        share(BEAMS / self._beams, self.home / "cache" / self._beams)
        self.run("settings", "set", app, f"deploy.strategy={strategy}")
        return self.project(app)

    def project(self, app: str = "shop") -> Project:
        """Another clone's worth of the example, with the app as its remote."""
        directory = Path(tempfile.mkdtemp(prefix=f"{app}-", dir=self.root))
        ignore = shutil.ignore_patterns("_build", "deps", "test")
        shutil.copytree(COUNTER, directory, dirs_exist_ok=True, ignore=ignore)
        project = Project(self, app, directory)
        project.write("rel/vm.args.eex", QUIET)
        if self.loads_on_demand:
            project.write("rel/env.sh.eex", ON_DEMAND)
        project.git("init", "--quiet", "--initial-branch", "main")
        project.git("remote", "add", "gatling", str(self.home / "apps" / f"{app}.git"))
        with mock.patch.dict(project.env, builds.DATES):
            first = project.commit("first")
        if self.shares_builds:
            project.kept_as = builds.share(self.home, app, first)
        return project

    def get(self, path: str = "/", *, host: str = "shop.localhost", method: str = "GET") -> Answer:
        """Ask through the proxy."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, headers={"Host": host})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read().decode())
        finally:
            connection.close()

    def status(self, app: str = "shop") -> Any:
        return self.json("status", app)

    def last(self, app: str = "shop") -> Any:
        """The newest deployment."""
        return self.json("deployments", app)[0]

    def steps(self, app: str = "shop") -> list[str]:
        """The steps that the newest deployment has begun."""
        return [step["name"] for step in self.last(app)["steps"]]

    def is_at(self, step: str, app: str = "shop") -> bool:
        """Whether the newest deployment is at this step."""
        # not by the command line, which takes as long as a short step
        with contextlib.closing(sqlite3.connect(self.home / "state.db", timeout=60)) as state:
            found = state.execute(NEWEST_STEP, (app,)).fetchone()
        return bool(found == ("running", step))

    def at_step(self, step: str, app: str = "shop") -> None:
        """Wait until the newest deployment has begun this step, and goes on.

        Most likely it is still at it. On a busy machine a look comes too late for a short step.
        """

        def begun() -> bool:
            with contextlib.closing(sqlite3.connect(self.home / "state.db", timeout=60)) as state:
                found = state.execute(BEGUN_STEPS, (app,)).fetchone()
            return found is not None and found[0] == "running" and step in found[1].split()

        until(begun, f"step {step}", longest=0.02)

    def is_checked(self, app: str = "shop") -> bool:
        """Whether the boot check of the newest release goes on."""
        with contextlib.closing(sqlite3.connect(self.home / "state.db", timeout=60)) as state:
            return state.execute(BOOT_CHECKS, (app,)).fetchone() is not None

    def settled(self, app: str = "shop") -> float:
        """Wait, without any command, until no deployment is under way; the seconds it took."""
        started = time.monotonic()

        def ended() -> bool:
            with contextlib.closing(sqlite3.connect(self.home / "state.db", timeout=60)) as state:
                found = state.execute(NEWEST_STEP, (app,)).fetchone()
            return bool(found[0] != "running")

        until(ended, "the end of the deployment")
        return time.monotonic() - started

    def processes(self) -> list[str]:
        """Command lines of all processes of this home, supervisord and nginx included."""
        return [line for line in _command_lines() if str(self.home) in line]

    def beams(self) -> list[int]:
        """The BEAMs of this home's instances, by pid."""
        return [int(line.split()[0]) for line in self.processes() if "/bin/beam" in line]

    def watching(self) -> set[int]:
        """The processes that watch a release, or end an instance, in the background."""
        own = f"GATLING_HOME={self.home}".encode()
        pids = [int(line.split()[0]) for line in _command_lines() if " --watch " in f"{line} "]
        return {pid for pid in pids if own in _environment(pid)}

    def supervisord(self) -> int:
        """The process that keeps everything running."""
        return int((self.home / "run/supervisord.pid").read_text())

    def hook(self) -> int:
        """The process that handles a push under way."""
        own = f"GATLING_HOME={self.home}".encode()
        pids = {
            int(line.split()[0])
            for line in _command_lines()
            if "-m gatling receive" in line and own in _environment(int(line.split()[0]))
        }
        # A child of it that has not yet become another program looks the same, and has a lower
        # number if the kernel has begun again with the lowest ones.
        above = {pid: _parents(pid) for pid in pids}
        (hook,) = [pid for pid in pids if above[pid] and not pids & above[pid]]
        return hook

    def has_own_command(self) -> bool:
        """Whether a test has replaced the command that hooks run."""
        return "-m gatling" not in (self.home / "bin/gatling").read_text()

    def close(self) -> None:
        """Stop everything; nothing of the home may go on."""
        if self.home.exists():
            done = self.try_run("down")
            assert done.returncode == 0, done.stdout
        left = self.processes()
        share(self.home / "cache" / self._beams, BEAMS / self._beams)
        shutil.rmtree(self.root, ignore_errors=True)
        self._claim.close()
        assert not left, left


class Client:
    """Asks again and again in a thread, as a browser with one kept connection does."""

    def __init__(
        self,
        world: World,
        host: str = "shop.localhost",
        path: str = "/",
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self.world, self.host, self.path, self.pause = world, host, path, pause
        self.failures: list[str] = []
        self.texts: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self.texts or self.failures, "the first answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.pause):
            try:
                answer = self.world.get(self.path, host=self.host)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                continue
            if answer.status == 200:
                self.texts.append(answer.text)
            else:
                self.failures.append(str(answer.status))


def scratch() -> Path:
    """A new directory for a home: in memory, where nothing waits for a disk, if programs run there.

    It has a short path, because of the sockets in it.
    """
    memory = Path("/dev/shm")
    try:
        found = os.statvfs(memory)
    except OSError:
        in_memory = False
    else:
        free = found.f_bavail * found.f_frsize
        in_memory = not found.f_flag & os.ST_NOEXEC and free >= ROOM_BYTES
    return Path(tempfile.mkdtemp(prefix="gt-", dir=memory if in_memory else "/tmp"))


@contextlib.contextmanager
def new_world() -> Iterator[World]:
    """A home that is gone, with all of its processes, when the block has ended."""
    made = World(scratch())
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def on_demand() -> Iterator[None]:
    """Instances load modules on demand, in tests that are about what is around them."""
    World.loads_on_demand = True
    yield
    World.loads_on_demand = False


@pytest.fixture(scope="module")
def shared_builds() -> Iterator[None]:
    """Homes begin with what another one has built, in tests that are not about builds."""
    World.shares_builds = True
    yield
    World.shares_builds = False


@pytest.fixture
def world() -> Iterator[World]:
    with new_world() as made:
        yield made


@pytest.fixture(scope="module")
def shop() -> Iterator[Project]:
    """A deployed app that the tests of one module share."""
    with new_world() as made:
        project = made.load()
        project.push()
        yield project


def output_of(process: subprocess.Popen[str], status: int | None = 0, seconds: float = 240) -> str:
    """What a process printed until its end, as a person reads it; checks its exit status."""
    output, _ = process.communicate(timeout=seconds)
    text = "\n".join(line.removeprefix("remote: ").rstrip() for line in output.splitlines())
    assert status in (None, process.returncode), text
    return text


def loaded(statement: str, *beginnings: str) -> list[str]:
    """The modules that a new Python loads for a statement, if they begin with one of the words."""
    shown = f"print(*(m for m in sys.modules if m.startswith({beginnings!r})))"
    argv = [sys.executable, "-I", "-c", f"import sys\n{statement}\n{shown}"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()


def interrupt(push: subprocess.Popen[str]) -> None:
    """Ctrl-C: SIGINT to the whole foreground process group."""
    os.killpg(push.pid, signal.SIGINT)


def _claim_ports() -> tuple[int, IO[str]]:
    """The first of 50 ports that no other home of any test run on this machine has.

    They are below 20000, where a server's own ports begin, and belong to whoever holds the file.
    """
    directory = Path(tempfile.gettempdir()) / "gatling-test-ports"
    directory.mkdir(exist_ok=True)
    start = random.randrange(200)
    for number in range(200):
        first = 10000 + 50 * ((start + number) % 200)
        claim = (directory / str(first)).open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            claim.close()
            continue
        if _answers(first + 49):  # of a home whose tests were killed
            claim.close()
            continue
        return first, claim
    raise RuntimeError("all ports for test homes are in use")


def _answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def modes_below(directory: Path) -> dict[Path, int]:
    """The mode (lstat(2)) of everything below a directory in which programs are at work.

    os.walk() passes over what is gone when it looks; Path.rglob() and glob() do not.
    """
    modes = {}
    for at, directories, files in os.walk(directory):
        for path in (Path(at, name) for name in directories + files):
            with contextlib.suppress(FileNotFoundError):
                modes[path] = path.lstat().st_mode
    return modes


def files_below(directory: Path) -> list[Path]:
    """The regular files below a directory in which programs are at work."""
    return [path for path, mode in modes_below(directory).items() if stat.S_ISREG(mode)]


def files_with(directory: Path, text: bytes) -> list[Path]:
    """The files below a directory that hold these bytes."""
    found = []
    for path in files_below(directory):
        with contextlib.suppress(FileNotFoundError):
            if text in path.read_bytes():
                found.append(path)
    return found


def share(
    source: Path, target: Path, *, root: Path = Path("/"), known_as: Path | None = None
) -> None:
    """Copy what a build has compiled for nodes and builds, which depends on the toolchain only.

    Builds in a box know `target` as `known_as`, and the box's file system is at `root`.
    """
    for made in source.glob("[!.]*"):
        if made.is_dir() and not (target / made.name).exists():
            partial = target / f".{made.name}.{os.getpid()}.{threading.get_ident()}"
            shutil.copytree(made, partial)
            with contextlib.suppress(OSError):  # another process was quicker
                partial.rename(target / made.name)
            shutil.rmtree(partial, ignore_errors=True)
    for note in source.glob("boot-*.seen"):
        with contextlib.suppress(OSError, ValueError):  # one of another toolchain, or hostile
            _share_script(note, target, root, known_as or target)


def _share_script(note: Path, target: Path, root: Path, known_as: Path) -> None:
    """Copy the script with which builds start, as the first build there would write it.

    That build would start one more VM to try it: 0.4 s of CPU. It names its directory, and its note
    the inode, time and size of each file and directory that it was made from.
    """
    script = note.with_suffix(".boot")
    if (target / note.name).exists() or not script.exists():
        return
    paths = [Path(line.split(" ", 3)[3]) for line in note.read_text().splitlines()]
    (beam,) = [path for path in paths if path.name == "Elixir.Gatling.Boot.beam"]
    own, lines = known_as / beam.parent.name, []
    for path in paths:
        there = target / own.name / path.name if path == beam else root / path.relative_to("/")
        seen = there.stat()
        named = own / path.name if path == beam else path
        lines.append(f"{seen.st_ino} {int(seen.st_mtime)} {seen.st_size} {named}\n")
    parts = script.read_bytes().split(_charlist(beam.parent))
    assert len(parts) == 2, f"{script} names its directory {len(parts) - 1} times"
    partial = target / f".boot.{os.getpid()}.{threading.get_ident()}"
    partial.write_bytes(_charlist(own).join(parts))
    partial.rename(target / script.name)
    partial.write_text("".join(lines))
    partial.rename(target / note.name)


def _charlist(path: Path) -> bytes:
    """A list of characters in Erlang's external term format."""
    text = str(path).encode()
    return b"k" + len(text).to_bytes(2, "big") + text


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _parents(pid: int) -> set[int]:
    """The processes above one; none if it is gone: proc(5)."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        while pid > 1:
            stat = Path(f"/proc/{pid}/stat").read_text()
            pid = int(stat.rpartition(")")[2].split()[1])
            found.add(pid)
    return found


def _command_lines() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                raw = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            yield f"{entry.name} {raw.replace(bytes(1), b' ').decode(errors='replace')}"
