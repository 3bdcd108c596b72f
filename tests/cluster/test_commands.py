"""`run` and `console` on a real cluster: in a pod of their own, and beside an instance."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from gatling.errors import Exit
from tests.cluster.conftest import NAMESPACE, Cluster
from tests.conftest import until
from tests.home.test_commands import Terminal

if TYPE_CHECKING:
    from tests.conftest import Project, World


def processes(cluster: Cluster) -> str:
    """The command lines of everything in the instances."""
    script = "for one in /proc/[0-9]*; do tr '\\0' ' ' < $one/cmdline; echo; done"
    return "".join(
        cluster.kubectl("exec", "-n", NAMESPACE, one["metadata"]["name"], "-c", "app", "--",
                        "sh", "-c", script)
        for one in cluster.pods()
    )  # fmt: skip


def test_a_command_is_run_in_a_pod_of_its_own(
    shop: Project, world: World, cluster: Cluster
) -> None:
    assert shop.app == "shop"
    said = world.run("run", "shop", "--", "eval", 'IO.puts("sum:\\n#{20 + 22}")')
    assert said == "sum:\n42\n"
    failed = world.try_run("run", "shop", "--", "eval", "System.halt(7)")
    assert failed.returncode == 7
    unknown = world.try_run("run", "shop", "--", "no-such-command")
    assert unknown.returncode == Exit.NOT_FOUND
    assert "Programs in bin/" in unknown.stdout
    refused = world.try_run("run", "shop", "--", "stop")
    assert (refused.returncode, "gatling stop shop" in refused.stdout) == (Exit.INVALID, True)

    going = world.start("run", "shop", "--", "eval", "IO.puts(:begun); Process.sleep(:infinity)")
    assert going.stdout is not None
    assert going.stdout.readline() == "begun\n"
    going.send_signal(signal.SIGTERM)
    assert going.wait(60) == 128 + signal.SIGTERM
    going.communicate()
    assert cluster.get("jobs")["items"] == []


def test_rpc_runs_beside_an_instance(shop: Project, world: World, cluster: Cluster) -> None:
    assert shop.app == "shop"
    world.run("config", "set", "shop", "SECRET=never-shown")
    addresses = {one["status"]["podIP"] for one in cluster.pods()}
    assert world.run("run", "shop", "--", "rpc", "IO.write(node())").partition("@")[2] in addresses
    assert "never-shown" in world.run(
        "run", "shop", "--", "rpc", 'IO.puts(System.get_env("SECRET"))'
    )
    done = subprocess.run(
        [sys.executable, "-I", "-m", "gatling", "run", "shop", "--", "rpc", 'raise "not that"'],
        env=world.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, "not that" in done.stderr) == (1, "", True)

    # with a word of its own, to be found among the processes
    code = "IO.puts(:begun); Process.sleep(:infinity) # endless-call"
    for sent, status in ((signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, 143)):
        going = world.start("run", "shop", "--", "rpc", code)
        until(lambda: "endless-call" in processes(cluster), "the process in the pod")
        assert "never-shown" not in processes(cluster)
        os.killpg(going.pid, sent)
        assert going.wait(60) == status
        going.communicate()
        until(lambda: "endless-call" not in processes(cluster), "its end in the pod")


def test_a_console_is_the_terminal_of_an_instance(
    shop: Project, world: World, cluster: Cluster
) -> None:
    assert shop.app == "shop"
    assert "needs a terminal" in world.run("console", "shop", ok=False)
    assert "needs a terminal" in world.run("run", "shop", "--", "remote", ok=False)
    with Terminal(world, "console", "shop") as terminal:
        terminal.expect(")1>")
        terminal.type("40 + 2\r")
        terminal.expect("42")
        terminal.expect(")2>")
        terminal.type("System.halt\t")
        terminal.expect("halt/1", 30)
        terminal.type("\x03")
        terminal.expect("BREAK")
        terminal.type("\x03")
        assert terminal.status() == 0
    with Terminal(world, "console", "shop") as terminal:
        terminal.expect(")1>")
    # the terminal was closed
    until(lambda: "--remsh" not in processes(cluster), "the end of the shell in the pod")


def test_no_instance_runs_the_command(shop: Project, world: World) -> None:
    assert shop.app == "shop"
    world.run("stop", "shop")
    done = world.try_run("run", "shop", "--", "rpc", "1")
    assert (done.returncode, "No instance of" in done.stdout) == (Exit.INVALID, True)
    assert "alone" in world.run("run", "shop", "--", "eval", "IO.puts(:alone)")
    world.run("start", "shop")
