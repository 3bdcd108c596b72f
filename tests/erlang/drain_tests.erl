%% EUnit tests of gatling_drain, with processes that look like Phoenix' sockets and channels.
-module(drain_tests).

-include_lib("eunit/include/eunit.hrl").

-define(POOL, 'Elixir.Phoenix.Socket.PoolSupervisor').
-define(DRAINER, 'Elixir.Phoenix.Socket.PoolDrainer').

-export([channel/1, init/1]).

pool_source() ->
    "-module('Elixir.Phoenix.Socket.PoolSupervisor').\n"
    "-behaviour(supervisor).\n"
    "-export([init/1]).\n"
    "init([]) ->\n"
    "    Start = {supervisor, start_link, [drain_tests, []]},\n"
    "    {ok, {#{}, [#{id => N, start => Start, type => supervisor} || N <- [1, 2]]}}.\n".

%% A partition of the pool, which Phoenix has in a DynamicSupervisor. It answers in the same way.
init([]) ->
    {ok, {#{strategy => simple_one_for_one},
          [#{id => channel, start => {?MODULE, channel, []}, restart => temporary}]}}.

loaded(Source) ->
    {ok, Tokens, _} = erl_scan:string(Source),
    {ok, Module, Binary} = compile:forms(forms(Tokens, [])),
    {module, Module} = code:load_binary(Module, "", Binary),
    Module.

forms([], []) -> [];
forms([{dot, _} = Dot | Rest], Form) ->
    {ok, Parsed} = erl_parse:parse_form(lists:reverse([Dot | Form])),
    [Parsed | forms(Rest, [])];
forms([Token | Rest], Form) -> forms(Rest, [Token | Form]).

%% A channel, as Phoenix' own: it ends its socket's process at the message, and itself.
channel(Socket) ->
    {ok, spawn_link(fun() ->
                            monitor(process, Socket),
                            receive
                                #{'__struct__' := 'Elixir.Phoenix.Socket.Broadcast',
                                  event := <<"phx_drain">>} -> Socket ! socket_drain;
                                {'DOWN', _, process, Socket, _} -> ok
                            end
                    end)}.

%% A socket with channels, which monitors them, as its transport does.
socket(Partition, Count) ->
    Test = self(),
    Socket = spawn(fun() ->
                           Channels = [C || _ <- lists:seq(1, Count),
                                            {ok, C} <- [supervisor:start_child(Partition,
                                                                               [self()])]],
                           _ = [monitor(process, C) || C <- Channels],
                           Test ! {ready, self()},
                           open()
                   end),
    receive {ready, Socket} -> Socket end.

open() -> receive socket_drain -> ok; _ -> open() end.

with_phoenix(Test) ->
    {setup,
     fun() ->
             [loaded(S) || S <- [pool_source(), "-module('Elixir.Phoenix.Socket.PoolDrainer').\n"]],
             {ok, Pool} = supervisor:start_link(?POOL, []),
             unlink(Pool),
             [P || {_, P, _, _} <- supervisor:which_children(Pool)] ++ [Pool]
     end,
     fun(Pids) ->
             Pool = lists:last(Pids),
             Ref = monitor(process, Pool),
             exit(Pool, kill),
             receive {'DOWN', Ref, process, Pool, _} -> ok end,
             [begin code:purge(M), code:delete(M), code:purge(M) end || M <- [?POOL, ?DRAINER]]
     end,
     fun(Pids) -> fun() -> Test(Pids) end end}.

alive(Sockets) -> length([S || S <- Sockets, is_process_alive(S)]).

until(Count, Sockets) ->
    case alive(Sockets) of
        Count -> ok;
        _ -> timer:sleep(5), until(Count, Sockets)
    end.

unknown_without_phoenix_test() -> ?assertEqual(unknown, gatling_drain:ask(5)).

as_many_as_given_test_() ->
    with_phoenix(fun([First, Second, _]) ->
        ?assertEqual({0, 0}, gatling_drain:ask(5)),
        Sockets = [socket(P, 1) || P <- [First, Second], _ <- lists:seq(1, 5)],
        ?assertEqual({10, 0}, gatling_drain:ask(0)),
        ?assertEqual(10, alive(Sockets)),
        ?assertEqual({10, 4}, gatling_drain:ask(4)),
        until(6, Sockets),
        ?assertEqual({6, 6}, gatling_drain:ask(100)),
        until(0, Sockets),
        ?assertEqual({0, 0}, gatling_drain:ask(100))
    end).

%% A page with several channels is one socket: it reconnects once.
channels_of_one_socket_test_() ->
    with_phoenix(fun([First, Second, _]) ->
        Sockets = [socket(P, 3) || P <- [First, Second]],
        ?assertEqual({2, 1}, gatling_drain:ask(1)),
        until(1, Sockets),
        timer:sleep(20),
        ?assertEqual({1, 1}, gatling_drain:ask(1)),
        until(0, Sockets)
    end).

%% A supervisor that does not answer any more costs its own channels alone.
an_ended_partition_test_() ->
    with_phoenix(fun([First, Second, _]) ->
        Socket = socket(Second, 1),
        exit(First, kill),
        ?assertEqual({1, 1}, gatling_drain:ask(9)),
        until(0, [Socket])
    end).
