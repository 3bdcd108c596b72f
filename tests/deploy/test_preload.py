"""The modules that a push needs late are loaded late, and all of them beside the build."""

from __future__ import annotations

import subprocess
import sys

from gatling.deploy import preload

FIRST = "gatling.ssh.pre_receive, gatling.ssh.push_options, gatling.ui.failing"
LATE = (
    "gatling.build.builder",
    "gatling.build.hints",
    "gatling.deploy.evidence.prober",
    "gatling.deploy.new_release",
    "gatling.deploy.published",
    "http.client",
    "ssl",
    "tempfile",
)
"""Modules that the first VM of a push does not wait for."""


def loaded(program: str) -> str:
    code = f"import sys; {program}; print([m for m in {preload.LATER!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_push_loads_none_of_them_before_its_build() -> None:
    hook = f"{FIRST}, gatling.ssh.receive, gatling.operations.deploys"
    assert loaded(f"import {hook}") == "[]"


def test_what_a_plain_push_does_not_need_is_loaded_by_no_hook() -> None:
    """The VM of the build boots when these are loaded, and the push waits for both."""
    code = (
        f"import sys, {FIRST}, gatling.operations.session, gatling.platform.open,"
        " gatling.platform.embedded.parts, gatling.ssh.receive, gatling.operations.deploys;"
        " print(*sorted(m for m in sys.modules if m.startswith('gatling.')"
        f" or m in {LATE!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True
    )
    loaded = done.stdout.split()
    assert not set(LATE) & set(loaded)
    for package in ("proxy", "beam.control", "cli", "api", "host", "images", "platform.postgres"):
        assert not [m for m in loaded if m.startswith(f"gatling.{package}")], package


def test_they_are_loaded_beside_it() -> None:
    program = (
        "import threading; from gatling.deploy import preload; preload.start();"
        " [t.join() for t in threading.enumerate() if t.daemon]"
    )
    assert loaded(program) == str(list(preload.LATER))


def test_no_common_command_waits_for_dataclasses() -> None:
    """The class of a frozen dataclass takes half a millisecond to create, a Struct a hundredth."""
    code = (
        "import sys, gatling.operations.overview, gatling.operations.session,"
        " gatling.platform.open, gatling.platform.embedded.parts, gatling.ssh.receive,"
        " gatling.operations.deploys, gatling.platform.server.export,"
        " gatling.platform.server.helper.service;"
        " print('dataclasses' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout == "False\n"


def test_git_over_ssh_does_not_load_the_command_line() -> None:
    code = (
        "import sys, gatling.ssh.access;"
        " print('gatling.cli' in sys.modules, 'click' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout == "False False\n"
