%% EUnit tests of how new requests are held, with the processes of a small web server.
-module(doors_tests).
-behaviour(application).
-behaviour(supervisor).

-include_lib("eunit/include/eunit.hrl").

-export([start/2, stop/1, init/1]).

%% The code that a request under way executes.
-define(CALLERS, [{timer, {gone, away, 1}}]).

start(_, Listener) -> supervisor:start_link({local, shop}, ?MODULE, Listener).

stop(_) -> ok.

init(Listener) ->
    {ok, {#{}, [child(acceptor, fun() -> accepting(Listener) end),
                child(worker, fun() -> working() end)]}}.

child(Id, Run) ->
    Start = fun() -> P = spawn_link(Run), register(Id, P), {ok, P} end,
    #{id => Id, start => {erlang, apply, [Start, []]}}.

working() -> receive {ask, From} -> From ! answer end, working().

accepting(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    P = spawn(fun() -> receive go -> connection(Socket) end end),
    ok = gen_tcp:controlling_process(Socket, P),
    P ! go,
    accepting(Listener).

%% A slow request has a process of its own, which sends its connection a message in the end.
connection(Socket) ->
    ok = inet:setopts(Socket, [{active, once}]),
    receive
        {tcp, _, "slow"} ->
            Connection = self(),
            _ = spawn_link(fun() -> timer:sleep(300), Connection ! done end),
            receive done -> ok end,
            ok = gen_tcp:send(Socket, "slow");
        {tcp, _, Fast} ->
            ok = gen_tcp:send(Socket, Fast)
    end,
    connection(Socket).

held_test_() -> {timeout, 30, fun held/0}.

held() ->
    {ok, Listener} = gen_tcp:listen(0, [{active, false}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    ok = application:load({application, shop, [{mod, {?MODULE, Listener}},
                                               {applications, [kernel, stdlib]}]}),
    ok = application:start(shop),
    Connect = fun() ->
                      {ok, S} = gen_tcp:connect({127, 0, 0, 1}, Port, [{active, false}]),
                      S
              end,
    Kept = Connect(),
    ok = gen_tcp:send(Kept, "one"),
    ?assertEqual({ok, "one"}, gen_tcp:recv(Kept, 0, 5000)),
    UnderWay = Connect(),
    ok = gen_tcp:send(UnderWay, "slow"),
    timer:sleep(100),
    Held = gatling_freeze:start({doors, ?CALLERS}, [], [], 20000),
    ?assert(is_pid(Held)),
    New = Connect(),
    _ = [ok = gen_tcp:send(S, "two") || S <- [Kept, New]],
    ?assertEqual({ok, "slow"}, gen_tcp:recv(UnderWay, 0, 800)),
    timer:sleep(20),
    ok = gen_tcp:send(UnderWay, "two"),
    _ = [?assertEqual({error, timeout}, gen_tcp:recv(S, 0, 30)) || S <- [Kept, New, UnderWay]],
    worker ! {ask, self()},
    receive answer -> ok after 200 -> error(frozen) end,
    gatling_freeze:thaw(Held),
    _ = [?assertEqual({ok, "two"}, gen_tcp:recv(S, 0, 5000)) || S <- [Kept, New, UnderWay]],
    ok = application:stop(shop).

%% Nobody has to wait for long, whatever becomes of the swap.
limited_test() ->
    Held = gatling_freeze:doors(?CALLERS, [], []),
    Ref = monitor(process, Held),
    receive {'DOWN', Ref, process, Held, normal} -> ok after 3000 -> error(held) end.
