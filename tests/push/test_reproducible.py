"""A release is what its commit and config make of it: nothing of earlier builds or of a shell."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import COUNTER

if TYPE_CHECKING:
    from tests.conftest import Project

pytestmark = pytest.mark.usefixtures("on_demand")

SHELL = {
    "LC_ALL": "C", "LANG": "C", "MIX_TARGET": "rpi4", "MIX_BUILD_PATH": "/tmp/elsewhere-build",
    "MIX_DEPS_PATH": "/tmp/elsewhere-deps", "MIX_EXS": "other.exs", "MIX_ENV": "dev",
    "MIX_DEBUG": "1", "ERL_FLAGS": "-sname x", "ELIXIR_ERL_OPTIONS": "+fnl", "API_KEY": "shell",
}  # fmt: skip
MIX = (COUNTER / "mix.exs").read_text()
GENERATING = """
      compilers: Mix.compilers() ++ [:note],
      aliases: ["compile.note": fn _ ->
        File.mkdir_p!("priv/static")
        File.write!("priv/static/NAME.txt", "")
        {:ok, []}
      end],
"""


def priv(project: Project) -> set[str]:
    """The names of the files in the live release's priv/static."""
    release = project.world.status()["release"]
    root = project.world.home / "apps" / project.app / "releases" / str(release)
    (directory,) = root.glob("lib/counter-*/priv/static")
    return {path.name for path in directory.iterdir()}


def test_the_shell_that_pushes_does_not_matter(shop: Project) -> None:
    shop.write("priv/static/ünï.txt", "x")
    shop.write(
        "lib/counter/seen.ex",
        "defmodule Counter.Seen do\n  @env System.get_env() |> Map.keys() |> Enum.sort()\n"
        '  IO.puts("schön")\n  def env, do: @env\n'
        '  @path Path.expand("../../priv/static", __DIR__)\n  def path, do: @path\nend\n',
    )
    shop.commit()
    shop.env = shop.env | SHELL
    try:
        output = shop.push()
    finally:
        shop.env = {name: value for name, value in shop.env.items() if name not in SHELL}
        shop.env |= {name: os.environ[name] for name in SHELL if name in os.environ}
    assert "schön" in output
    assert "latin1" not in output
    assert "warning: Counter.Seen contains the path priv/static of the build directory" in output
    assert "ünï.txt" in priv(shop)
    assert not os.path.exists("/tmp/elsewhere-build")  # noqa: PTH110
    seen = shop.world.run(
        "run", "shop", "--", "eval", 'IO.puts(Enum.join(Counter.Seen.env(), " "))'
    )
    assert not set(SHELL).difference({"LC_ALL", "LANG", "MIX_ENV"}).intersection(seen.split())
    assert "GATLING_COMMIT" in seen.split()
    (shop.directory / "lib/counter/seen.ex").unlink()


def test_files_generated_by_an_earlier_build_are_not_in_a_release(shop: Project) -> None:
    shop.write(".gitignore", "/_build\n/deps\n/priv/static/*.txt\n")
    first = MIX.replace("      version:", f"{GENERATING.replace('NAME', 'old')}\n      version:", 1)
    shop.write("mix.exs", first)
    shop.commit()
    shop.push()
    assert "old.txt" in priv(shop)
    # only code changes: the compilation's files stay, as mix does not write them again by itself
    shop.title("two")
    shop.push()
    assert "old.txt" in priv(shop)
    shop.write("mix.exs", first.replace("old.txt", "new.txt"))
    shop.commit()
    shop.push()
    assert {"new.txt", "old.txt"} & priv(shop) == {"new.txt"}


def test_what_a_variable_was_compiled_into_is_compiled_again(shop: Project) -> None:
    shop.write(
        "lib/counter/page.ex",
        (shop.directory / "lib/counter/page.ex")
        .read_text()
        .replace(
            "  def title, do:",
            '  @title System.get_env("TITLE", "none")\n  def title, do: @title #',
            1,
        ),
    )
    version = 'version: String.trim(File.read!("VERSION"))'
    shop.write("mix.exs", MIX.replace('version: "0.1.0"', version))
    shop.write("VERSION", "1.0.0\n")
    shop.commit()
    shop.world.run("config", "set", "shop", "TITLE=first", "--no-restart")
    shop.push()
    assert "first" in shop.world.get().text
    shop.world.run("config", "set", "shop", "TITLE=second", "OTHER=1", "--no-restart")
    # a commit that changes only what mix.exs reads
    shop.write("VERSION", "1.0.1\n")
    shop.commit()
    output = shop.push()
    assert "Compiling the project from scratch: TITLE has changed" in output
    assert "second" in shop.world.get().text
    root = shop.world.home / "apps/shop/releases" / shop.world.status()["release"]
    assert [path.name for path in root.glob("lib/counter-*")] == ["counter-1.0.1"]
    # a variable that no source mentions, or may compute the name of, costs nothing
    shop.world.run("config", "set", "shop", "OTHER=2", "--no-restart")
    shop.write("README", "changed")
    shop.commit()
    assert "from scratch" not in shop.push()
    shop.world.run("build", "clean", "shop")
    shop.write("README", "changed again")
    shop.commit()
    assert "Compiling 8 files" in shop.push()


def test_git_in_mix_exs_finds_no_repository_and_is_told_of_the_variable(shop: Project) -> None:
    outer = shop.world.root
    subprocess.run(["git", "init", "--quiet", outer], check=True, env=shop.env)
    asking = 'System.cmd("git", ["rev-parse", "HEAD"])'
    shop.write(
        "mix.exs", MIX.replace("  def project do", f"  {{_, 0}} = {asking}\n  def project do", 1)
    )
    shop.commit()
    output = shop.push(ok=False)
    assert 'System.get_env("GATLING_COMMIT")' in output
    shop.write(
        "mix.exs",
        MIX.replace(
            "  def project do",
            '  IO.puts("built " <> System.fetch_env!("GATLING_COMMIT"))\n  def project do',
            1,
        ),
    )
    commit = shop.commit()
    assert f"built {commit}" in shop.push()
    shop.write("mix.exs", MIX)
    shop.commit()


def test_a_question_of_a_task_is_answered_with_no(shop: Project) -> None:
    printing = 'IO.puts("answer: #{Mix.shell().yes?("Drop it all?")}")'
    asking = f'aliases: [compile: [fn _ -> {printing} end, "compile"]],'
    shop.write("mix.exs", MIX.replace("      version:", f"      {asking}\n      version:", 1))
    shop.commit()
    assert "answer: false" in shop.push()
