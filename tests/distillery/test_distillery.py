"""Projects whose releases Distillery makes; a stand-in with its documented behaviour does here."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Client, new_world, output_of, until
from tests.distillery.conftest import with_distillery, with_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project, World


@pytest.fixture(scope="module", autouse=True)
def otps_own_file() -> Iterator[Path]:
    """OTP's record of its own releases, which no build may touch."""
    ask = ["erl", "-noshell", "-eval", "io:put_chars(code:root_dir()), halt()."]
    root = subprocess.run(ask, check=True, capture_output=True, text=True).stdout
    file = Path(root) / "releases" / "RELEASES"
    before = file.read_bytes()
    yield file
    if file.read_bytes() != before:
        file.write_bytes(before)


def as_it_was(file: Path) -> tuple[bytes, int]:
    return file.read_bytes(), file.stat().st_mtime_ns


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """For projects that are pushed once."""
    with new_world() as made:
        yield made


def test_a_release_runs_with_everything_of_its_own(deployed: Project) -> None:
    world = deployed.world
    tree = world.home / "apps/shop/releases/v1"
    assert "from the hook" in world.get().text  # pre_configure, and a config provider
    assert f"starts in {world.home}/apps/shop/slots/1/tmp" in world.run(
        "logs", "shop", "--release", "v1"
    )
    assert (tree / "etc/about.txt").read_text() == "counter 0.1.0\n"
    assert not (tree / "var").exists()
    arguments = (tree / "releases/0.1.0/vm.args").read_text()
    assert arguments.split("\n") == ["+Q 65536", "", "-name counter@127.0.0.1", ""]
    assert '{counter,"0.1.0","./lib/counter-0.1.0"}' in (tree / "releases/RELEASES").read_text()


def test_what_is_otps_stays_as_it_is(shop: Project, otps_own_file: Path) -> None:
    before = as_it_was(otps_own_file)
    shop.title("untouched")
    shop.push()
    assert as_it_was(otps_own_file) == before


def test_the_same_version_again_is_an_upgrade_of_the_running_node(shop: Project) -> None:
    world = shop.world
    shop.title("before")
    shop.push()
    first, pid = world.status()["release"], world.status()["pid"]
    with Client(world) as client:
        for title in ("second", "third"):
            shop.title(title)
            output = shop.push()
            assert "Hot upgrade: counter: 1 changed module" in output
            assert f"<h1>{title}</h1>" in world.get().text
        assert "Hot upgrade" in world.run("rollback", "shop", first)
    assert not client.failures
    assert "<h1>before</h1>" in world.get().text
    assert (world.status()["release"], world.status()["pid"]) == (first, pid)
    listed = world.json("releases", "shop")
    assert {r["version"] for r in listed} == {"0.1.0"}
    assert [r["release"] for r in listed if r["live"]] == [first]


def test_a_new_version_moves_the_node_to_its_tree(shop: Project) -> None:
    world = shop.world
    before = world.status()["release"]
    shop.replace("mix.exs", 'version: "0.1.0"', 'version: "0.2.0"')
    shop.commit()
    # the version is rendered into a file that only a fresh boot is sure to read again
    assert "Rolling deployment: etc/about.txt changed" in shop.push()
    after = world.status()["release"]
    world.run("deploy", "shop", before)
    world.run("deploy", "shop", after, "--strategy", "hot")
    where = "{System.get_env(~s(REL_VSN)), List.to_string(:code.lib_dir(:counter))}"
    tree = f"{world.home}/apps/shop/releases/{after}"
    told = world.run("run", "shop", "--", "rpc", where)
    assert told.split() == ['{"0.2.0",', f'"{tree}/lib/counter-0.2.0"}}']
    protocols = "for p <- :code.get_path(), p = to_string(p), p =~ ~r(lib/counter.*consol), do: p"
    told = world.run("run", "shop", "--", "rpc", protocols)
    assert told.strip() == f'["{tree}/lib/counter-0.2.0/consolidated"]'
    assert world.get("/version").text == "0.2.0"


def test_commands_are_run_with_a_config_of_their_own(shop: Project) -> None:
    world = shop.world

    def run(*command: str) -> list[str]:
        return world.run("run", "shop", "--", *command).split("\n")

    version, (title, *_) = world.get("/version").text, run("rpc", "Counter.Page.title()")
    assert run("hello", "you")[:3] == [f"hello you, counter {version}", title, ""]
    ask = 'IO.puts System.get_env("RELEASE_MUTABLE_DIR")'
    tell = "; Application.load(:counter); IO.puts Application.fetch_env!(:counter, :greeting)"
    (first, greeting, *_), (second, *_) = run("eval", ask + tell), run("eval", ask)
    assert greeting == "from the hook"
    # what is found there is taken as it is, and has secrets in it
    assert first != second
    assert not Path(first).exists()
    failed = world.try_run("run", "shop", "--", "nothing-like-that")
    assert (failed.returncode, "is not a valid command" in failed.stdout) == (1, True)


def test_what_a_killed_command_has_left_is_removed(shop: Project) -> None:
    world = shop.world
    temporary = world.home / "apps/shop/tmp"

    def left() -> set[str]:
        return {file.name for file in temporary.glob("once.*")}

    ask = 'IO.puts System.get_env("RELEASE_MUTABLE_DIR"); Process.sleep(100_000)'
    process = world.start("run", "shop", "--", "eval", ask)
    until(left, "its directory")
    (name,) = left()
    assert (temporary / name).stat().st_mode & 0o77 == 0
    world.run("stop", "shop")
    assert left() == {name}, "it runs"
    os.killpg(process.pid, signal.SIGKILL)
    output_of(process, -signal.SIGKILL)
    world.run("start", "shop")
    assert left() == set()


