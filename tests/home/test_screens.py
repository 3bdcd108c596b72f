"""Screens as a person sees them: in terminals of 60 and 120 columns, and through a pipe.

`WRITE_SCREENS=1` writes tests/home/screens again. Values that differ between runs are replaced.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Project, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator

SCREENS = Path(__file__).parent / "screens"
NARROW, WIDE = 60, 120
TABLES = ("apps", "releases", "deployments")
TIME = r"(?:\d+d(?: \d+h)?|\d+h(?: \d+m)?|\d+m(?: \d+s)?|[\d.]+ m?s)"
CHANGING = [
    (r"/(?:tmp|dev/shm)/gt-\w{8}/\S*?/?(?=apps/)", "HOME/"),
    (r"\b[0-9a-f]{40}\b", "COMMIT"), (r"\b[0-9a-f]{9}\b", "COMMIT"), (r"\b[0-9a-f]{7}\b", "COMM"),
    (rf"(?:{TIME} ago|just now)", "T ago"),
    (rf"\b{TIME}(?![\w.])", "T"), (r":1\d{4}\b", ":PORT"), (r"port 1\d{4}", "port PORT"),
    (r"\b(\d+) of \d+( requests?)?\b", r"\1 of N\2"), (r"(?<=up )[\d.]+ m?s", "T"),
    (r"[\d.]+ [kM]?B\b", "SIZE"),
    (r"\b\d+%", "N%"), (r"pid \d+", "pid PID"),
]  # fmt: skip
"""What is different in each run, and what a screen has in its place."""
STEP = rf"[a-z][a-z. ]+ {TIME}"
NUMBERS = itertools.count()
PASSING = re.compile(rf"remote: {{8}}(?:{STEP}(?: · {STEP})*|[a-z ]+: \d+ s so far)$")
"""Lines of a push that depend on how long its steps take."""


@pytest.fixture(scope="module", autouse=True)
def builds_quickly() -> None:
    """A first push shows what it compiles."""


@pytest.fixture(scope="module")
def shop() -> Iterator[Project]:
    """An app that has not been pushed."""
    with new_world() as world:
        project = world.load(strategy="auto")
        # the example alone: mix prints a line for each file of rel/
        project.git("rm", "-r", "--quiet", "rel")
        project.git("commit", "--amend", "--quiet", "--no-edit")
        yield project


class Screen:
    """A command in a terminal of this width; what it leaves there, with and without colours."""

    def __init__(self, shop: Project, width: int, *command: str, **variables: str) -> None:
        socket = (
            f"gatling-{os.getpid()}-{next(NUMBERS)}"  # a server that ends may still have its own
        )
        env = shop.env | {"TERM": "xterm-256color"}
        tmux = ["tmux", "-L", socket, "-f", "/dev/null"]
        given = [f"{name}={value}" for name, value in variables.items()]
        script = f"env {shlex.join([*given, *command])}; tmux -L {socket} wait-for -S done; cat"

        def run(*words: str) -> str:
            return subprocess.run(
                [*tmux, *words], cwd=shop.directory, env=env, check=True, stdout=subprocess.PIPE,
                text=True, timeout=240,
            ).stdout  # fmt: skip

        try:
            run("new-session", "-d", "-x", str(width), "-y", "100", script)
            run("wait-for", "done")
            joined = ["-J"] if command[0] == "git" else []  # git leaves long lines to the terminal
            self.text = run("capture-pane", "-p", *joined)
            self.coloured = run("capture-pane", "-p", "-e")
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                run("kill-server")


def piped(shop: Project, *command: str) -> str:
    done = subprocess.run(
        command, cwd=shop.directory, env=shop.env | {"TERM": "xterm-256color"}, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout


def settled(text: str) -> str:
    """A screen without what changes; in columns, without the blanks that depend on it."""
    lines = [line.rstrip() for line in text.rstrip().splitlines()]
    pushed = any(line.startswith("remote:") for line in lines)
    if pushed:  # without what git itself counts and compresses
        lines = lines[next(at for at, line in enumerate(lines) if "remote:" in line) :]
        lines = [line for line in lines if not PASSING.match(line)]
    for pattern, instead in CHANGING:
        lines = [re.sub(pattern, instead, line) for line in lines]
    if not pushed:
        lines = [re.sub(r"(?<=[^\s!]) {2,}", "  ", line) for line in lines]
    return "\n".join(lines) + "\n"


def check(name: str, text: str) -> None:
    """Compare with the screen of that name."""
    file = SCREENS / f"{name}.txt"
    if os.environ.get("WRITE_SCREENS"):
        file.write_text(settled(text))
    assert settled(text) == file.read_text()


def fits(narrow: str, wide: str) -> None:
    """A narrow table has the first columns of the wide one, and a line for each of its lines."""
    lines, all_of_it = narrow.rstrip().splitlines(), wide.rstrip().splitlines()
    assert max(map(len, lines)) <= NARROW
    assert len(lines) == len(all_of_it)
    columns, known = lines[0].split(), iter(all_of_it[0].split())
    assert all(column in known for column in columns), "in the same order"
    assert len(columns) >= 3
    assert [line.split()[0] for line in lines] == [line.split()[0] for line in all_of_it]


def test_pushes(shop: Project) -> None:
    push = ("git", "push", "gatling", "main")
    first = Screen(shop, NARROW, *push)
    check("push-first-60", first.text)
    assert "\x1b[1m-----> Building" in first.coloured
    shop.title("Two")
    shop.world.run("settings", "set", "shop", "hot.boot_check=before")  # a push waits for it
    second = Screen(shop, WIDE, *push, NO_COLOR="1")
    check("push-hot-120", second.text)
    assert "\x1b[1m-----> Building" not in second.coloured
    shop.title("Three")
    through = piped(shop, *push)
    check("push-hot-pipe", through)
    assert "\x1b" not in through
    shop.write("lib/counter/page.ex", "defmodule Counter.Page do\n  def html(\n")
    shop.commit("Break it")
    check("push-error-120", Screen(shop, WIDE, *push).text)
    shop.git("reset", "--quiet", "--hard", "HEAD~1")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("apps", "apps"), ("status", "status shop"), ("plan", "plan shop v1"),
        ("releases", "releases shop"), ("deployments", "deployments shop"),
        ("error", "rollback shop v9"),
    ],
)  # fmt: skip
def test_commands(shop: Project, name: str, command: str) -> None:
    words = ("gatling", *command.split())
    narrow, wide = Screen(shop, NARROW, *words), Screen(shop, WIDE, *words)
    check(f"{name}-120", wide.text)
    if name in TABLES:  # how many columns fit depends on times and sizes
        fits(narrow.text, wide.text)
    else:
        check(f"{name}-60", narrow.text)
    through = piped(shop, *words)
    check(f"{name}-pipe", through)
    assert "\x1b" not in through
    for plain in ({"NO_COLOR": "1"}, {"TERM": "dumb"}) if name in ("deployments", "error") else ():
        found = Screen(shop, NARROW, *words, **plain)
        assert settled(found.text) == settled(narrow.text)
        assert "\x1b[" not in found.coloured
        assert "\x1b[" in narrow.coloured
