"""EUnit tests of the Erlang that Gatling runs in nodes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gatling.beam import toolbox

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of the modules, and of their tests, which call what is not exported."""
    beams = tmp_path_factory.mktemp("beams")
    sources = sorted(toolbox.SOURCES.glob("*.erl"))
    everything = ("+export_all", "+nowarn_export_all")
    subprocess.run(["erlc", *everything, "-o", beams, *sources], check=True)
    subprocess.run(["erlc", "-Werror", "-o", beams, *HERE.glob("*_tests.erl")], check=True)
    return beams


@pytest.mark.parametrize("module", sorted(p.stem for p in HERE.glob("*_tests.erl")))
def test_module(compiled: Path, module: str) -> None:
    run = f"halt(case eunit:test({module}, [verbose]) of ok -> 0; error -> 1 end)."
    erl = ["erl", "-noinput", "-pa", str(compiled), "-eval", run]
    ran = subprocess.run(erl, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
