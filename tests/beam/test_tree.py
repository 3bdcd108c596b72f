"""What is said of a child that a supervisor starts otherwise: where, and never the values."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from gatling.beam import toolbox

if TYPE_CHECKING:
    from pathlib import Path

DIFFER = """
    Spec = fun(Start) -> #{id => a, start => Start, restart => permanent, modules => [a]} end,
    Tree = fun(S) -> #{[] => #{flags => #{strategy => one_for_one}, children => [S]}} end,
    Differ = fun(Old, New) -> gatling_tree:diff(Tree(Old), Tree(New)) end,
"""
FUNCTION = "{'$gatling_opaque', m, <<1>>, %d, []}"
PLACES = [
    ("[[{query, nil}]]", '[[{query, "x.example"}]]', ["its argument query"]),
    ("[[{http, [{port, 1}]}]]", "[[{http, [{port, 2}]}]]", ["its argument http.port"]),
    ("[[{a, 1}]]", "[[{a, 2}, {b, 1}]]", ["its argument a", "its argument b"]),
    ("[[]]", "[[{b, 1}]]", ["its argument b"]),
    ("[#{pool => #{size => 1}}]", "[#{pool => #{size => 2}}]", ["its argument pool.size"]),
    ('[#{<<"key">> => 1}]', '[#{<<"key">> => 2}]', ["its arguments"]),
    ('[#{a => #{<<"key">> => 1}}]', '[#{a => #{<<"key">> => 2}}]', ["its argument a"]),
    ("[{'Elixir.Bandit', [{port, 1}]}]", "[{'Elixir.Bandit', [{port, 2}]}]",
     ["its argument Bandit.port"]),
    ("['\u00fc', [{'\u00fc', 1}]]", "['\u00fc', [{'\u00fc', 2}]]", ["its argument ü"]),
    ("[secret]", "[other]", ["its arguments"]),
    ("[one]", "[one, two]", ["its arguments"]),
    ("[[x | y]]", "[[x | z]]", ["its arguments"]),
    ("[[{a, 1}, {b, 2}]]", "[[{b, 2}, {a, 1}]]", ["the order of its arguments"]),
    ("[[{a, 1}, {a, 3}]]", "[[{a, 2}, {a, 3}]]", ["the order of its arguments"]),
    (f"[{FUNCTION % 1}]", f"[{FUNCTION % 2}]", ["a function in its arguments"]),
    (f"[[{{f, {FUNCTION % 1}}}]]", f"[[{{f, {FUNCTION % 2}}}]]", ["a function in its argument f"]),
    ("[[{k, 1}, {l, 1}, {m, 1}, {n, 1}, {o, 1}, {p, 1}]]", "[[]]",
     [f"its argument {key}" for key in "klmno"]),
]  # fmt: skip
RANDOM = """
    rand:seed(exsss, %d),
    Any = fun Any(0) -> lists:nth(rand:uniform(6), [a, b, 1, 1.0, <<"s">>, []]);
              Any(N) -> Few = [Any(N - 1) || _ <- lists:seq(1, rand:uniform(4) - 1)],
                  case rand:uniform(6) of
                      1 -> Any(0);
                      2 -> Few;
                      3 -> list_to_tuple(Few);
                      4 -> [{lists:nth(rand:uniform(3), [a, b, c]), F} || F <- Few];
                      5 -> maps:from_list([{Any(0), F} || F <- Few]);
                      6 -> [Any(0) | Any(0)]
                  end
          end,
    Told = [begin
        {Old, New} = {Spec({m, f, [Any(3)]}), Spec({m, f, [Any(3)]})},
        case Differ(Old, New) of
            [] -> Old = New, same;
            [#{changed := [{a, [_ | _] = How}]}] ->
                true = Old =/= New,
                true = lists:all(fun erlang:is_binary/1, How),
                other
        end
    end || _ <- lists:seq(1, 5000)],
    io:format("~p~n", [lists:usort(Told)])
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("beams")
    subprocess.run(["erlc", "-o", directory, toolbox.SOURCES / "gatling_tree.erl"], check=True)
    return directory


def erl(compiled: Path, code: str) -> str:
    argv = ["erl", "-noshell", "-pa", str(compiled), "-eval", f"{code}, halt(0)."]
    done = subprocess.run(argv, cwd=compiled, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_where_it_differs_is_told(compiled: Path) -> None:
    pairs = ", ".join(f"{{{old}, {new}}}" for old, new, _ in PLACES)
    show = """[begin
        [#{changed := [{a, How}]}] = Differ(Spec({m, f, Old}), Spec({m, f, New})),
        io:format("~ts~n", [lists:join(", ", How)])
    end || {Old, New} <- Pairs]"""
    code = f"io:setopts([{{encoding, unicode}}]),{DIFFER} Pairs = [{pairs}], {show}"
    assert erl(compiled, code).splitlines() == [", ".join(places) for _, _, places in PLACES]


def test_what_else_may_differ(compiled: Path) -> None:
    code = (
        DIFFER + "One = Spec({m, f, [1]}), Show = fun(New) ->"
        " [#{changed := [{a, H}]}] = Differ(One, New),"
        ' io:format("~ts~n", [lists:join(", ", H)]) end,'
        "Show(Spec({m, g, [1]})), Show(One#{restart := transient}),"
        "Show((Spec({m, f, [2]}))#{shutdown => 5}), [] = Differ(One, One#{modules := []})"
    )
    assert erl(compiled, code).splitlines() == [
        "the function that starts it", "restart", "shutdown, its arguments",
    ]  # fmt: skip


def test_whatever_is_handed_over_something_is_told_when_it_differs(compiled: Path) -> None:
    assert erl(compiled, DIFFER + RANDOM % 7) == "[other,same]\n"
