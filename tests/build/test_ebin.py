"""The stripped modules that a build keeps: those of mix, linked while the source is the same.

With the host's mix, whose function is replaced as it is in a build.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.beam import toolbox

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIV = Path(toolbox.__file__).parents[1] / "build" / "priv"
# Reads lines `{APP, OPTIONS, STEPS, CALLBACKS}` and answers each when the library has been copied.
SCRIPT = """
[ebin, erts, made] = System.argv()
original = :code.which(Mix.Release)
[{module, beam}] = Code.compile_file(ebin)
File.write!("#{made}/#{module}.beam", beam)
Code.compile_file(erts)
Gatling.Ebin.compile(made)
:code.add_patha(String.to_charlist(made))

for changed <- [module, Mix.Release] do
  :code.purge(changed)
  {:module, _} = :code.load_file(changed)
end

false = :code.which(Mix.Release) == original
Mix.start()

defmodule Shop.MixProject do
  use Mix.Project
  def project, do: [app: :shop, version: "0.1.0"]
end

for line <- IO.stream(:stdio, :line) do
  {{app, options, steps, callbacks}, _} = Code.eval_string(line)
  Gatling.Ebin.start(not callbacks)
  libs = if app == :eex, do: Path.dirname(:code.lib_dir(:elixir)), else: Path.expand("libs")
  known = %{shop: [], dep: [], eex: []}
  version = :erlang.system_info(:version)
  programs = [path: Path.expand("out"), erts_version: version,
    erts_source: Path.join(:code.root_dir(), "erts-#{version}")]
  parts = [options: options, steps: steps, applications: known] ++ programs
  release = struct!(Mix.Release, parts)
  File.rm_rf!("out")
  if app == :erts,
    do: true = Mix.Release.copy_erts(release),
    else: true = Mix.Release.copy_ebin(release, "#{libs}/#{app}/ebin", "out/ebin")
  IO.puts("done")
end
"""


class Copies:
    """A project's libraries, copied to `out/ebin` as `mix release` copies them.

    Their files are links to modules of Elixir, which have not changed for long.
    """

    def __init__(self, root: Path, vm: subprocess.Popen[str], elixir: Path) -> None:
        self.root, self._vm, self._elixir = root, vm, elixir
        self.out = root / "out/ebin"
        self.kept = root / "_build/gatling/ebin"

    def library(self, app: str, second: str = "Elixir.Range") -> Path:
        """Make a library of two modules; the code of the second one is that of any module."""
        ebin = self.root / f"libs/{app}/ebin"
        shutil.rmtree(ebin.parent, ignore_errors=True)
        ebin.mkdir(parents=True)
        (ebin / "Elixir.Access.beam").symlink_to(self._elixir / "Elixir.Access.beam")
        (ebin / "second.beam").symlink_to(self._elixir / f"{second}.beam")
        (ebin / f"{app}.app").symlink_to(self._elixir / "elixir.app")
        return ebin

    def copy(
        self,
        app: str = "dep",
        options: str = "[]",
        steps: str = "[]",
        *,
        callbacks: bool = False,
    ) -> dict[str, bytes]:
        """Copy a library; the contents of the copies."""
        assert self._vm.stdin is not None
        assert self._vm.stdout is not None
        self._vm.stdin.write(f"{{:{app}, {options}, {steps}, {str(callbacks).lower()}}}\n")
        self._vm.stdin.flush()
        assert self._vm.stdout.readline() == "done\n"
        return {file.name: file.read_bytes() for file in self.out.glob("*")}

    def programs(self, **how: str | bool) -> dict[str, tuple[int, int, bytes]]:
        """Copy the host's runtime system; inode, mode and contents of each program."""
        self.copy("erts", **how)  # type: ignore[arg-type]
        (directory,) = (self.root / "out").glob("erts-*/bin")
        return {
            file.name: (file.stat().st_ino, file.stat().st_mode, file.read_bytes())
            for file in directory.iterdir()
        }

    def linked(self, app: str = "dep") -> bool:
        """Whether the last copies are links to what is kept."""
        return all((self.kept / app / file.name).samefile(file) for file in self.out.iterdir())

    def inodes(self) -> dict[str, int]:
        """The inodes of the last copies."""
        return {file.name: file.stat().st_ino for file in self.out.iterdir()}


