"""A swap in a real node, and all that can go wrong in it: one release, whole, or an honest word."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from gatling.beam import channel, toolbox
from gatling.beam.etf import Atom, Opaque
from gatling.errors import NodeUnreachable
from gatling.platform import ports
from tests.conftest import until
from tests.places import local

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME, COOKIE = "demo@127.0.0.1", "a cookie"
SERVER = """
-module(server).
-behaviour(gen_server).
-export([start_link/0, version/0, init/1, handle_call/3, handle_cast/2, code_change/3]).
start_link() -> gen_server:start_link({local, server}, ?MODULE, [], []).
version() -> VERSION.
init([]) -> {ok, {1, kept}}.
handle_call(state, _, State) -> {reply, State, State}.
handle_cast(_, State) -> {noreply, State}.
code_change({down, _}, State, _) -> {ok, setelement(1, State, VERSION - 1)};
code_change(_, State, _) -> fault:at(code_change), {ok, setelement(1, State, VERSION)}.
"""
FAULT = """
-module(fault).
-export([at/1, start/0]).
at(Point) ->
    case persistent_term:get({fault, Point}, none) of
        none -> ok;
        kill -> exit(self(), kill);
        hold -> persistent_term:put({held, Point}, self()), held(Point);
        Milliseconds when is_integer(Milliseconds) -> timer:sleep(Milliseconds);
        Class -> erlang:raise(Class, went_wrong, [])
    end.
held(Point) ->
    case persistent_term:get({fault, Point}) of
        hold -> timer:sleep(5), held(Point);
        _ -> ok
    end.
start() ->
    ok = application:load(demo),
    {ok, P} = server:start_link(),
    unlink(P),
    P.
"""
CLIENTS = """
-module(clients).
-export([watched/1]).
%% Clients whose processes end with these reasons: how many there are, and which count as cut.
watched(Reasons) ->
    {ok, Listener} = gen_tcp:listen(0, [{active, false}]),
    {ok, Port} = inet:port(Listener),
    Owners = [{owner(Listener, Port), Reason} || Reason <- Reasons],
    Clients = gatling_agent:clients(Port),
    Watcher = gatling_watch:start([], erlang:processes(), []),
    _ = [P ! {stop, Reason} || {P, Reason} <- Owners],
    {_, _, _, Stopped} = gatling_watch:await(Watcher, 200),
    {length([P || {_, P} <- Clients, lists:keymember(P, 1, Owners)]),
     [Reason || {P, Reason} <- Owners, lists:member(P, Stopped)]}.
owner(Listener, Port) ->
    Parent = self(),
    Owner = spawn(fun() ->
        {ok, _} = gen_tcp:connect({127, 0, 0, 1}, Port, []),
        {ok, Socket} = gen_tcp:accept(Listener),
        ok = gen_tcp:send(Socket, "x"),
        Parent ! {ready, self()},
        receive {stop, Reason} -> exit(Reason) end
    end),
    receive {ready, Owner} -> Owner end.
