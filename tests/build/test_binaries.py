"""The programs that esbuild and tailwind download, as they are kept from build to build."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gatling import build
from gatling.build import caches
from gatling.platform.embedded.tasks import LocalTasks
from tests.places import embedded_home

SCRIPT = """
[source, kept, root, version | calls] = System.argv()
Mix.start()
defmodule Shop.MixProject do
  use Mix.Project
  def project do
    [app: :shop, version: "1.0.0", build_path: Enum.at(System.argv(), 2) <> "/_build"]
  end
end
defmodule Esbuild do
  def configured_version, do: Enum.at(System.argv(), 3)
  def bin_path, do: Path.join(Path.dirname(Mix.Project.build_path()), "esbuild-linux-x64")
  def bin_version do
    {text, 0} = System.cmd(bin_path(), ["--version"])
    {:ok, String.trim(text)}
  end
end
Code.compile_file(source)
Process.put(Gatling.Binaries, kept)
for call <- calls, do: apply(Gatling.Binaries, String.to_atom(call), [])
"""
NAME = "esbuild-linux-x64"


class Builds:
    """Calls of what a build does with these programs."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.kept = root / "cache/bin"
        self.program = root / "_build" / NAME

    def run(self, version: str, *calls: str) -> None:
        source = Path(build.__file__).parent / "priv/binaries.ex"
        argv = ["elixir", "-e", SCRIPT, str(source), str(self.kept), str(self._root), version]
        done = subprocess.run([*argv, *calls], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def downloaded(self, version: str) -> None:
        self.program.parent.mkdir(exist_ok=True)
        self.program.write_text(text(version))
        self.program.chmod(0o755)

    def names(self) -> list[str]:
        return sorted(each.name.removeprefix(f"{NAME}-") for each in self.kept.iterdir())


def text(version: str) -> str:
    return f"#!/bin/sh\necho {version}\n"


@pytest.fixture
def builds(tmp_path: Path) -> Builds:
    return Builds(tmp_path)


def damaged(path: Path, *, empty: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("" if empty else text("1.0.0"))
    path.chmod(0o755 if empty else 0o644)


@pytest.mark.parametrize("empty", [True, False])
def test_a_damaged_program_is_replaced_by_the_kept_one(builds: Builds, empty: bool) -> None:
    builds.downloaded("1.0.0")
    builds.run("1.0.0", "keep")
    damaged(builds.program, empty=empty)
    builds.run("1.0.0", "restore")
    assert builds.program.read_text() == text("1.0.0")
    assert os.access(builds.program, os.X_OK)


def test_a_kept_program_that_is_damaged_is_replaced_after_a_download(builds: Builds) -> None:
    damaged(builds.kept / f"{NAME}-1.0.0", empty=True)
    builds.run("1.0.0", "restore")
    # so the package downloads it
    assert not builds.program.exists()
    assert builds.names() == []
    builds.downloaded("1.0.0")
    builds.run("1.0.0", "keep")
    assert builds.names() == ["1.0.0"]
    assert os.access(builds.kept / f"{NAME}-1.0.0", os.X_OK)


def test_two_versions_of_a_program_are_kept_and_no_interrupted_copy(builds: Builds) -> None:
    builds.kept.mkdir(parents=True)
    other = builds.kept / "tailwind-linux-x64-1.0.0"
    other.touch()
    for seconds, version in ((500, "1.0.0"), (100, "1.1.0"), (300, "1.2.0"), (7200, "1.3.0~17"),
                             (60, "1.4.0~18")):  # fmt: skip
        kept = builds.kept / f"{NAME}-{version}"
        kept.write_text(text(version))
        kept.chmod(0o755)
        then = kept.stat().st_mtime - seconds
        os.utime(kept, (then, then))
    builds.run("1.0.0", "restore", "keep")
    assert builds.program.read_text() == text("1.0.0")
    # the one in use, the one that was used last, and the copy of another build
    assert builds.names() == sorted(["1.0.0", "1.1.0", "1.4.0~18", other.name])


def test_they_are_removed_with_the_dependencies(tmp_path: Path) -> None:
    paths = embedded_home(tmp_path / "home").app("shop")
    kept = paths.cache / "bin"
    kept.mkdir(parents=True)
    tasks = LocalTasks.__new__(LocalTasks)  # which only removes here
    caches.clean(tasks, paths, ".", dependencies=False)
    assert kept.exists()
    caches.clean(tasks, paths, ".", dependencies=True)
    assert not kept.exists()
