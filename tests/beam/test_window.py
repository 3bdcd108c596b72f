"""Requests at a fixed rate, while a function goes that their code calls: none fails."""

from __future__ import annotations

import os
import statistics
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from gatling.beam import channel, toolbox
from gatling.beam.etf import Atom
from gatling.platform import ports
from tests.beam.test_swap import compile_to
from tests.conftest import until
from tests.places import local
from tests.scale import scaled
from tests.window import PAUSE_MS, Load, free_port, proxies

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(900)

SWAPS = scaled(10, 100)
TEXTS = ("net 3", "gross 3")
"""The answers of the two releases."""
RATE = scaled(50, 100)
"""Requests a second, through each of the two proxies."""
# answers in the connection's process, as Bandit does, or in one for each request, as Cowboy does
WEB = r"""
-module(web).
-behaviour(application).
-behaviour(supervisor).
-export([start/2, stop/1, init/1, accepting/1, connection/1, request/1, pool/0]).
start(_, _) -> supervisor:start_link({local, web}, ?MODULE, []).
stop(_) -> ok.
init([]) ->
    {ok, Listener} = gen_tcp:listen(list_to_integer(os:getenv("PORT")),
                                    [binary, {packet, http_bin}, {active, false}, {backlog, 1024},
                                     {reuseaddr, true}, {nodelay, true}]),
    Acceptors = [child(N, accepting, [Listener]) || N <- lists:seq(1, 4)],
    {ok, {#{}, [child(pool, pool, []) | Acceptors]}}.
child(Id, Function, Arguments) ->
    #{id => Id, start => {erlang, apply, [fun() -> started(Id, Function, Arguments) end, []]}}.
started(Id, Function, Arguments) ->
    P = spawn_link(?MODULE, Function, Arguments),
    is_atom(Id) andalso register(Id, P),
    {ok, P}.
pool() -> receive {'$gen_call', From, _} -> gen:reply(From, ok) end, ?MODULE:pool().
accepting(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    P = spawn(?MODULE, connection, [Socket]),
    ok = gen_tcp:controlling_process(Socket, P),
    P ! go,
    ?MODULE:accepting(Listener).
connection(Socket) -> receive go -> serve(Socket, os:getenv("SERVER")) end.
serve(Socket, Server) ->
    case head(Socket, <<"keep-alive">>) of
        closed -> gen_tcp:close(Socket);
        Kept ->
            Body = answer(Server),
            ok = inet:setopts(Socket, [{packet, raw}]),
            Length = integer_to_list(iolist_size(Body)),
            ok = gen_tcp:send(Socket, ["HTTP/1.1 200 OK\r\nConnection: ", Kept, "\r\n",
                                       "Content-Length: ", Length, "\r\n\r\n", Body]),
            ok = inet:setopts(Socket, [{packet, http_bin}]),
            case Kept of <<"close">> -> gen_tcp:close(Socket); _ -> serve(Socket, Server) end
    end.
answer("bandit") -> page:html();
answer("cowboy") ->
    P = spawn_link(?MODULE, request, [self()]),
    receive {P, Body} -> Body end.
request(Connection) -> Connection ! {self(), page:html()}, ok.
head(Socket, Kept) ->
    ok = inet:setopts(Socket, [{active, once}]),
    receive
        {http, _, {http_request, _, _, {1, 0}}} -> head(Socket, <<"close">>);
        {http, _, {http_request, _, _, _}} -> head(Socket, Kept);
        {http, _, {http_header, _, 'Connection', _, Value}} -> head(Socket, Value);
        {http, _, {http_header, _, _, _, _}} -> head(Socket, Kept);
        {http, _, http_eoh} -> Kept;
        {tcp_closed, _} -> closed;
        {tcp_error, _, _} -> closed
    end.
"""
# waits for a process that serves all pages, and then for a few milliseconds, and computes
PAGE = """
-module(page).
-export([html/0]).
html() ->
    {ok, ok} = gen:call(pool, '$gen_call', checkout),
    timer:sleep(rand:uniform(16)),
    compute(20000),
    [price:NAME(3)].
compute(0) -> ok;
compute(N) -> compute(N - 1).
"""
PRICE = '-module(price).\n-export([NAME/1]).\nNAME(N) -> ["NAME ", integer_to_list(N)].\n'


