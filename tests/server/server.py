"""A Gatling host in a box, and people who use it over SSH."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import BEGUN_STEPS, ON_DEMAND, QUIET, Answer, Project, World, output_of
from tests.server import seeds
from tests.server.host import ROOT, run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

    from tests.server.box import Box
    from tests.server.web import Client

SOURCES = (
    "src",
    "bin",
    "requirements.txt",
    "requirements-build.txt",
    "pyproject.toml",
    "hatch_build.py",
    "README.md",
    "LICENSE",
)
"""What an installation is made from."""
CLONE = "root/gatling"
SAID = "root/installation.txt"
"""What the installation of the image of servers printed."""
APPS = Path("/var/lib/gatling/apps")


def source_key() -> str:
    """Names what an installation is made from."""
    summed = hashlib.sha256()
    for name in SOURCES:
        path = ROOT / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                summed.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return summed.hexdigest()[:16]


def clone(box: Box) -> None:
    """What `git clone` leaves on a server."""
    box.exec(["rm", "-rf", f"/{CLONE}"])
    box.exec(["mkdir", "-p", f"/{CLONE}"])
    for name in SOURCES:
        box.put(ROOT / name, f"/{CLONE}")


def install(box: Box) -> str:
    """Install as the README says; what was printed."""
    clone(box)
    return box.online([f"/{CLONE}/bin/install"], timeout=3600).stdout


def download(box: Box, *packages: str) -> None:
    """Put Debian packages into apt's own cache: the network of services is the box's own."""
    words = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "--download-only"]
    if box.online([*words, *packages], check=False).returncode != 0:
        box.online(["apt-get", "update", "-qq"])  # the lists are as old as the image
        box.online([*words, *packages])


STATE = "/var/lib/gatling/home/state.db"
# not by the command line, which takes longer than a short step
BEGAN_STEP = """
import contextlib, sqlite3, sys, time
path, query, app, step, seconds = sys.argv[1:]
deadline, seen = time.monotonic() + float(seconds), [None]
print("looks", flush=True)
while not (seen[-1] and seen[-1][0] == "running" and step in seen[-1][1].split()):
    if time.monotonic() > deadline or len(seen) > 2 and seen[-1][0] != "running":
        sys.exit(f"no step {step}, but {seen}")
    time.sleep(0.01)
    open(path).close()
    with contextlib.suppress(sqlite3.OperationalError):  # nobody has opened it to write
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as state:
            found = state.execute(query, (app,)).fetchone()
            if found != seen[-1]:
                seen.append(found)
"""


class Checkout(Project):
    """A project whose remote is an app of a server."""

    forks_hook = False

    def __init__(self, person: Person, app: str, directory: Path) -> None:
        self.person, self.app, self.directory = person, app, directory
        self.env = person.env
        self.patience = 24 * person.server.box.patience
        # the disk of a machine cannot be seen from here
        self._root: Path | None = getattr(person.server.box, "root", None)
        self._build = self._root and self._root / APPS.relative_to("/") / app / "build"

    def start_push(self, *refs: str, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """See Project."""
        push = super().start_push(*refs, options=options)
        if self._root and self._build and not self._build.exists():
            words = self._root, self._build, push
            threading.Thread(target=seeds.give, args=words, daemon=True).start()
        return push

    def push(self, *refs: str, ok: bool = True, options: tuple[str, ...] = ()) -> str:
        """See Project."""
        text = super().push(*refs, ok=ok, options=options)
        if self._build and ok:
            seeds.keep(self._build)
        return text

    def is_checked(self) -> bool:
        """Whether the boot check of the newest release goes on."""
        steps = self.person.json("deployments", self.app)[0]["steps"]
        return any((step["name"], step["outcome"]) == ("boot_check", "running") for step in steps)


class Person:
    """Somebody whose key is let in."""

    def __init__(self, server: Server, name: str, key: Path) -> None:
        self.server, self.name, self.key = server, name, key
        identity = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": f"{name}@example.com",
                    "GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": f"{name}@example.com",
                    "GIT_CONFIG_GLOBAL": "/dev/null", "PATH": "/usr/bin:/bin",
                    "HOME": str(key.parent)}  # fmt: skip
        self.env = identity | server.box.git_env(key)
        self.root = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=key.parent))

    def try_run(
        self, *words: str, stdin: str | None = None, tty: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """`ssh gatling@host WORDS`."""
        return self.server.box.ssh(
            "gatling", list(words), key=self.key, tty=tty, stdin=stdin, check=False,
            timeout=30 * self.server.box.patience,
        )  # fmt: skip

    def run(self, *words: str, stdin: str | None = None, status: int = 0) -> str:
        """The same, with the exit status that it must have; all that was printed."""
        done = self.try_run(*words, stdin=stdin)
        text = done.stdout + done.stderr
        assert done.returncode == status, text
        assert "Traceback" not in text
        return text

    @contextlib.contextmanager
    def session(self, *words: str, tty: bool = False) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on while the block does; its connection is lost at the end."""
        process = self.server.box.start_ssh("gatling", list(words), key=self.key, tty=tty)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def json(self, *words: str) -> Any:
        done = self.try_run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def project(self, app: str = "shop", example: str = "counter") -> Checkout:
        """A project on his own machine, whose remote is the app."""
        directory = Path(tempfile.mkdtemp(prefix=f"{app}-", dir=self.root))
        ignore = shutil.ignore_patterns("_build", "deps", "test")
        shutil.copytree(ROOT / "examples" / example, directory, dirs_exist_ok=True, ignore=ignore)
        project = Checkout(self, app, directory)
        project.git("init", "--quiet", "--initial-branch", "main")
        project.write("rel/vm.args.eex", QUIET)
        if World.loads_on_demand:
            project.write("rel/env.sh.eex", ON_DEMAND)
        project.git("remote", "add", "gatling", f"gatling@{self.server.box.name}:{app}")
        project.commit("first")
        return project