"""
# where a fault may happen: the first line of a function of Gatling's
POINTS = {
    "late": ("gatling_sys", "late(Known, Callbacks, Before, Timeout) ->"),
    "watch": ("gatling_watch", "start(Processes, All, Changed) ->"),
    "stash": ("gatling_sys", "stash(Processes, Watcher) ->"),
    "set": ("gatling_config", "set(Set, Delete) ->"),
    "take_back": ("gatling_config", "take_back(#{env_set := Set}, EnvBefore) ->"),
    "last_look": ("gatling_calls", "last_look(Callers) ->"),
    "finish": ("gatling_swap", "finish(Prepared) ->"),
    "beside": ("gatling_children", "change({Path, Start, Stop}) ->"),
    "afterwards": (
        "gatling_swap",
        "afterwards(#{removed := Removed, children := Children} = Changes, EnvBefore) ->",
    ),
    "prepare": ("gatling_code", "prepare(Modules) ->"),
}


@dataclass
class Built:
    """Two releases of a small application, and Gatling's modules with places for faults."""

    root: Path
    tools: Path

    def release(self, number: int) -> Path:
        return self.root / f"v{number}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    root = tmp_path_factory.mktemp("releases")
    made = Built(root, root / "tools")
    made.tools.mkdir()
    sources = {p.stem: p.read_text() for p in toolbox.SOURCES.glob("*.erl")}
    for point, (module, head) in POINTS.items():
        assert sources[module].count(head) == 1, point
        sources[module] = sources[module].replace(head, f"{head} fault:at({point}),")
    compile_to(made.tools, sources | {"fault": FAULT, "clients": CLIENTS})
    for number in (1, 2):
        tree = made.release(number)
        ebin = tree / f"lib/demo-{number}/ebin"
        ebin.mkdir(parents=True)
        compile_to(ebin, {"server": SERVER.replace("VERSION", str(number))})
        (ebin / "demo.app").write_text(
            f'{{application, demo, [{{vsn, "{number}"}}, {{modules, [server]}},'
            " {applications, [kernel, stdlib]}]}.\n"
        )
        (tree / f"releases/{number}").mkdir(parents=True)
        (tree / "releases/start_erl.data").write_text(f"13.0 {number}\n")
        (tree / f"releases/{number}/demo.rel").write_text(
            f'{{release, {{"demo", "{number}"}}, {{erts, "13.0"}}, [{{demo, "{number}"}}]}}.\n'
        )
    return made


def compile_to(directory: Path, sources: dict[str, str]) -> None:
    files = []
    for name, text in sources.items():
        (directory / f"{name}.erl").write_text(text)
        files.append(directory / f"{name}.erl")
    subprocess.run(["erlc", "-o", directory, *files], check=True)
    for file in files:
        file.unlink()


class Demo:
    """A node that runs the first release."""

    def __init__(self, built: Built, port: int, process: subprocess.Popen[bytes]) -> None:
        self.built, self.port, self.process = built, port, process

    def connect(self, patience: float = 10) -> Any:
        return channel.connect(local(self.port), NAME, COOKIE, patience)

    def call(self, module: str, function: str, *arguments: Any) -> Any:
        with self.connect() as node:
            return node.call(module, function, *arguments)

    def fault(self, point: str, what: Any) -> None:
        """Raise `what` at a point, or end there (kill), or stay there (hold) until it changes."""
        self.call("persistent_term", "put", (Atom("fault"), Atom(point)), what)

    def given_up(self, node: channel.Node, **more: Any) -> None:
        """Ask for a swap that is held at a point, and wait for it no longer."""
        request = self.request(node.pid, 1, 2, **more)
        with pytest.raises(NodeUnreachable):
            node.call("gatling_swap", "swap", request, timeout=0.5)

    def request(self, asker: Opaque, live: int, target: int, **more: Any) -> dict[Any, Any]:
        old, new = self.built.release(live), self.built.release(target)
        files = [str(p.relative_to(new)) for p in new.rglob("*") if p.is_file()]
        request = {
            "old": [ord(c) for c in str(old)], "new": [ord(c) for c in str(new)],
            "files": files, "direction": Atom("up" if target > live else "down"),
            "answers": Atom("none"), "label": f"v{target}", "from": f"v{live}", "now_ms": 5,
            "asker": asker, "suspend_ms": 2000, "insist": False,
        } | more  # fmt: skip
        return {Atom(key): value for key, value in request.items()}

    def swap(self, live: int = 1, target: int = 2, timeout: float = 40, **more: Any) -> Any:
        with self.connect() as node:
            request = self.request(node.pid, live, target, **more)
            return node.call("gatling_swap", "swap", request, timeout=timeout)

    def chain(self) -> Any:
        return self.call("gatling_agent", "chain")

    def state(self) -> Any:
        """Of the server, which must not be suspended, and the version of the code it runs."""
        state = self.call("gen_server", "call", Atom("server"), Atom("state"), 2000)
        return state, self.call("server", "version")