def release(root: Path, number: int, name: str) -> None:
    tree = root / f"v{number}"
    ebin = tree / f"lib/web-{number}/ebin"
    ebin.mkdir(parents=True)
    compile_to(
        ebin,
        {"web": WEB, "page": PAGE.replace("NAME", name), "price": PRICE.replace("NAME", name)},
    )
    (ebin / "web.app").write_text(
        f'{{application, web, [{{vsn, "{number}"}}, {{modules, [web, page, price]}},'
        " {mod, {web, []}}, {applications, [kernel, stdlib]}]}.\n"
    )
    (tree / f"releases/{number}").mkdir(parents=True)
    (tree / "releases/start_erl.data").write_text(f"13.0 {number}\n")
    (tree / f"releases/{number}/web.rel").write_text(
        f'{{release, {{"web", "{number}"}}, {{erts, "13.0"}}, [{{web, "{number}"}}]}}.\n'
    )


def swap(root: Path, node_port: int, live: int, target: int) -> Any:
    old, new = root / f"v{live}", root / f"v{target}"
    with channel.connect(local(node_port), "web@127.0.0.1", "a cookie", 10) as node:
        request = {
            "old": [ord(c) for c in str(old)], "new": [ord(c) for c in str(new)],
            "files": [str(p.relative_to(new)) for p in new.rglob("*") if p.is_file()],
            "direction": Atom("up" if target > live else "down"), "answers": Atom("none"),
            "label": f"v{target}", "from": f"v{live}", "now_ms": 5, "asker": node.pid,
            # on a busy machine, requests take much longer than on an idle one
            "suspend_ms": 60_000, "insist": False,
        }  # fmt: skip
        terms = {Atom(key): value for key, value in request.items()}
        return node.call("gatling_swap", "swap", terms, timeout=90)


@pytest.mark.parametrize("server", ["bandit", "cowboy"])
def test_no_request_is_lost(tmp_path: Path, server: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    compile_to(tools, {p.stem: p.read_text() for p in toolbox.SOURCES.glob("*.erl")})
    for number, name in ((1, "net"), (2, "gross")):
        release(tmp_path, number, name)
    instance, node_port, kept, closed = (free_port() for _ in range(4))
    node = subprocess.Popen(
        ["erl", "-noinput", "-start_epmd", "false", "-erl_epmd_port", str(node_port),
         "-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-name", "web@127.0.0.1",
         "-setcookie", "a cookie", "-pa", tools, tmp_path / "v1/lib/web-1/ebin",
         "-eval", "ok = application:start(web)."],
        env=os.environ | {"PORT": str(instance), "SERVER": server},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: ports.answers(instance) and ports.answers(node_port), "the node")
        with (
            proxies(tmp_path, instance, kept, closed),
            Load(closed, "/", RATE) as one,
            Load(kept, "/", RATE) as two,
        ):
            swaps = []
            for n in range(SWAPS):
                swaps.append(swap(tmp_path, node_port, 1 + n % 2, 2 - n % 2))
                for load in (one, two):
                    load.see(TEXTS[1 - n % 2])
    finally:
        node.kill()
        node.wait()
    assert [answer for answer in swaps if answer[0] != "ok"] == []
    for load in (one, two):
        assert load.failures == []
        assert load.texts == set(TEXTS)
    pauses = [report["held_us"] / 1000 for _, report in swaps]
    longest = max(one.waits + two.waits) * 1000
    print(f"{server}: {len(one.waits) + len(two.waits)} requests, longest wait {longest:.0f} ms,")
    print(f"paused for {statistics.median(pauses):.0f} ms, {max(pauses):.0f} ms at most")
    assert all(0 < pause < PAUSE_MS for pause in pauses)
