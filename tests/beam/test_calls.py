"""Which code calls what goes, who is in the midst of it, and how long that is waited for."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from gatling.beam import toolbox

if TYPE_CHECKING:
    from pathlib import Path

CALLER = """
-module(caller).
-export([direct/0, handed/1, deep/1, own/0]).
direct() -> gone:away(1, 2).
handed(L) -> [ok | lists:map(fun kept:named/1, L)].
own() -> here.
deep(N) -> [ok | above:deep(N)].
"""
ABOVE = """
-module(above).
-export([deep/1]).
deep(0) -> receive never -> ok end;
deep(N) -> [N | deep(N - 1)].
"""
ASTRAY = """
-module(astray).
-export([on/0]).
on() -> above:nowhere().
"""
WAITING = """
    Rest = fun R(P) -> case process_info(P, status) of {_, waiting} -> P; _ -> R(P) end end,
    P = Rest(spawn(fun() -> caller:deep(%d) end)),
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("beams")
    (directory / "caller.erl").write_text(CALLER)
    (directory / "above.erl").write_text(ABOVE)
    (directory / "astray.erl").write_text(ASTRAY)
    sources = [*directory.glob("*.erl"), *sorted(toolbox.SOURCES.glob("*.erl"))]
    subprocess.run(["erlc", "-o", directory, *sources], check=True)
    return directory


def erl(compiled: Path, code: str) -> str:
    """What it prints; each value with ~p."""
    argv = ["erl", "-noshell", "-eval", f'{code}, io:format("~p~n", [Found]), halt(0).']
    done = subprocess.run(argv, cwd=compiled, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("gone", "found"),
    [
        ("[]", "[]"),
        ("[{gone,away,2}]", "[{caller,{gone,away,2}}]"),
        ("[{gone,away,1}]", "[]"),
        ("[{kept,named,1}]", "[{caller,{kept,named,1}}]"),
        ("[{caller,own,0}]", "[]"),
    ],
)
def test_what_a_module_calls_is_in_its_file(compiled: Path, gone: str, found: str) -> None:
    code = f'Found = gatling_calls:of_gone({gone}, [{{caller, "caller.beam"}}])'
    assert erl(compiled, code) == found


CALLER_IN_SHOP = """caller => {shop, "caller.beam"}"""
ASTRAY_IN_SHOP = """astray => {shop, "astray.beam"}"""
ABOVE_IN_SHOP = """above => {shop, "above.beam"}"""
ABOVE_ELSEWHERE = """above => {other, "above.beam"}"""


@pytest.mark.parametrize(
    ("gone", "calling", "old", "new", "found"),
    [
        ("[{gone,away,2}]", "[]", "", CALLER_IN_SHOP, "[{caller,{gone,away,2}}]"),
        ("[{kept,named,1}]", "[]", "", CALLER_IN_SHOP, "[{caller,{kept,named,1}}]"),
        ("[{gone,away,1}]", "[]", "", CALLER_IN_SHOP, "[]"),
        # an optional dependency is named, and was not there before either
        ("[]", '[{caller, "caller.beam"}]', "", f"{CALLER_IN_SHOP}, {ABOVE_IN_SHOP}", "[]"),
        ("[]", '[{astray, "astray.beam"}]', "", f"{ASTRAY_IN_SHOP}, {ABOVE_IN_SHOP}",
         "[{astray,{above,nowhere,0}}]"),
        ("[]", '[{astray, "astray.beam"}]', ASTRAY_IN_SHOP, f"{ASTRAY_IN_SHOP}, {ABOVE_IN_SHOP}",
         "[]"),
        ("[]", '[{astray, "astray.beam"}]', "", f"{ASTRAY_IN_SHOP}, {ABOVE_ELSEWHERE}",
         "[]"),
    ],
)  # fmt: skip
def test_calls_that_would_lead_nowhere(
    compiled: Path, gone: str, calling: str, old: str, new: str, found: str
) -> None:
    code = f"Found = gatling_calls:broken({gone}, {calling}, #{{{old}}}, #{{{new}}})"
    assert erl(compiled, code) == found


@pytest.mark.parametrize("depth", [0, 5, 60, 70, 3000])
def test_who_is_in_it_however_deep(compiled: Path, depth: int) -> None:
    code = (
        "Before = erlang:system_flag(backtrace_depth, 8),"
        " Deep = gatling_calls:with_whole_stacks(fun() -> gatling_calls:stack(P) end),"
        " After = erlang:system_flag(backtrace_depth, 8),"
        " Found = {lists:member(caller, Deep), Before, After}"
    )
    assert erl(compiled, WAITING % depth + code) == "{true,8,8}"


def test_nobody_waits_for_whoever_is_gone(compiled: Path) -> None:
    code = (
        "Found = try gatling_calls:await([], erlang:monotonic_time(millisecond) + 60000)"
        " catch throw:{gone, _} -> gone end"
    )
    assert erl(compiled, code) == "gone"
