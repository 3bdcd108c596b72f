"""What runs owes nothing to whoever pushed, and tells nobody what it knows."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.conftest import files_below, new_world, output_of
from tests.home.processes import session, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project

VALUE = "a-value-that-nobody-else-may-see-4711"


@pytest.fixture(scope="module")
def shop() -> Iterator[Project]:
    """An app with something to hide."""
    with new_world() as world:
        project = world.load()
        world.run("config", "set", "shop", f"API_KEY={VALUE}")
        project.push()
        yield project


def test_the_end_of_the_pusher_s_session_ends_nothing(shop: Project) -> None:
    world = shop.world
    world.run("down")
    shop.title("from a terminal that closes")
    push = shop.start_push()
    output_of(push)
    assert [p for p in psutil.process_iter() if session(p) == push.pid] == []
    with contextlib.suppress(ProcessLookupError):
        os.killpg(push.pid, signal.SIGKILL)
    for process in tree(world):
        assert process.terminal() is None
        assert session(process) not in (push.pid, os.getsid(0))
    assert "from a terminal that closes" in world.get().text


def test_nothing_of_the_pusher_reaches_what_runs(shop: Project) -> None:
    world = shop.world
    world.run("down")
    shop.title("of a rich pusher")
    names = ("AWS_SECRET_ACCESS_KEY", "ERL_LIBS", "RELEASE_MODE", "SSH_AUTH_SOCK", "PYTHONSTARTUP",
             "GREETING", "LC_ALL", "LD_LIBRARY_PATH", "DATABASE_URL")  # fmt: skip
    done = subprocess.run(
        ["git", "push", "gatling", "main"], cwd=shop.directory, check=False, text=True,
        env=world.env | dict.fromkeys(names, "/of-the-pusher"), capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    processes = tree(world)
    assert world.status()["pid"] in [p.pid for p in processes]
    for process in processes:
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"of-the-pusher" not in environment, process
        assert b"GIT_" not in environment, process
        own = {one.split(b"=")[0] for one in environment.split(b"\0") if b"GATLING" in one[:7]}
        assert own <= {b"GATLING_MARK", b"GATLING_TASK", b"GATLING_INSTANCE"}, process
    assert "of a rich pusher" in world.get().text


def test_values_are_in_no_command_line_and_no_readable_file(shop: Project) -> None:
    world = shop.world
    values = [world.run("config", "get", "shop", n).strip() for n in ("SECRET_KEY_BASE", "API_KEY")]
    assert any(VALUE in value for value in values)
    environment = Path(f"/proc/{world.status()['pid']}/environ").read_bytes()
    assert all(value.encode() in environment for value in values)
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = file.read_bytes().decode(errors="replace")
            assert not any(value in line for value in values), line
    holders = set()
    for file in files_below(world.home):
        with contextlib.suppress(FileNotFoundError):
            if any(value.encode() in file.read_bytes() for value in values):
                assert file.stat().st_mode & 0o077 == 0, file
                holders.add(file.name)
    assert {"instance.json", "state.db"} <= {n.removesuffix("-wal") for n in holders}
    assert holders <= {"instance.json", "state.db", "state.db-wal"}


def test_files_are_the_owner_s_alone(shop: Project) -> None:
    home = shop.world.home
    assert home.stat().st_mode & 0o777 == 0o700
    logs = [*(home / "apps/shop/logs").iterdir(), *home.glob("apps/*/slots/*/instance.json"),
            home / "state.db", home / "supervisor/supervisord.conf"]  # fmt: skip
    assert len(logs) > 4
    for file in logs:
        assert file.stat().st_mode & 0o777 == 0o600, file
    assert (home / "run/supervisor.sock").stat().st_mode & 0o777 == 0o600
    status = Path(f"/proc/{shop.world.status()['pid']}/status").read_text()
    assert "Umask:\t0077\n" in status


def test_no_value_is_told_by_what_is_recorded(shop: Project) -> None:
    world = shop.world
    world.run("config", "set", "shop", f"API_KEY={VALUE}-2")
    told = [world.run(*command, "shop") for command in (
        ("status",), ("releases",), ("deployments",), ("audit",), ("config", "list"),
        ("logs",), ("logs", "--build"), ("deployments", "--json"), ("releases", "--json"),
    )]  # fmt: skip
    assert VALUE not in "".join(told)
    assert world.last()["cause"] == "config set API_KEY"
