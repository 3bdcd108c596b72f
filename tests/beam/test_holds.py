"""What a node tells that it has open, and what a throw-away node cannot open; asked of the BEAM."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from gatling.beam import toolbox

if TYPE_CHECKING:
    from pathlib import Path

NOTHING = """
    #{mnesia := <<>>, dets := [], disk_log := [], files := [], listeners := [], sockets := []} =
        gatling_holds:all([<<".cub">>]),
    undefined = whereis(dets),
"""
DATA = """
    {ok, _} = dets:open_file(a, [{file, D ++ "/a"}]),
    {ok, _} = dets:open_file(b, [{file, D ++ "/b"}]), ok = dets:close(b),
    {ok, _} = dets:open_file(b, [{file, D ++ "/b"}, {access, read}]),
    {ok, c} = disk_log:open([{name, c}, {file, D ++ "/c"}]),
    {ok, _} = file:open(D ++ "/d.cub", [append, raw]),
    {ok, _} = file:open(D ++ "/d.cub", [read, raw]),
    {ok, _} = file:open(D ++ "/e.log", [append, raw]),
    ok = application:set_env(mnesia, dir, D ++ "/m"),
    ok = mnesia:start(),
    Held = #{mnesia := <<>>} = gatling_holds:all([<<".cub">>]),  % in memory alone
    stopped = mnesia:stop(), ok = mnesia:create_schema([node()]), ok = mnesia:start(),
    Path = fun(Name) -> iolist_to_binary([D, Name]) end,
    [[A], [C], [E]] = [maps:get(K, Held) || K <- [dets, disk_log, files]],
    {A, C, E} = {Path("/a"), Path("/c"), Path("/d.cub")},
    #{mnesia := M} = gatling_holds:all([]),
    M = Path("/m"),
"""
ADDRESSES = """
    Listen = fun(O) -> {ok, S} = gen_tcp:listen(0, O), {ok, P} = inet:port(S), {S, P} end,
    {_, P4} = Listen([]),
    {S6, P6} = Listen([inet6, {ip, {0, 0, 0, 0, 0, 0, 0, 1}}]),
    {_, PN} = Listen([{inet_backend, socket}]),
    {_, _} = Listen([{raw, 1, 15, <<1:32/native>>}]),  % SO_REUSEPORT: several may listen there
    {ok, U} = gen_udp:open(0), {ok, PU} = inet:port(U),
    {ok, _} = gen_udp:open(0, [{reuseaddr, true}]),
    {ok, _} = gen_tcp:connect({0, 0, 0, 0, 0, 0, 0, 1}, P6, [inet6]), {ok, _} = gen_tcp:accept(S6),
    {ok, _} = gen_tcp:listen(0, [{ifaddr, {local, D ++ "/s"}}]),
    #{listeners := Listeners, sockets := [Socket]} = gatling_holds:all([]),
    Socket = iolist_to_binary([D, "/s"]),
    Expected = lists:sort([{tcp, <<"0.0.0.0">>, P4}, {tcp, <<"::1">>, P6}, {tcp, <<"0.0.0.0">>, PN},
                           {udp, <<"0.0.0.0">>, PU}]),
    Expected = lists:sort(Listeners),
"""
FORBIDDEN = """
    ok = gatling_holds:forbid(),
    Refused = fun(F) ->
                  try F() of X -> {opened, X} catch error:{gatling_forbids, MFA} -> MFA end
              end,
    {dets, open_file, 2} = Refused(fun() -> dets:open_file(a, [{file, D ++ "/a"}]) end),
    {disk_log, open, 1} = Refused(fun() -> disk_log:open([{name, c}, {file, D ++ "/c"}]) end),
    {mnesia, create_schema, 1} = Refused(fun() -> mnesia:create_schema([node()]) end),
    {error, _} = application:ensure_all_started(mnesia),
    {ok, []} = file:list_dir(D),
"""


@pytest.fixture(scope="module")
def beams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("beams")
    source = toolbox.SOURCES / "gatling_holds.erl"
    subprocess.run(["erlc", "-Werror", "-o", directory, source], check=True)
    return directory


@pytest.mark.parametrize(
    "code", [NOTHING, DATA, ADDRESSES, FORBIDDEN], ids=["nothing", "data", "addresses", "forbidden"]
)
def test_in_the_beam(beams: Path, tmp_path: Path, code: str) -> None:
    words = ["erl", "-noshell", "-pa", str(beams), "-kernel", "logger_level", "none", "-eval",
             f'D = "{tmp_path}", {code} halt(0).']  # fmt: skip
    done = subprocess.run(
        words, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout
