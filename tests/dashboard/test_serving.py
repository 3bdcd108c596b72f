"""The program: when it ends, and what it says."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from tests.api.served import PROGRAM

if TYPE_CHECKING:
    from tests.api.served import Served

SOON = "from gatling.dashboard import serving; serving.IDLE_SECONDS = 0.5"


@pytest.mark.parametrize("words", [["--print"], ["--stdio", "--port", "8099"]])
def test_it_ends_when_nobody_looks(home: Served, words: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-I", "-c", PROGRAM.format(before=SOON), "dashboard", *words],
        env=home.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.wait(60) == 0  # its input is still open
        assert process.stdout is not None
        assert "/enter/" in process.stdout.read()


def test_the_server_s_side_ends_with_the_connection(home: Served) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "gatling", "dashboard", "--stdio", "--port", "8099"],
        env=home.env, input="", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_taken_port_and_a_home_without_apps_are_named(home: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-I", "-m", "gatling", "dashboard", "--port", str(port)],
            env=home.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert f"Port {port} cannot be used" in done.stderr
    env = home.env | {"GATLING_HOME": str(home.root / "none")}
    done = subprocess.run(
        [sys.executable, "-I", "-m", "gatling", "dashboard"], env=env, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == Exit.NOT_FOUND
    assert "no apps here yet" in done.stderr


def test_a_command_that_only_starts_loads_nothing_of_the_dashboard() -> None:
    script = (
        "import sys; sys.argv = ['gatling', 'apps', '--help']\n"
        "from gatling.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in sys.modules if m.startswith(('gatling.dashboard', 'jinja2',"
        " 'starlette', 'uvicorn', 'asyncio'))])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True, cwd="/"
    )
    assert done.stdout.rstrip().endswith("[]")


def test_a_server_that_does_not_open_it_is_named(home: Served) -> None:
    program = home.root / "refusing" / "ssh"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho \'{"path": "/x/enter/http://evil", "host": "h"}\'\n')
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-I", "-m", "gatling", "--host", "far", "dashboard", "--print"],
        env=home.env | {"PATH": f"{program.parent}:{home.env['PATH']}"}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == Exit.HOST
    assert done.stdout == ""
    assert "gatling@far did not open the dashboard" in done.stderr
