"""What comes over SSH: limits that hold for all of it together, and nothing started beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.process import BACKGROUND
from tests.conftest import output_of, until

if TYPE_CHECKING:
    from tests.server.server import Checkout, Person, Server

SESSION = "ssh-command ann"
"""A word in the command line of what a key runs."""
LIMIT = """
import os, pathlib, sys
limits = []
for line in pathlib.Path(f"/proc/{sys.argv[1]}/cgroup").read_text().splitlines():
    _, kinds, path = line.split(":", 2)
    if "memory" in kinds.split(","):
        root, name = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
    elif not kinds:
        root, name = "/sys/fs/cgroup", "memory.max"
    else:
        continue
    group = pathlib.Path(root, path.strip("/"))
    while str(group).startswith(root):
        try:
            value = (group / name).read_text().strip()
        except OSError:
            value = "max"
        if value != "max":
            limits.append(int(value))
        group = group.parent
print(min(limits), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
"""
"""The memory that the kernel lets the control group of a process have, and that of the machine."""
GROUP = f"""\
group = "/proc/self/autogroup"
known = File.exists?(group)
nice = if known, do: File.read!(group) |> String.split() |> List.last(), else: "{BACKGROUND}"
IO.puts("built in a session with nice #{{nice}}")
"""
"""The first lines of a mix.exs: without groups of sessions in the kernel, niceness is enough."""


@pytest.fixture(scope="module")
def ann(server: Server) -> Person:
    return server.let_in("ann", "shop")


@pytest.fixture(scope="module")
def shop(ann: Person) -> Checkout:
    project = ann.project("shop")
    project.push()
    return project


def process(server: Server, words: str) -> str:
    """The id of the process of gatling's with these words in its command line."""

    def found() -> str:
        listed = server.box.exec(["ps", "-u", "gatling", "-o", "pid=,args="], check=False).stdout
        rows = [line.split(maxsplit=1) for line in listed.splitlines()]
        return next((pid for pid, args in rows if words in args and "sshd:" not in args), "")

    pid: str = until(found, words)
    return pid


def has_half_of_the_memory(server: Server, pid: str) -> None:
    limit, total = map(int, server.box.exec(["python3", "-c", LIMIT, pid]).stdout.split())
    assert 0 < limit <= total // 2


def test_sessions_and_pushes_may_have_half_of_the_memory(
    server: Server, ann: Person, shop: Checkout
) -> None:
    """What a hostile node makes Gatling take is taken from no app, nor processors by a build."""
    with ann.session("logs", "shop", "-f", "-n", "1"):
        has_half_of_the_memory(server, process(server, SESSION))
    shop.write("mix.exs", GROUP + (shop.directory / "mix.exs").read_text())
    shop.title("Limits")
    pushing = shop.start_push()
    has_half_of_the_memory(server, process(server, "receive shop"))
    said = output_of(pushing)
    assert " is live " in said
    assert f"built in a session with nice {BACKGROUND}" in said


def test_commands_mount_one_runtime_directory(server: Server, ann: Person) -> None:
    uid = server.box.exec(["id", "-u", "gatling"]).stdout.strip()
    unit = f"user-runtime-dir@{uid}.service"
    for _ in range(3):
        ann.run("apps")
    assert server.show(unit, "ActiveState") == {"ActiveState": "active"}
    said = server.box.journal(f"UNIT={unit}", "-b", lines=500)
    assert said.count("Finished") == 1
    assert "Stopped" not in said


def test_a_command_starts_no_user_manager(server: Server, ann: Person, shop: Checkout) -> None:
    uid = server.box.exec(["id", "-u", "gatling"]).stdout.strip()
    with ann.session("logs", "shop", "-f", "-n", "1"):
        process(server, SESSION)
        manager = server.show(f"user@{uid}.service", "LoadState", "ActiveState")
        assert manager == {"LoadState": "masked", "ActiveState": "inactive"}
        assert (
            "systemd --user" not in server.box.exec(["ps", "-u", "gatling", "-o", "args="]).stdout
        )
    logged = server.box.journal(f"UNIT=user@{uid}.service", "-b")
    assert f"user@{uid}.service" not in logged, "nor does it fail each time"
    for unit in ("systemd-logind.service", "ssh.service"):
        assert "masked" not in server.box.journal("-u", unit, "-b", lines=500)