@contextlib.contextmanager
def started(built: Built) -> Iterator[Demo]:
    """A node of its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    node = subprocess.Popen(
        ["erl", "-noinput", "-start_epmd", "false", "-erl_epmd_port", str(port),
         "-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-name", NAME,
         "-setcookie", COOKIE, "-pa", built.tools, built.release(1) / "lib/demo-1/ebin",
         "-eval", "fault:start()."],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    made = Demo(built, port, node)
    try:
        until(lambda: ports.answers(port), "the node")
        until(lambda: isinstance(made.call("erlang", "whereis", Atom("server")), Opaque), "boot")
        yield made
    finally:
        node.kill()
        node.wait()


@pytest.fixture
def demo(built: Built) -> Iterator[Demo]:
    with started(built) as made:
        yield made


BEFORE, AFTER = ((1, "kept"), 1), ((2, "kept"), 2)
HELD_MS = 60_000
"""For swaps whose processes stay suspended while a test looks at them."""


def test_there_and_back(demo: Demo) -> None:
    done, report = demo.swap()
    assert (done, report["processes"], report["failed"]) == ("ok", 1, [])
    assert demo.state() == AFTER
    assert demo.chain() == ("ok", [(b"v1", "undefined"), (b"v2", 5)])
    assert demo.swap(2, 1)[0] == "ok"
    assert demo.state() == BEFORE
    assert [label for label, _ in demo.chain()[1]] == [b"v1", b"v2", b"v1"]


@pytest.mark.parametrize("kind", ["throw", "error", "exit"])
def test_whatever_is_raised_is_taken_back(demo: Demo, kind: str) -> None:
    for point in ("late", "watch", "stash", "set", "last_look", "finish"):
        demo.fault(point, Atom(kind))
        result = demo.swap()
        assert result == ("error", "internal", b"went_wrong", "restored"), point
        assert demo.state() == BEFORE, point
        assert demo.chain() == ("ok", []), point
        demo.fault(point, Atom("none"))
    demo.fault("prepare", Atom(kind))
    assert demo.swap() == ("error", "internal", b"went_wrong", "untouched")
    demo.fault("prepare", Atom("none"))
    demo.fault("code_change", Atom(kind))
    failed, stage, (why,), state = demo.swap()
    assert (failed, stage, state) == ("error", "code_change", "restored")
    assert re.fullmatch(rb"server: .*went_wrong.*", why), why
    assert demo.state() == BEFORE
    demo.fault("code_change", Atom("none"))
    # what fails after the switch is said, and undoes nothing by itself
    demo.fault("afterwards", Atom(kind))
    done, report = demo.swap()
    assert (done, report["failed"]) == ("ok", [(b"after the switch", b"went_wrong")])
    assert demo.state() == AFTER


def test_a_file_that_is_not_there_leaves_the_node_untouched(demo: Demo) -> None:
    result = demo.swap(answers=([47, 120], [47, 120]))
    assert (result[1], result[3]) == ("internal", "untouched")
    assert demo.state() == BEFORE


def test_what_cannot_be_taken_back_stays_announced(demo: Demo) -> None:
    demo.fault("finish", Atom("exit"))
    demo.fault("take_back", Atom("error"))
    assert demo.swap()[3] == "broken"
    assert demo.state()[0] == (1, "kept"), "nothing stays suspended"
    busy, announced = demo.chain()
    assert (busy, announced["phase"], announced["to"]) == ("busy", "broken", b"v2")
    assert demo.swap()[0] == "busy"


def held(node: channel.Node, point: str) -> Any:
    """Wait until a swap is held at a point; its process."""
    key, none = (Atom("held"), Atom(point)), Atom("none")

    def process() -> Any:
        found = node.call("persistent_term", "get", key, none)
        return found if isinstance(found, Opaque) else None

    return until(process, "the swap", 20)


def is_committed(node: channel.Node) -> bool:
    """Whether a swap has switched the code."""
    state, announced = node.call("gatling_agent", "chain")
    return bool(state == "busy" and announced["phase"] == "committed")


def test_a_second_swap_does_not_begin(demo: Demo) -> None:
    demo.fault("code_change", Atom("hold"))
    with demo.connect() as node:
        request = demo.request(node.pid, 1, 2, suspend_ms=HELD_MS)
        demo.given_up(node, suspend_ms=HELD_MS)
        until(lambda: is_committed(node), "the switch", 20)
        busy, announced = node.call("gatling_agent", "chain")
        assert (busy, announced["from"], announced["phase"]) == ("busy", b"v1", "committed")
        assert node.call("gatling_swap", "swap", request)[0] == "busy"
        assert node.call("gatling_agent", "inspect", request)[0] == "busy"
    demo.fault("code_change", Atom("none"))
    until(lambda: demo.chain()[0] == "ok", "the end of the swap", 20)
    assert demo.state() == AFTER


@pytest.mark.parametrize("point", ["stash", "set", "last_look"])
def test_a_swap_whose_asker_is_gone_before_the_switch_gives_up(demo: Demo, point: str) -> None:
    demo.fault(point, Atom("hold"))
    with demo.connect() as node:
        demo.given_up(node)
        held(node, point)
    # the connection has ended; the next command has one with the same name
    demo.fault(point, Atom("none"))
    until(lambda: demo.chain() == ("ok", []), "the end of the swap", 20)
    assert demo.state() == BEFORE


def test_a_swap_whose_asker_is_gone_after_the_switch_ends(demo: Demo) -> None:
    demo.fault("code_change", Atom("hold"))
    with demo.connect() as node:
        demo.given_up(node, suspend_ms=HELD_MS)
        until(lambda: is_committed(node), "the switch", 20)
    demo.fault("code_change", Atom("none"))
    until(lambda: demo.chain()[0] == "ok", "the end of the swap", 20)
    assert demo.state() == AFTER
    assert [label for label, _ in demo.chain()[1]] == [b"v1", b"v2"]


@pytest.mark.parametrize(
    ("point", "broken"), [("prepare", False), ("stash", True), ("finish", True)]
)
def test_a_swap_that_is_killed_leaves_nothing_suspended(
    demo: Demo, point: str, broken: bool
) -> None:
    demo.fault(point, Atom("kill"))
    with demo.connect() as node, pytest.raises(NodeUnreachable):
        node.call("gatling_swap", "swap", demo.request(node.pid, 1, 2), timeout=20)
    assert demo.state() == BEFORE
    answer = demo.chain()
    assert answer[0] == ("busy" if broken else "ok")
    if broken:
        assert answer[1]["phase"] == "broken"


def test_a_guard_that_is_killed_before_the_switch_ends_the_swap(demo: Demo) -> None:
    demo.fault("set", Atom("hold"))
    with demo.connect() as node:
        demo.given_up(node)
        swap = held(node, "set")
        guard = node.call("erlang", "whereis", Atom("gatling_swap"))
        node.call("erlang", "exit", guard, Atom("kill"))
        node.call("persistent_term", "put", (Atom("fault"), Atom("set")), Atom("none"))
        until(lambda: not node.call("erlang", "is_process_alive", swap), "the end of the swap", 20)
    assert demo.state() == BEFORE
    assert demo.chain() == ("ok", [])


def test_a_client_that_leaves_is_not_cut(demo: Demo) -> None:
    left = [Atom("normal"), (Atom("shutdown"), Atom("peer_closed"))]
    cut = [Atom("shutdown"), Atom("killed"), Atom("badarg")]
    assert demo.call("clients", "watched", left + cut) == (5, cut)