@pytest.fixture(scope="module")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copies]:
    root = tmp_path_factory.mktemp("ebin")
    (root / "made").mkdir()
    said = subprocess.run(
        ["elixir", "-e", "IO.puts(:code.lib_dir(:elixir))"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    (root / "script.exs").write_text(SCRIPT)
    argv = ["elixir", str(root / "script.exs")]
    argv += [str(PRIV / "ebin.ex"), str(PRIV / "erts.ex"), str(root / "made")]
    with subprocess.Popen(
        argv, cwd=root, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        yield Copies(root, started, Path(said.strip()) / "ebin")


@pytest.fixture
def copies(vm: Copies) -> Copies:
    for directory in ("_build", "rel", "libs"):
        shutil.rmtree(vm.root / directory, ignore_errors=True)
    vm.library("dep")
    return vm


def test_the_next_build_links_what_mix_has_made(copies: Copies) -> None:
    first = copies.copy()
    assert set(first) == {"Elixir.Access.beam", "second.beam", "dep.app"}
    source = copies.root / "libs/dep/ebin/Elixir.Access.beam"
    assert len(first["Elixir.Access.beam"]) < source.stat().st_size, "it is stripped"
    assert copies.linked(), "the next release shares the files of this one"
    assert copies.copy() == first
    assert copies.linked()


def test_a_file_that_is_another_one_is_stripped_again(copies: Copies) -> None:
    first = copies.copy()
    copies.library("dep", second="Elixir.Version")
    second = copies.copy()
    assert second["second.beam"] != first["second.beam"]
    assert copies.copy() == second
    assert copies.linked()


def test_a_file_that_is_gone_or_new_is_noticed(copies: Copies) -> None:
    copies.copy()
    (copies.root / "libs/dep/ebin/second.beam").unlink()
    assert set(copies.copy()) == {"Elixir.Access.beam", "dep.app"}
    copies.library("dep")
    assert set(copies.copy()) == {"Elixir.Access.beam", "dep.app", "second.beam"}


def test_only_files_that_changed_are_stripped_again(copies: Copies) -> None:
    first = copies.copy()
    before = copies.inodes()
    copies.library("dep", second="Elixir.Version")
    second = copies.copy()
    after = copies.inodes()
    assert {name for name in after if after[name] != before[name]} == {"second.beam"}
    assert second == first | {"second.beam": second["second.beam"]}
    assert not list(copies.kept.glob("dep.*"))


def test_what_has_just_changed_is_compared_by_its_contents(copies: Copies) -> None:
    """It may change again within the same second, and look the same."""
    file = copies.root / "libs/dep/ebin/new.txt"
    inodes = []
    for text, contents in (("x", b"x"), ("x", b"x"), ("y", b"y")):
        file.write_text(text)
        assert copies.copy()["new.txt"] == contents
        inodes.append(copies.inodes()["new.txt"])
    assert inodes[0] == inodes[1]
    assert inodes[1] != inodes[2]
    assert copies.linked()


def test_a_file_that_only_changed_its_mode_is_copied_again(copies: Copies) -> None:
    file = copies.root / "libs/dep/ebin/tool"
    for mode in (0o644, 0o755):
        file.write_text("x")
        file.chmod(mode)
        copies.copy()
        assert (copies.out / "tool").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("damage", ["changed", "gone", "noted"])
def test_what_is_kept_is_checked(copies: Copies, damage: str) -> None:
    first = copies.copy()
    file = copies.kept / "dep" / ("noted" if damage == "noted" else "second.beam")
    file.unlink()
    if damage != "gone":
        file.write_bytes(b"another size")
    assert copies.copy() == first


def test_other_options_are_other_modules(copies: Copies) -> None:
    stripped = copies.copy()
    whole = copies.copy(options="[strip_beams: false]")
    assert len(whole["second.beam"]) > len(stripped["second.beam"])
    assert copies.copy() == stripped


def test_a_step_of_the_project_gets_files_of_its_own(copies: Copies) -> None:
    copies.copy()
    copies.copy(steps="[fn release -> release end]")
    assert {file.stat().st_nlink for file in copies.out.iterdir()} == {1}
    copies.copy(steps="[:tar]")
    assert copies.linked()


def test_an_overlay_that_may_write_there_gets_files_of_its_own(copies: Copies) -> None:
    copies.copy()
    (copies.root / "rel/overlays/lib").mkdir(parents=True)
    copies.copy()
    assert {file.stat().st_nlink for file in copies.out.iterdir()} == {1}


def test_modules_of_elixir_are_kept_for_all_projects(copies: Copies) -> None:
    first = copies.copy("eex")
    assert not copies.kept.exists()
    assert copies.copy("eex") == first
    shared = copies.root / "made/ebin/eex"
    assert all((shared / file.name).samefile(file) for file in copies.out.iterdir())


def test_the_projects_own_modules_are_kept(copies: Copies) -> None:
    copies.library("shop")
    first = copies.copy("shop")
    before = copies.inodes()
    assert copies.copy("shop") == first
    assert copies.inodes() == before
    assert copies.linked("shop")


def test_callbacks_may_write_to_the_projects_own_modules(copies: Copies) -> None:
    copies.library("shop")
    copies.copy("shop")
    copies.copy("shop", callbacks=True)
    assert {file.stat().st_nlink for file in copies.out.iterdir()} == {1}
    copies.copy(callbacks=True)
    assert copies.linked(), "those of dependencies are kept"


def test_the_next_build_links_the_programs_of_the_runtime_system(copies: Copies) -> None:
    first = copies.programs()
    assert {"beam.smp", "erl", "erlexec"} <= set(first)
    assert b"ROOTDIR" in first["erl"][2], "mix's own"
    assert copies.programs() == first
    apart = copies.programs(steps="[fn release -> release end]")
    assert {name: parts[1:] for name, parts in apart.items()} == {
        name: parts[1:] for name, parts in first.items()
    }
    assert not {parts[0] for parts in apart.values()} & {parts[0] for parts in first.values()}
    by_callbacks = copies.programs(callbacks=True)
    assert by_callbacks["beam.smp"][0] != first["beam.smp"][0]
    (copies.root / "rel/overlays/erts-1").mkdir(parents=True)
    assert copies.programs()["beam.smp"][0] != first["beam.smp"][0]


@pytest.mark.parametrize("damage", ["another size", "gone", "noted"])
def test_kept_programs_are_checked(copies: Copies, damage: str) -> None:
    first = copies.programs()
    (kept,) = (copies.root / "made").glob("erts-*")
    file = kept / ("noted" if damage == "noted" else "erlexec")
    file.unlink()
    if damage != "gone":
        file.write_bytes(b"another size")
    second = copies.programs()
    assert {name: parts[1:] for name, parts in second.items()} == {
        name: parts[1:] for name, parts in first.items()
    }
    assert copies.programs() == second
    assert [each.name for each in (copies.root / "made").glob("erts-*")] == [kept.name]
