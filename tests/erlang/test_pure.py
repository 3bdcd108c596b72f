"""EUnit tests of the Erlang that Gatling runs in nodes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from gatling.beam import toolbox

TESTS = Path(__file__).with_name("pure_tests.erl")
RUN = "halt(case eunit:test(pure_tests) of ok -> 0; error -> 1 end)."


def test_pure_functions(tmp_path: Path) -> None:
    sources = sorted(toolbox.SOURCES.glob("*.erl"))
    # The tests call functions that the modules keep to themselves.
    everything = ("+export_all", "+nowarn_export_all")
    subprocess.run(["erlc", *everything, "-o", tmp_path, *sources], check=True)
    subprocess.run(["erlc", "-Werror", "-o", tmp_path, TESTS], check=True)
    erl = ["erl", "-noinput", "-pa", str(tmp_path), "-eval", RUN]
    ran = subprocess.run(erl, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
