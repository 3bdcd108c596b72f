"""The modules that a build's VM loads while it waits for the source, with the host's mix."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from gatling.beam import toolbox

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


def test_the_compiler_and_mix_are_loaded_before_the_source_is_there(tmp_path: Path) -> None:
    compiled = tmp_path / "compiled"
    words = "\n".join(map(str, (compiled, toolbox.SOURCES, PRIV)))
    subprocess.run(
        ["elixir", str(PRIV / "compile.exs")],
        check=True,
        env=os.environ | {"GATLING_COMPILE": words},
    )
    argv = ["elixir", "-pa", str(compiled), "-e", SCRIPT, str(compiled)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["{[], [], true}", "{true, true}", "false"]