class Server:
    """A box on which Gatling is installed."""

    def __init__(self, box: Box, directory: Path) -> None:
        self.box, self.directory = box, directory

    def gatling(self, *words: str, stdin: str | None = None, status: int = 0) -> str:
        """`gatling WORDS` as root on the server itself."""
        seconds = 30 * self.box.patience
        done = self.box.exec(["gatling", *words], stdin=stdin, check=False, timeout=seconds)
        text = done.stdout + done.stderr
        assert done.returncode == status, text
        assert "Traceback" not in text
        return text

    def json(self, *words: str) -> Any:
        seconds = 12 * self.box.patience
        return json.loads(self.box.exec(["gatling", *words, "--json"], timeout=seconds).stdout)

    def let_in(self, name: str, *apps: str, role: str = "deployer") -> Person:
        """A new person with a key of his own."""
        key = self.directory / f"{name}-{self.box.name}"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key)
        public = key.with_name(f"{key.name}.pub").read_text()
        options = [word for app in apps for word in ("--app", app)]
        self.gatling("server", "keys", "add", name, "--role", role, *options, stdin=public)
        return Person(self, name, key)

    def admin(self, name: str = "root") -> Person:
        return self.let_in(name, role="admin")

    def status(self, app: str = "shop") -> Any:
        return self.json("status", app)

    def last(self, app: str = "shop") -> Any:
        """The newest deployment."""
        return self.json("deployments", app)[0]

    def get(self, path: str = "/", *, host: str = "shop.localhost", method: str = "GET") -> Answer:
        """Ask over the network, through nginx."""
        return self.box.get(path, host=host, method=method)

    def serves(self, text: str, app: str = "shop") -> bool:
        try:
            answer = self.get(host=f"{app}.localhost")
        except OSError:
            return False
        # what nginx serves to hosts that nobody has is a page of its own
        return answer.status == 200 and 'id="version"' in answer.text and text in answer.text

    def client(self, app: str = "shop", **options: Any) -> Client:
        """Load on an app."""
        return self.box.client(host=f"{app}.localhost", **options)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit."""
        text = self.box.exec(["systemctl", "show", f"--property={','.join(properties)}", unit])
        return dict(line.split("=", 1) for line in text.stdout.splitlines() if "=" in line)

    def processes(self, user: str) -> list[str]:
        """Command lines of all processes of a user, by systemd's own managers aside."""
        done = self.box.exec(["ps", "-u", user, "-o", "args="], check=False)
        own = ("/lib/systemd/systemd --user", "(sd-pam)", "sshd:")
        lines = [line for line in done.stdout.splitlines() if not line.startswith(own)]
        return [line for line in lines if not line.endswith("<defunct>")]  # has ended

    @contextlib.contextmanager
    def until_step(self, step: str, app: str = "shop") -> Iterator[None]:
        """Wait until the deployment that the block starts has begun this step, and goes on.

        The look inside begins before the block: to start it takes longer than a short step.
        """
        seconds = 12 * self.box.patience
        words = ["python3", "-c", BEGAN_STEP, STATE, BEGUN_STEPS, app, step, str(seconds)]
        with self.box.begin(words) as looking:
            try:
                assert looking.stdout is not None
                first = looking.stdout.readline()
                assert first == "looks\n", first
                yield
                said, _ = looking.communicate(timeout=2 * seconds)
                assert looking.returncode == 0, said
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(looking.pid, signal.SIGKILL)


def push_all(projects: Sequence[Project]) -> list[str]:
    """Push several projects at once; what was printed for each."""
    started = [project.start_push() for project in projects]
    return [output_of(push) for push in started]
