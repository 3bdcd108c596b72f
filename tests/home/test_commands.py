"""The commands that look on, or act on one app: logs, run, console, settings, audit, unload."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

import pytest

from gatling.errors import Exit
from tests.conftest import Project, new_world, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import World

HELLO = """\
#!/bin/sh
printf '<%s>' "$GREETING" "$@"
exit 7
"""
ENV_SH = """\
case $RELEASE_COMMAND in greet) printf "it runs $RELEASE_COMMAND"; exit 0 ;; esac
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A home with `shop`, two releases of it, which has a program of its own: bin/hello."""
    with new_world() as made:
        project = made.load()
        project.write("rel/overlays/bin/hello", HELLO)
        (project.directory / "rel/overlays/bin/hello").chmod(0o755)
        project.write("rel/env.sh.eex", ENV_SH)
        project.commit()
        made.run("config", "set", "shop", "GREETING=hi there")
        project.push()
        project.title("second")
        project.push()
        yield made


@pytest.fixture
def other(world: World) -> Iterator[Project]:
    """Another app beside `shop`, which is not deployed."""
    yield world.load("other")
    if "other" in [app["app"] for app in world.json("apps")]:
        world.run("unload", "other", "--confirm", "other")


def say(world: World, text: str) -> None:
    """Let the instance of `shop` print a line."""
    world.run("run", "shop", "--", "rpc", f'IO.puts(Process.whereis(:user), "{text}")')


def test_logs(world: World) -> None:
    say(world, "line one")
    say(world, "line two")
    until(lambda: "line two" in world.run("logs", "shop"), "the line")
    lines = world.run("logs", "shop").splitlines()
    assert [line.split(" ", 2)[1:] for line in lines[-2:]] == [
        ["v2", "line one"], ["v2", "line two"],
    ]  # fmt: skip
    assert any(" v1 -- instance stopped" in line for line in lines)
    assert world.run("logs", "shop", "-n", "1").splitlines() == lines[-1:]
    assert world.run("logs", "shop", "-n", "0") == ""
    first = world.run("logs", "shop", "--release", "v1").splitlines()
    assert first
    assert all(line.split(" ")[1] == "v1" for line in first)
    stamp = lines[-1].split(" ")[0]
    assert world.run("logs", "shop", "--since", stamp).splitlines() == lines[-1:]
    assert world.run("logs", "shop", "--since", "1h").splitlines() == lines
    assert world.run("logs", "shop", "--since", "2126-01-01") == ""
    for options in (["--since", "yesterday"], ["--release", "one"]):
        assert world.try_run("logs", "shop", *options).returncode == Exit.INVALID
    assert world.try_run("logs", "shop", "-n", "-1").returncode == Exit.USAGE
    build = world.run("logs", "shop", "--build")
    assert "   --> mix_compile" in build
    assert "=====> shop v2 is live (rolling deployment) in " in build
    assert world.run("logs", "shop", "--build", "-n", "2").count("\n") == 2


def test_logs_are_followed(world: World) -> None:
    follower = world.start("logs", "shop", "-f", "-n", "0")
    assert follower.stdout is not None
    try:
        say(world, "while following")
        # it may begin to follow only now: say it until it is heard
        while not select.select([follower.stdout], [], [], 0.5)[0]:
            say(world, "while following")
        assert follower.stdout.readline().endswith(" v2 while following\n")
        assert follower.poll() is None
        os.killpg(follower.pid, signal.SIGINT)
        assert follower.wait(60) == Exit.INTERRUPTED
    finally:
        follower.kill()
        follower.communicate()


def test_the_reader_of_a_pipe_may_leave(world: World) -> None:
    process = world.start("logs", "shop", "-f")
    assert process.stdout is not None
    process.stdout.close()

    def ended() -> bool:
        say(world, "to nobody")
        return process.poll() is not None

    until(ended, "its end")
    assert process.returncode == Exit.OK


def test_run(world: World) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = world.try_run("run", "shop", "--", *arguments)
        return done.returncode, done.stdout

    node = "counter@127.0.0.1"
    assert run("rpc", "IO.puts(node())") == (0, f"{node}\n")
    assert run("rpc", "IO.write(Counter.Store.count())") == (0, world.get("/count").text)
    assert run("eval", 'IO.puts("two  words; $HOME" <> " & \'more\'")') == (
        0, "two  words; $HOME & 'more'\n",
    )  # fmt: skip
    assert run("eval", 'IO.puts(System.get_env("GREETING"))') == (0, "hi there\n")
    assert run("eval", "System.halt(3)") == (3, "")
    status, text = run("eval", 'raise "not this"')
    assert (status, "not this" in text) == (1, True)
    assert run("rpc", 'raise "not that"')[0] == 1
    # a program of the release's bin/
    assert run("hello", "a b", "$x", "") == (7, "<hi there><a b><$x><>")
    text = world.run(
        "run", "shop", "--release", "v1", "--", "eval", "IO.puts(Counter.Page.title())"
    )
    assert text == "Counter\n", "the live one says `second`"
    assert run("version") == (0, "counter 0.1.0\n")
    for word in ("no-such-command", "ls", "sh", "", "counter", "../bin/hello"):
        status, text = run(word, "x")
        assert status == Exit.NOT_FOUND
        assert f"v2 of shop has no command or program {word!r}." in text
        assert "Programs in bin/: hello.\n" in text
        assert "<x>" not in text, "no way out of bin/"
    status, text = run("eval 1")
    assert (status, "`gatling run shop -- eval …`" in text) == (Exit.NOT_FOUND, True)
    assert run("greet") == (0, "it runs greet"), "a command of the project's own"
    # the instance is still the same, and healthy
    assert world.get().status == 200
    assert world.beams() == [world.status()["pid"]]
    assert world.try_run("run", "shop").returncode == Exit.USAGE


def test_run_of_an_app_that_does_not_run(world: World, other: Project) -> None:
    done = world.try_run("run", other.app, "--", "eval", "1")
    assert (done.returncode, "other has not been deployed yet" in done.stdout) == (
        Exit.INVALID,
        True,
    )
    world.run("stop", "shop")
    done = world.try_run("run", "shop", "--", "rpc", "1")
    assert (done.returncode, "gatling start shop" in done.stdout) == (Exit.INVALID, True)
    assert world.try_run("console", "shop").returncode == Exit.INVALID
    assert world.run("run", "shop", "--", "eval", "IO.puts(42)") == "42\n"
    world.run("start", "shop")


class Terminal:
    """A person at a terminal of its own."""

    def __init__(self, world: World, *arguments: str) -> None:
        self._fd, end = pty.openpty()
        command = ["setsid", "--ctty", "--wait", sys.executable, "-I", "-m", "gatling"]
        self._process = subprocess.Popen(
            [*command, *arguments], stdin=end, stdout=end, stderr=end,
            env=world.env | {"TERM": "xterm"},
        )  # fmt: skip
        os.close(end)
        self.text = ""

    def expect(self, text: str, seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.text!r}"
            if select.select([self._fd], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # EIO when the other side is closed
                    self.text += os.read(self._fd, 65536).decode(errors="replace")
        self.text = self.text.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)  # whoever is still there gets SIGHUP
        self._process.wait(60)

    def status(self) -> int:
        return self._process.wait(60)


def test_console(world: World) -> None:
    before = world.status()
    with Terminal(world, "console", "shop") as terminal:
        terminal.expect("iex(counter@127.0.0.1)1>")
        terminal.type("40 + 2\r")
        terminal.expect("42")
        terminal.expect("iex(counter@127.0.0.1)2>")
        terminal.type("Counter.Store.increment()\r")
        terminal.expect("iex(counter@127.0.0.1)3>")
        assert int(world.get("/count").text) > 0
        terminal.type("\x03")
        terminal.expect("BREAK")
        terminal.type("\x03")
        terminal.status()
    assert world.status()["pid"] == before["pid"]
    assert world.beams() == [before["pid"]]


def test_unload_asks(world: World, other: Project) -> None:
    with Terminal(world, "unload", other.app) as terminal:
        terminal.expect("Stop other and delete its repository, releases, config and logs?")
        terminal.expect("Type other to confirm")
        terminal.type("shop\r")
        terminal.expect("Nothing was changed")
        assert terminal.status() == Exit.INVALID
    for given in ("shop", "OTHER", ""):
        done = world.try_run("unload", "other", "--confirm", given)
        assert (done.returncode, "Nothing was changed" in done.stdout) == (Exit.INVALID, True)
    done = world.try_run("unload", "other", stdin="")
    assert done.returncode == Exit.INVALID
    assert "Nothing was changed: there is no terminal to answer the question." in done.stdout
    assert "--confirm other" in done.stdout
    assert world.status("other")["state"] == "empty"
    assert "other was removed." in world.run("unload", "other", stdin="other\n")


def test_unload_removes_what_is_its_own(world: World, other: Project) -> None:
    other.push()
    ports, before = world.status("other")["ports"], world.status()
    assert world.get(host="other.localhost").status == 200
    world.run("unload", "other", "--confirm", "other")
    assert world.try_run("status", "other").returncode == Exit.NOT_FOUND
    assert not [line for line in world.processes() if "/other/" in line]
    for place in ("apps", "supervisor/apps"):
        assert not [path.name for path in (world.home / place).iterdir() if "other" in path.name]
    assert "other.localhost" not in (world.home / "nginx/nginx.conf").read_text()
    passing = {"uptime": 0, "cpu": 0, "cpu_seconds": 0, "memory": 0, "requests": 0}
    assert world.status() | passing == before | passing
    assert world.get().status == 200
    until(lambda: world.get(host="other.localhost").status == 404, "the page of no app")
    assert "other" in {entry["app"] for entry in world.json("audit")}
    # the name and the ports are free, and nothing of the old app is left in the new one
    world.run("load", "other")
    assert world.status("other")["ports"] == ports
    assert world.json("releases", "other") == world.json("deployments", "other") == []
    assert other.git("ls-remote", "gatling") == ""
    other.push()
    assert world.status("other")["release"] == "v1"
