"""A dashboard that is open: here, or from a laptop over a stand-in for ssh."""

from __future__ import annotations

import contextlib
import http.client
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from gatling.operations import sampling
from gatling.state import audit, deployments, keys, samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from gatling.platform.open import Gatling
    from gatling.state.audit import Entry
    from tests.api.served import Served

SSH = """\
#!{python}
import os, sys
os.environ["SSH_ORIGINAL_COMMAND"] = sys.argv[-1]
os.environ.pop("GATLING_HOST", None)
os.execv(sys.executable, [sys.executable, "-I", "-m", "gatling", "ssh-command", "{key}"])
"""
"""What sshd does with the key of that name, on the same machine."""
LINK = "http://127.0.0.1:"


@dataclass
class Page:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass
class Opened:
    """A dashboard, and a browser of its user without a window."""

    link: str
    process: subprocess.Popen[str]
    cookie: str = ""
    sent: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"http://{urlsplit(self.link).netloc}"

    @property
    def base(self) -> str:
        """The path before all pages."""
        return f"/{urlsplit(self.link).path.split('/')[1]}"

    def enter(self) -> Page:
        """Follow the link."""
        found = self.ask("GET", urlsplit(self.link).path, whole=True)
        self.cookie = found.headers.get("set-cookie", "").partition(";")[0]
        return found

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        whole: bool = False,
    ) -> Page:
        """One request, as a browser sends it; `whole`: the path is not below the dashboard's."""
        given = {"Host": urlsplit(self.link).netloc}
        if self.cookie:
            given["Cookie"] = self.cookie
        raw = None
        if body is not None:
            raw = urlencode(body)
            given |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.origin}
        given |= headers or {}
        connection = http.client.HTTPConnection(urlsplit(self.link).netloc, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path if whole else self.base + path, raw, given)
            found = connection.getresponse()
            named = {name.lower(): value for name, value in found.headers.items()}
            return Page(found.status, named, found.read().decode())

    def get(self, path: str, **headers: str) -> Page:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("GET", path, headers=named)

    def token(self, app: str = "shop") -> str:
        """The token of a form."""
        text = self.get(f"/apps/{app}/stop").text
        return text.partition('name="token" value="')[2].partition('"')[0]


@contextlib.contextmanager
def opened(env: Mapping[str, str], *words: str, before: Sequence[str] = ()) -> Iterator[Opened]:
    """The dashboard, as long as the block. `before`: what runs it, such as unshare(1)."""
    process = subprocess.Popen(
        [*before, sys.executable, "-I", "-m", "gatling", *words, "dashboard", "--print"],
        env=dict(env),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd="/",
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        link = process.stdout.readline().strip()
        assert link.startswith(LINK), process.stderr.read()
        yield Opened(link, process)
    finally:
        process.send_signal(signal.SIGTERM)
        with process.stdout, process.stderr:
            rest = process.stderr.read()
        assert process.wait(30) == 0, rest
    assert rest == "Ctrl-C ends it.\n", rest


@contextlib.contextmanager
def by_key(env: Mapping[str, str], place: Path, key: str) -> Iterator[Opened]:
    """The same from a laptop with the key of that name."""
    program = place / f"bin-{key}" / "ssh"
    program.parent.mkdir(exist_ok=True)
    program.write_text(SSH.format(python=sys.executable, key=key))
    program.chmod(0o755)
    with opened(
        {**env, "PATH": f"{program.parent}:{env['PATH']}"}, "--host", "gatling@far"
    ) as found:
        found.enter()
        yield found


def add_keys(gatling: Gatling) -> None:
    """Record keys: ann's for all, bob's to deploy the app blog, rita's to read shop."""
    wanted: list[tuple[str, keys.Role, tuple[str, ...]]] = [
        ("ann", "admin", ("*",)), ("bob", "deployer", ("blog",)), ("rita", "reader", ("shop",)),
    ]  # fmt: skip
    for name, role, apps in wanted:
        keys.add(
            gatling.db, name, kind="ssh-ed25519", blob=f"AAAA{name}", fingerprint=f"SHA256:{name}",
            role=role, apps=apps,
        )  # fmt: skip


def refused(home: Served) -> list[Entry]:
    """The refusals on record, the newest first."""
    with home.opened() as gatling:
        return [one for one in audit.latest(gatling.db) if one.action == "refused"]


def add_history(gatling: Gatling, cause: str) -> None:
    """Record ten minutes of numbers of shop, and a deployment within them."""
    now = time.time() // 10 * 10
    with samples.opened(sampling.file_of(gatling)) as store:
        for back in range(10, 600, 10):
            taken = samples.Sample(seconds=10, up=10, classes=[0, 420, 0, 0, 7], memory=98_000_000)
            store.add(now - back, {"shop": taken})
    one = deployments.begin(gatling.db, "shop", cause=cause, actor="ann", mark="m", commit=None)
    deployments.begin_step(gatling.db, one.id, 0, "build")
    deployments.end_step(gatling.db, one.id, 0, "succeeded", 0.8)
    deployments.begin_step(gatling.db, one.id, 1, "boot_check")
    deployments.end_step(gatling.db, one.id, 1, "cancelled", 0.2)
    deployments.end(gatling.db, one.id, "succeeded", seconds=1.0)
