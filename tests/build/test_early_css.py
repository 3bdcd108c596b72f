"""Tailwind beside the compilation: what it has written then is used, or it is run again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gatling import build

PRIV = Path(build.__file__).parent / "priv"

PROGRAM = """#!/bin/sh
[ "$1" = --help ] && { echo "$VERSION"; exit; }
printf . >>"$RUNS"
for argument; do
  case $argument in
    --output=*) output=${argument#--output=} ;;
    --input=*) input=${argument#--input=} ;;
  esac
done
echo "tailwindcss $VERSION"
[ ! -e fails ] || exit 1
mkdir -p "$(dirname "$output")"
{ cat "$input" lib/*.ex; echo; } >"$output"
touch "$DONE"
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The lines of each case."""
    root = tmp_path_factory.mktemp("css")
    (root / "program").write_text(PROGRAM)
    env = {**os.environ, "MIX_ENV": "prod", "RUNS": f"{root}/runs", "DONE": f"{root}/done"}
    script = Path(__file__).with_name("early_css.exs")
    argv = ["elixir", str(script), str(PRIV), str(root)]
    done = subprocess.run(argv, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = [case.splitlines() for case in done.stdout.split("== ")[1:]]
    return {lines[0]: lines[1:] for lines in cases}


def rest(css: str) -> list[str]:
    return [f'digest ["1"] of {css}', "end []"]


@pytest.mark.parametrize("case", ["nothing", "modules", "same"])
def test_it_runs_once_when_nothing_has_changed_that_it_reads(
    said: dict[str, list[str]], case: str
) -> None:
    assert said[case] == ["beside", "tailwindcss 4.1.0", *rest("onetext-red"), "runs 1"]


@pytest.mark.parametrize(
    ("case", "css"),
    [
        ("source", "onetext-sea"),
        ("new", "onem-2text-red"),
        ("removed", "one"),
        ("hooks", "onetext-red"),
        ("priv", "onetext-red"),
        ("config", "onetext-red"),
        ("fails", "onetext-red"),
    ],
)
def test_it_runs_again_when_the_compilation_has_changed_what_it_reads(
    said: dict[str, list[str]], case: str, css: str
) -> None:
    again = ["in place", "tailwindcss 4.1.0", *rest(css)]
    assert said[case] == ["beside", *again, "runs 2"]


def test_what_the_compilation_has_put_there_is_seen(said: dict[str, list[str]]) -> None:
    again = ["in place", "tailwindcss 4.1.0", *rest("onetext-red")]
    assert said["output"] == ["beside", "seen too early", *again, "runs 2"]


@pytest.mark.parametrize("case", ["unknown", "env", "map", "aliased", "version"])
def test_what_is_not_known_for_certain_is_left_to_the_alias(
    said: dict[str, list[str]], case: str
) -> None:
    assert said[case][0] == "not beside"
    assert "runs 1" in said[case]
    assert said[case][-3:-1] == rest("onetext-red")


@pytest.mark.parametrize("case", ["function", "other", "itself"])
def test_an_alias_that_begins_otherwise_is_run_as_it_is(
    said: dict[str, list[str]], case: str
) -> None:
    assert said[case][0] == "not beside"
    assert said[case][-3:-1] == rest("onetext-red")
