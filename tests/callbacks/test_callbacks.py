"""What callbacks may, what is told of them, and what becomes of a deployment when they fail."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tests.callbacks.conftest import lines_after
from tests.conftest import output_of, until

if TYPE_CHECKING:
    from tests.callbacks.conftest import Called


def assert_still_live(shop: Called) -> None:
    """What was live when the test began serves on, and nothing of the deployment is left."""
    assert shop.world.status()["release"] == shop.live
    assert shop.world.get("/").status == 200
    assert not shop.machines()


def test_one_that_raises_before_the_decision_fails_the_push(shop: Called) -> None:
    shop.upgrade('def before_upgrade_service(_), do: raise("the sky fell\\nat noon")')
    text = shop.push(ok=False)
    assert lines_after(text, "before_upgrade_service")[:2] == [
        "** (RuntimeError) the sky fell", "at noon",
    ]  # fmt: skip
    assert "upgrade.exs:3: Shop.UpgradeCallbacks.before_upgrade_service/1" in text
    assert (
        " !     before_upgrade_service of upgrade.exs failed: (RuntimeError) the sky fell." in text
    )
    assert "start_instance" not in shop.steps()
    assert shop.world.last()["outcome"] == "failed"
    assert_still_live(shop)


def test_one_that_raises_in_the_build_ends_it(shop: Called) -> None:
    shop.upgrade("def before_mix_compile(_), do: throw(:towel)")
    text = shop.push(ok=False)
    assert "before_mix_compile of upgrade.exs failed: (throw) :towel." in text
    assert "mix_compile" not in shop.steps()
    assert_still_live(shop)


def test_one_that_raises_after_the_decision_is_told(shop: Called) -> None:
    shop.upgrade("def after_upgrade_service(_), do: exit(:late)")
    text = shop.push(title="After all")
    assert (
        "after_upgrade_service of upgrade.exs failed: (exit) :late. The release is already live"
        in text
    )
    assert shop.steps()["after_upgrade_service"] == "failed"
    assert shop.world.last()["outcome"] == "succeeded"
    assert "After all" in shop.world.get("/").text
    assert not shop.machines()


def test_a_callback_that_ends_its_own_vm_fails_the_push(shop: Called) -> None:
    shop.upgrade("def before_upgrade_service(_), do: System.halt(3)")
    text = shop.push(ok=False)
    assert "before_upgrade_service of upgrade.exs failed: elixir exited with status 3." in text
    assert_still_live(shop)


def test_one_that_takes_too_long_is_stopped(shop: Called) -> None:
    shop.upgrade('def before_upgrade_service(_), do: bash("sleep", ["600"])')
    shop.project.write("gatling.toml", "[build]\ntimeout = 6\n")
    text = shop.push(ok=False)
    shop.project.git("rm", "-fq", "gatling.toml")
    assert "failed: It did not end within 6 seconds and was stopped." in text
    assert not [line for line in shop.world.processes() if "sleep" in line]
    assert_still_live(shop)


def test_a_file_that_does_not_compile_fails_the_push(shop: Called) -> None:
    shop.project.write("upgrade.exs", "defmodule Shop.Callbacks do\n  def before_(\nend\n")
    text = shop.push(ok=False)
    assert "Loading upgrade.exs failed: " in text
    assert re.search(r"upgrade\.exs:[23]", text)
    assert_still_live(shop)


def test_what_looks_like_a_callback_and_is_none_is_told(shop: Called) -> None:
    shop.upgrade(
        '  def before_mix_compil(_), do: :ok\n  def after_start_service(_), do: raise("no")\n'
        "  def befriend(_), do: :ok"
    )
    shop.hook("before_mix_relese", "#!/bin/sh\n")
    shop.hook("after_mix_compile", "#!/bin/sh\nexit 1\n", mode=0o644)
    shop.hook("README.md", "Not one.\n", mode=0o644)
    text = shop.push()
    assert (
        "upgrade.exs: before_mix_compil is not the callback of any step; did you mean"
        " before_mix_compile?" in text
    )
    assert "upgrade.exs: after_start_service is called only in deploy.exs" in text
    assert (
        ".gatling/hooks/before_mix_relese is not the hook of any step; did you mean"
        " before_mix_release?" in text
    )
    assert "hooks/after_mix_compile is not executable and was not called (`git update-index" in text
    assert "README" not in text
    assert "befriend" not in text


def test_log_and_bash(shop: Called) -> None:
    shop.upgrade(r"""
      def before_mix_deps_get(env) do
        "hé" = log("hé")
        {_, 0} = bash("sh", ["-c", "printf 'a\\303'; sleep 0.1; printf '\\251\\n\\377 b'; pwd >&2"])
        {_, 0} = bash("pwd", [], cd: "/")
        {_, 3} = bash("sh", ["-c", "exit 3"], check: false)
        {"text\n", 0} = bash("echo", ["text"], into: "")
        {_, 0} = bash("sh", ["-c", "echo $MIX_ENV $GREETING"])
        File.cd!("/")
        true = env.build_dir != "/"
      end

      # the directory is the project's again, and this is a status that is not looked at
      def before_upgrade_service(_), do: bash("sh", ["-c", "test -f mix.exs && exit 4"])
    """)  # fmt: skip
    shop.world.run("config", "set", "shop", "--no-restart", "GREETING=hello")
    text = shop.push(ok=False)
    said = lines_after(text, "before_mix_deps_get")
    assert said[0] == "hé"
    assert said[1].startswith("$ sh -c printf")
    assert said[2] == "aé"
    assert said[3].startswith("ÿ b")
    assert said[3].endswith("/build/source")
    assert said[4:6] == ["$ pwd (/)", "/"]
    assert said[-1] == "prod hello"
    assert "failed: (RuntimeError) sh exited with status 4." in text


def test_the_first_module_with_callbacks_counts(shop: Called) -> None:
    shop.project.write(
        "upgrade.exs",
        "defmodule Helper do\n  def text(_), do: \"from elsewhere\"\nend\n"
        "defmodule Whatever do\n  def after_mix_compile(env), do: IO.puts(Helper.text(env))\nend\n",
    )  # fmt: skip
    assert lines_after(shop.push(), "after_mix_compile") == ["from elsewhere"]


def test_env_tells_the_truth(shop: Called) -> None:
    shop.upgrade("""
      def before_copy_release_to_upgrade(%Gatling.Env{} = env) do
        true = File.exists?(Path.join(env.built_release_path, "bin/counter"))
        false = File.exists?(env.upgrade_dir)
        true = "phx.new" in env.available_tasks or "compile" in env.available_tasks
        IO.puts(Enum.join([env.project, env.task, env.previous, env.version, env.domains], " "))
        IO.inspect([env.available_port, env.strategy, env.nginx_template])
      end

      def after_upgrade_service(env) do
        true = File.exists?(Path.join(env.upgrade_path, "bin/counter"))
        IO.puts("#{env.release} #{env.strategy} #{env.port} #{env.commit}")
        IO.inspect(env.upgrade_callback_module)
      end
    """)
    text = shop.push()
    status = shop.world.status()
    first = f"shop upgrade {shop.live} 0.1.0 shop.localhost"
    assert lines_after(text, "before_copy_release_to_upgrade") == [first, "[nil, nil, nil]"]
    assert lines_after(text, "after_upgrade_service")[:2] == [
        f"{status['release']} rolling {status['port']} {status['commit']}",
        "Shop.UpgradeCallbacks",
    ]


def test_hooks_in_any_language(shop: Called) -> None:
    shop.upgrade('def before_mix_compile(_), do: log("elixir")')
    shop.hook(
        "before_mix_compile", '#!/bin/sh\ncat; echo "hook $GATLING_STEP of $GATLING_APP"; pwd\n'
    )
    shop.hook(
        "after_stop_previous",
        "#!/usr/bin/env python3\nimport json, os\n"
        "env = json.loads(os.environ['GATLING_ENV'])\n"
        "print(env['callback'], env['release'], env['previous'], os.environ['GATLING_STRATEGY'])\n"
        "print('a secret' if 'SECRET_KEY_BASE' in env else 'no secret')\n",
    )
    text = shop.push()
    assert lines_after(text, "before_mix_compile")[:2] == ["elixir", "hook mix_compile of shop"]
    assert lines_after(text, "before_mix_compile")[2].endswith("/shop/build/source")
    release = shop.world.status()["release"]
    assert lines_after(text, "after_stop_previous")[:2] == [
        f"after_stop_previous {release} {shop.live} rolling", "no secret",
    ]  # fmt: skip
    steps = list(shop.steps())
    assert steps.index("before_mix_compile") == steps.index("mix_compile") - 1
    assert steps[-1] == "after_stop_previous"


def test_a_hook_that_fails_fails_the_push(shop: Called) -> None:
    shop.hook("before_start_instance", "#!/bin/sh\necho not today >&2\nexit 7\n")
    text = shop.push(ok=False)
    assert lines_after(text, "before_start_instance") == ["not today"]
    assert ".gatling/hooks/before_start_instance failed: it exited with status 7." in text
    assert_still_live(shop)


def machines_of_a_push(shop: Called) -> set[int]:
    """The process ids of all VMs that build or call, seen during a push."""
    parents: dict[int, int] = {}
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            for line in shop.machines():
                pid = int(line.split()[0])
                with contextlib.suppress(OSError):
                    stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
                    # not the shell that becomes it
                    if "beam" in line:
                        parents[pid] = int(stat.rpartition(")")[2].split()[1])

    watching = threading.Thread(target=look)
    watching.start()
    try:
        shop.push()
    finally:
        done.set()
        watching.join()
    # one that is about to start another program looks like itself once more, for a moment
    return {pid for pid, parent in parents.items() if parent not in parents}


def test_there_is_one_vm_with_callbacks_as_without(shop: Called) -> None:
    assert len(machines_of_a_push(shop)) == 1
    assert not [name for name in shop.steps() if name.startswith(("before_", "after_"))]
    shop.upgrade("def before_mix_compile(_), do: :ok\n  def after_upgrade_service(_), do: :ok")
    assert len(machines_of_a_push(shop)) == 1
    assert "after_upgrade_service" in shop.steps()
    assert not shop.machines()


def test_a_killed_deployment_leaves_no_vm(shop: Called) -> None:
    shop.upgrade('def before_upgrade_service(_), do: bash("sleep", ["601"])')
    shop.project.title("killed")
    push = shop.project.start_push()
    shop.world.at_step("before_upgrade_service")
    assert len(shop.machines()) == 1
    os.kill(shop.world.hook(), signal.SIGKILL)
    output_of(push, None)
    shop.world.settled()
    assert shop.world.last()["outcome"] == "interrupted"
    assert_still_live(shop)


def test_ctrl_c_in_a_callback_calls_it_off(shop: Called) -> None:
    shop.upgrade('def before_upgrade_service(_), do: bash("sleep", ["602"])')
    shop.project.title("interrupted")
    push = shop.project.start_push()
    shop.world.at_step("before_upgrade_service")
    os.killpg(push.pid, signal.SIGINT)
    output_of(push, None)
    until(lambda: shop.world.last()["outcome"] == "cancelled", "the outcome")
    assert_still_live(shop)


def test_what_a_callback_leaves_running_ends_with_the_deployment(shop: Called) -> None:
    shop.upgrade("""
      def after_mix_compile(_) do
        bash("sh", ["-c", "setsid sleep 603 > /dev/null 2>&1 &"])
        spawn(fn -> for _ <- 1..20_000, do: IO.puts(String.duplicate("x", 100)) end)
      end
    """)
    shop.push()
    until(lambda: not _sleeps("603"), "the end of what was left")


def _sleeps(seconds: str) -> list[str]:
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                with open(f"/proc/{entry.name}/cmdline", "rb") as file:  # noqa: PTH123
                    line = file.read().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"sleep {seconds}" in line:
                found.append(line)
    return found
