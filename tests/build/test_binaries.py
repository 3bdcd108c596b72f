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
[source, kept, root, settled, version | calls] = System.argv()
Mix.start()
defmodule Shop.MixProject do
  use Mix.Project
  def project do
    [app: :shop, version: "1.0.0", build_path: Enum.at(System.argv(), 2) <> "/_build"]
  end
end
defmodule Asked do
  def version(path) do
    {text, 0} = System.cmd(path, ["--version"])
    {:ok, String.trim(text)}
  end
end
defmodule Esbuild do
  def configured_version, do: Enum.at(System.argv(), 4)
  def bin_path, do: Path.join(Path.dirname(Mix.Project.build_path()), "esbuild-linux-x64")
  def bin_version, do: Asked.version(bin_path())
end
profiles = System.get_env("PROFILES", "") |> String.split() |> Enum.with_index()
if profiles != [] do
  :persistent_term.put(Tailwind, for({version, n} <- profiles, do: {:"p#{n}", version}))
  defmodule Tailwind do
    def profiles, do: :persistent_term.get(__MODULE__)
    def configured_version(profile \\\\ :p0), do: profiles()[profile]
    def bin_path(version \\\\ configured_version()) do
      Path.join(Path.dirname(Mix.Project.build_path()), "tailwind-linux-x64-#{version}")
    end
    def bin_version(profile), do: profile |> configured_version() |> bin_path() |> Asked.version()
  end
end
text = File.read!(source)
true = text =~ "@settled 2\n"
text = if settled == "now", do: String.replace(text, "@settled 2", "@settled -9"), else: text
Code.compile_string(text)
Process.put(Gatling.Binaries, kept)
Application.put_env(:esbuild, :version, version)
for call <- calls do
  case call do
    "around" ->
      Gatling.Binaries.around(fn -> IO.inspect(Application.fetch_env(:esbuild, :version_check)) end)
      IO.inspect(Application.fetch_env(:esbuild, :version_check))
    _ -> apply(Gatling.Binaries, String.to_atom(call), [])
  end
end
"""
NAME = "esbuild-linux-x64"


class Builds:
    """Calls of what a build does with these programs."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.kept = root / "cache/bin"
        self.program = root / "_build" / NAME

    def run(
        self, version: str, *calls: str, settled: bool = False, profiles: str = ""
    ) -> list[str]:
        """What was printed. With `settled`, files count as unchanged for long at once."""
        source = Path(build.__file__).parent / "priv/binaries.ex"
        argv = ["elixir", "-e", SCRIPT, str(source), str(self.kept), str(self._root)]
        argv += ["now" if settled else "later", version, *calls]
        env = {**os.environ, "PROFILES": profiles, "RUNS": str(self._root / "runs")}
        done = subprocess.run(
            argv, cwd=self._root, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    def downloaded(self, version: str, name: str = NAME) -> None:
        self.program.parent.mkdir(exist_ok=True)
        program = self.program.with_name(name)
        program.write_text(text(version))
        program.chmod(0o755)

    def names(self) -> list[str]:
        return sorted(each.name.removeprefix(f"{NAME}-") for each in self.kept.iterdir())

    def runs(self) -> int:
        """How often a program was run since the last time that this was asked."""
        runs = self._root / "runs"
        count = len(runs.read_text()) if runs.exists() else 0
        runs.unlink(missing_ok=True)
        return count


def text(version: str) -> str:
    return f'#!/bin/sh\nprintf . >>"$RUNS"\necho {version}\n'


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


def test_a_program_that_is_as_it_was_is_not_asked_again(builds: Builds) -> None:
    builds.downloaded("1.0.0")
    builds.run("1.0.0", "around", settled=True)
    assert builds.runs() == 1
    # nor does the package ask it, and what it finds later is the project's own setting
    assert builds.run("1.0.0", "around", settled=True) == ["{:ok, false}", ":error"]
    assert builds.runs() == 0
    # another version, of the same size and with the same time of its contents
    before = builds.program.stat()
    builds.program.write_text(text("1.0.1"))
    os.utime(builds.program, ns=(before.st_atime_ns, before.st_mtime_ns))
    (builds.program.parent / "other").write_bytes(builds.program.read_bytes())
    (builds.program.parent / "other").chmod(0o755)
    (builds.program.parent / "other").replace(builds.program)
    os.utime(builds.program, ns=(before.st_atime_ns, before.st_mtime_ns))
    builds.run("1.0.0", "around", settled=True)
    assert builds.runs() > 0
    assert builds.program.read_text() == text("1.0.0")


def test_a_program_that_has_just_changed_is_asked_again(builds: Builds) -> None:
    builds.downloaded("1.0.0")
    builds.run("1.0.0", "keep")
    builds.program.write_text(text("1.0.1"))
    builds.run("1.0.0", "restore")
    assert builds.program.read_text() == text("1.0.0")


def test_packages_ask_programs_that_are_missing(builds: Builds) -> None:
    assert builds.run("1.0.0", "around") == [":error", ":error"]


def test_a_damaged_note_is_none(builds: Builds) -> None:
    note = builds.program.parent / "gatling/binaries"
    builds.downloaded("1.0.0")
    builds.run("1.0.0", "keep", settled=True)
    for damage in (b"", b"\x83", b"\x83j", note.read_bytes()[:-3]):
        note.write_bytes(damage)
        builds.runs()
        builds.run("1.0.0", "keep", settled=True)
        assert builds.runs() == 1


def test_each_profile_of_tailwind_may_have_a_version(builds: Builds) -> None:
    name = "tailwind-linux-x64"
    for version in ("3.0.0", "4.0.0", "4.1.0"):
        builds.downloaded(version, f"{name}-{version}")
    builds.downloaded("2.0.0", name)  # as packages before 0.5 have called it
    builds.run("1.0.0", "keep", settled=True, profiles="3.0.0 4.0.0 3.0.0")
    assert builds.runs() == 2
    assert builds.names() == [f"{name}-3.0.0", f"{name}-4.0.0"]
    left = {each.name for each in builds.program.parent.iterdir() if each.is_file()}
    assert left == {f"{name}-3.0.0", f"{name}-4.0.0"}
    # from the copies, and those in use are no others
    for each in builds.program.parent.glob("tailwind*"):
        each.unlink()
    builds.run("1.0.0", "restore", "keep", profiles="4.0.0 3.0.0")
    assert builds.names() == [f"{name}-3.0.0", f"{name}-4.0.0"]
    assert builds.program.with_name(f"{name}-4.0.0").read_text() == text("4.0.0")


def test_they_are_removed_with_the_dependencies(tmp_path: Path) -> None:
    paths = embedded_home(tmp_path / "home").app("shop")
    kept = paths.cache / "bin"
    kept.mkdir(parents=True)
    tasks = LocalTasks.__new__(LocalTasks)  # which only removes here
    caches.clean(tasks, paths, ".", dependencies=False)
    assert kept.exists()
    caches.clean(tasks, paths, ".", dependencies=True)
    assert not kept.exists()
