"""The modules that a build's VM loads before its source is there, with the host's mix."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gatling.beam import toolbox
from gatling.build import boot

PRIV = Path(toolbox.__file__).parents[1] / "build" / "priv"
SCRIPT = """
needed = [:v3_core, :beam_ssa_opt, :beam_asm, Mix.Release, Mix.Compilers.Elixir]
before = Enum.filter(needed, &:erlang.module_loaded/1)
Mix.start()
Gatling.Waiting.load()
lacking = Enum.reject(needed, &:erlang.module_loaded/1)
IO.inspect({before, lacking, Path.dirname(:code.which(Mix.Release)) == hd(System.argv())})

cookies = for _ <- 1..2, do: Gatling.Ebin.cookie(fn -> "of mix" end)
{:module, _} = :code.ensure_loaded(Mix.Release)
IO.inspect({Enum.all?(cookies, &(byte_size(&1) == 56)), Enum.uniq(cookies) == cookies})
IO.inspect(:code.is_loaded(:crypto))
"""
COMPILE = """
[file, compiled] = System.argv()
Code.eval_file(file)
:code.add_patha(String.to_charlist(compiled))
IO.write(:code.which(Gatling.Ebin))
"""
WRITE = """
Mix.start()
Gatling.Waiting.load()
[own | words] = System.argv()
apply(Gatling.Boot, :write, words ++ [own])
"""


def elixir(*argv: str | Path) -> list[str]:
    done = subprocess.run(["elixir", *argv], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiled = tmp_path_factory.mktemp("cache") / "compiled"
    words = "\n".join(map(str, (compiled, toolbox.SOURCES, PRIV)))
    done = subprocess.run(
        ["elixir", "-e", COMPILE, str(PRIV / "compile.exs"), compiled],
        check=True,
        env=os.environ | {"GATLING_COMPILE": words},
        capture_output=True,
        text=True,
    )
    # not the one in memory, which has no place: it keeps what the next build is to find
    assert done.stdout == f"{compiled}/Elixir.Gatling.Ebin.beam"
    return compiled


def wanted(cache: Path) -> tuple[list[str], list[str]]:
    """What the host's toolchain is started with, from a cache."""
    program = os.path.realpath(shutil.which("elixir") or "")
    return boot.arguments(cache, program, os.environ["PATH"])


def test_the_compiler_and_mix_are_loaded_before_the_source_is_there(compiled: Path) -> None:
    said = elixir("-pa", compiled, "-e", SCRIPT, compiled)
    assert said == ["{[], [], true}", "{true, true}", "false"]


def test_the_next_vm_starts_with_them(compiled: Path, tmp_path: Path) -> None:
    options, words = wanted(tmp_path)
    assert not options
    elixir("-pa", compiled, "-e", WRITE, compiled, *words)
    options, again = wanted(tmp_path)
    assert again == words
    assert options == ["--boot", words[0]]
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        Path(words[0]).name + end for end in (".boot", ".seen")
    ]
    # Mix.Release is Gatling's own, whose directory is not on the code path of `elixir`
    said = elixir(*options, "-pa", compiled, "-e", SCRIPT, compiled)
    loaded = "[:v3_core, :beam_ssa_opt, :beam_asm, Mix.Compilers.Elixir]"
    assert said == [f"{{{loaded}, [], true}}", "{true, true}", "false"]
    made = Path(f"{words[0]}.boot").stat().st_ino
    elixir("-pa", compiled, "-e", WRITE, compiled, *words)
    assert Path(f"{words[0]}.boot").stat().st_ino == made  # it is as it would be made

    note = Path(f"{words[0]}.seen")
    said_of_it = note.read_text()
    lines = said_of_it.splitlines()
    assert len(lines) == 7
    for number in range(3):  # another file, or one that was changed
        first = lines[0].split(" ", 3)
        first[number] = str(int(first[number]) + 1)
        note.write_text("\n".join([" ".join(first), *lines[1:]]))
        assert wanted(tmp_path) == ([], words)
    for bad in ("", "x", "1 2 3", lines[0] + "\n1 2 3 /no/such\n", "\0" * 20000):
        note.write_text(bad)
        assert wanted(tmp_path) == ([], words)
    note.unlink()
    note.symlink_to("/dev/zero")
    assert wanted(tmp_path) == ([], words)
    note.unlink()
    note.write_text(said_of_it)
    assert wanted(tmp_path) == (options, words)


def test_it_is_not_written_for_another_toolchain(compiled: Path, tmp_path: Path) -> None:
    _, (file, root, program) = wanted(tmp_path)
    elixir("-pa", compiled, "-e", WRITE, compiled, file, str(tmp_path), program)
    elixir("-pa", compiled, "-e", WRITE, compiled, file, root, str(tmp_path / "bin" / "elixir"))
    assert not list(tmp_path.iterdir())


def test_one_that_does_not_start_is_tried_once(compiled: Path, tmp_path: Path) -> None:
    library = Path(wanted(tmp_path)[1][2]).parents[1] / "lib"
    (tmp_path / "lib").symlink_to(library)
    program = tmp_path / "bin" / "elixir"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho tried >> "{tmp_path}/tries"\nexit 1\n')
    program.chmod(0o755)
    cache = tmp_path / "cache"
    cache.mkdir()
    _, words = boot.arguments(cache, str(program), os.environ["PATH"])
    for _ in range(2):
        elixir("-pa", compiled, "-e", WRITE, compiled, *words)
    assert (tmp_path / "tries").read_text() == "tried\n"
    assert boot.arguments(cache, str(program), os.environ["PATH"]) == ([], words)
    assert [f.suffix for f in cache.iterdir()] == [".seen"]


@pytest.mark.parametrize("found", ["nothing", "a wrapper"])
def test_a_version_manager_starts_as_it_is(tmp_path: Path, found: str) -> None:
    if found == "a wrapper":
        (tmp_path / "erl").write_text("#!/bin/sh\n")
        (tmp_path / "erl").chmod(0o755)
    assert boot.arguments(tmp_path, "/usr/bin/elixir", str(tmp_path)) == ([], [])