@pytest.mark.parametrize("command", ["upgrade", "downgrade"])
def test_no_command_changes_the_tree(deployed: Project, command: str) -> None:
    output = deployed.world.run("run", "shop", "--", command, "0.1.0", ok=False)
    assert f"{command} would change the tree of v" in output
    assert "`gatling rollback` goes back the same way" in output


def test_new_migrations_are_run_by_the_command(shop: Project) -> None:
    shop.write("priv/repo/migrations/20240101000000_things.exs", "defmodule M do\nend\n")
    shop.commit()
    output = shop.push()
    before, _, after = output.partition("migrates by command")
    assert before.endswith("       migrate\n         ")
    assert after


def test_what_is_read_at_boot_is_a_reason_to_start_anew(shop: Project) -> None:
    world = shop.world
    shop.replace("rel/runtime.exs", 'System.get_env("GREETING")', '"in an overlay"')
    shop.commit()
    output = shop.push()
    assert "Rolling deployment: config of counter, :greeting, changes" in output
    assert "config of distillery" not in output
    assert "in an overlay" in world.get().text
    shop.write("rel/hooks/pre_start/20-more.sh", "echo another\n")
    shop.commit()
    assert "Rolling deployment: hooks/pre_start.d/20-more.sh changed" in shop.push()
    # what other tests expect to be live
    assert "Rolling deployment: hooks/pre_start.d/20-more.sh changed" in world.run(
        "rollback", "shop", "v1"
    )


def test_a_file_for_distillery_is_made_where_there_is_none(world: World) -> None:
    project = with_distillery(world.load("blog", strategy="auto"))
    port = 'String.to_integer(System.fetch_env!("PORT"))'
    project.replace("lib/counter/application.ex", "Application.fetch_env!(:counter, :port)", port)
    for file in ("deploy.exs", "upgrade.exs"):
        project.write(file, CALLBACKS)
    project.write("gatling.toml", "[hot]\nwatch = 0.05\n")
    project.write("rel/appups/counter/0.1.0_to_0.2.0.appup", "")
    project.commit()
    output = project.push()
    assert "rel/appups is not used" in output
    assert "there before: false" in output
    assert "there after: true" in output
    assert "       An example config file has been placed" in output
    assert "config/runtime.exs is not read" in output
    # it is made again, with another cookie, which is none of the node's business
    project.title("again")
    output = project.push()
    assert "there before: false" in output
    assert "Hot upgrade: counter: 1 changed module" in output


CALLBACKS = """
defmodule Calls do
  import Gatling.Bash
  def before_mix_release_init(env),
    do: log("there before: #{File.exists?(env.release_config_path)}")
  def after_mix_release_init(env),
    do: log("there after: #{File.exists?(env.release_config_path)}")
end
"""


def test_another_release_of_the_file(world: World) -> None:
    project = with_files(with_distillery(world.load("other")))
    project.replace(
        "rel/config.exs", "release :counter", "release :first do\nend\nrelease :counter"
    )
    project.write("gatling.toml", '[build]\nrelease = "counter"\n')
    project.commit()
    project.push()
    assert world.status("other")["state"] == "running"


def test_a_project_with_releases_of_mix_and_no_file_is_made_by_mix(world: World) -> None:
    project = with_distillery(world.load("moved"))
    project.replace("mix.exs", "deps:", "releases: [counter: []], deps:")
    project.commit()
    project.push()
    assert (world.home / "apps/moved/releases/v1/releases/0.1.0/env.sh").exists()


def test_exrm_is_refused_with_the_line_to_change(world: World) -> None:
    project = world.load("old")
    project.replace(
        "mix.exs", "deps: []", 'deps: [\n        # {:exrm, "~> 0.9"},\n        {:exrm, "~> 1.0"}]'
    )
    project.commit()
    output = project.push(ok=False)
    lines = (project.directory / "mix.exs").read_text().splitlines()
    number = 1 + lines.index('        {:exrm, "~> 1.0"}]')
    assert f'mix.exs, line {number}: {{:exrm, "~> 1.0"}}]' in output
    assert "Distillery has been its successor since 2016" in output
    assert '{:distillery, "~> 2.1"}' in output
    assert "release tool failed" in output
    assert world.steps("old") == ["export_source", "release_tool"]
    assert world.status("old")["release"] is None


def test_a_distillery_that_is_too_old_is_refused_before_anything_is_compiled(world: World) -> None:
    project = with_distillery(world.load("older"), version="2.0.14")
    project.commit()
    output = project.push(ok=False)
    assert 'mix.exs, line 10: deps: [{:distillery, path: "vendor/distillery"}]' in output
    assert "Distillery 2.0.14 does not go together with Elixir" in output
    assert "mix_compile" not in world.steps("older")


NAMES = {
    ("2.1.1", "1.14.0"): "distillery.",
    ("2.1.0-rc.1", "1.18.0-rc.0"): "distillery.",
    ("2.1.0", "1.8.2"): "distillery.",
    ("2.0.14", "1.8.2"): "",
    ("1.5.3", "1.6.6"): "",
    ("1.5.3", "1.9.0-rc.0"): "nil",
    ("2.0.14", "1.20.0"): "nil",
}
"""The prefix of the tasks of a Distillery on an Elixir; nil: they do not go together."""


def test_the_names_of_its_tasks() -> None:
    source = Path(__file__).parents[2] / "src/gatling/build/priv/distillery.ex"
    asked = "".join(
        f'IO.puts(Gatling.Distillery.prefix("{distillery}", "{elixir}") || "nil");'
        for distillery, elixir in NAMES
    )
    argv = ["elixir", "-r", str(source), "-e", asked]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == list(NAMES.values())
