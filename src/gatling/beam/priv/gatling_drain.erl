%% The sockets of a Phoenix app, which are asked to reconnect before their instance ends. Loaded
%% into the node by Gatling, without its other modules.
%%
%% Phoenix does this itself when it is stopped: it sends "phx_drain" to its channels, in large
%% batches, and each one closes its socket with the code for a restart of the service. Here the same
%% message is sent to a few sockets at a time. A socket without a channel gets none, and is closed
%% when the instance ends. Nothing is noted in the node, so another process can go on with it.
-module(gatling_drain).

-export([ask/1]).
-export_type([asked/0]).

-define(POOL, 'Elixir.Phoenix.Socket.PoolSupervisor').
-define(DRAINER, 'Elixir.Phoenix.Socket.PoolDrainer').
-define(BROADCAST, 'Elixir.Phoenix.Socket.Broadcast').
%% A supervisor answers in microseconds, unless the node is overloaded.
-define(ANSWER_MS, 5000).

%% The sockets that were open, and how many of them were asked. `unknown`: this Phoenix, if it is
%% there, does not understand the message.
-type asked() :: {Open :: non_neg_integer(), Asked :: non_neg_integer()} | unknown.

%% Ask as many sockets as given to reconnect; with 0 they are only counted.
-spec ask(non_neg_integer()) -> asked().
ask(Most) ->
    case erlang:module_loaded(?DRAINER) of
        true ->
            Sockets = sockets(channels()),
            Asked = lists:sublist(maps:values(Sockets), Most),
            _ = [Channel ! message() || Channel <- Asked],
            {map_size(Sockets), length(Asked)};
        false ->
            unknown
    end.

-spec message() -> map().
message() ->
    #{'__struct__' => ?BROADCAST, topic => nil, event => <<"phx_drain">>, payload => nil}.

%% Phoenix keeps the channels of a kind of socket below supervisors, which one supervisor starts.
-spec channels() -> [pid()].
channels() ->
    Pools = [P || P <- erlang:processes(), is_pool(P)],
    [C || Pool <- Pools, Partition <- children(Pool), C <- children(Partition)].

-spec is_pool(pid()) -> boolean().
is_pool(P) ->
    case process_info(P, [initial_call, dictionary]) of
        [{initial_call, {proc_lib, init_p, _}}, {dictionary, Dictionary}] ->
            lists:keyfind('$initial_call', 1, Dictionary) =:=
                {'$initial_call', {supervisor, ?POOL, 1}};
        _ ->
            false
    end.

-spec children(pid()) -> [pid()].
children(Supervisor) ->
    try gen_server:call(Supervisor, which_children, ?ANSWER_MS) of
        Children -> [P || {_, P, _, _} <- Children, is_pid(P)]
    catch
        exit:_ -> []
    end.

%% One channel of each socket. A channel and the process of its socket monitor each other.
-spec sockets([pid()]) -> #{pid() => pid()}.
sockets(Channels) ->
    Known = maps:from_keys(Channels, true),
    maps:from_list([{socket(C, Known), C} || C <- Channels]).

-spec socket(pid(), Known :: #{pid() => true}) -> pid().
socket(Channel, Known) ->
    case process_info(Channel, [monitors, monitored_by]) of
        [{monitors, Monitors}, {monitored_by, By}] ->
            case [P || {process, P} <- Monitors, is_pid(P), not is_map_key(P, Known),
                       lists:member(P, By)] of
                [Socket | _] -> Socket;
                [] -> Channel
            end;
        undefined ->
            Channel
    end.
