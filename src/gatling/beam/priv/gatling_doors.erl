%% The doors of the applications: processes that accept connections, and processes of connections
%% that wait for the next request. While they are frozen (see gatling_freeze), new connections queue
%% in the kernel, new requests wait in their sockets, and requests under way come to their ends.
-module(gatling_doors).

-export([closable/1]).

-type socket() :: {port(), Address :: term(), Listens :: boolean()}.

%% The doors, but for connections of requests under way in such code. Such a connection is the
%% process in that code, or is linked to it, and may get messages of it and have to answer them.
-spec closable(gatling_calls:callers()) -> [pid()].
closable(Callers) ->
    Sockets = [{P, local(Address), listens(P)}
               || P <- erlang:ports(), {name, "tcp_inet"} =:= erlang:port_info(P, name),
                  {ok, Address} <- [inet:sockname(P)]],
    IsInside = fun(P) -> gatling_calls:is_inside(P, Callers) end,
    accepting(Sockets) ++ [P || P <- owners(Sockets), not lists:any(IsInside, near(P))].

-spec listens(port()) -> boolean().
listens(P) ->
    case prim_inet:getstatus(P) of
        {ok, Status} -> lists:member(listen, Status);
        {error, _} -> false
    end.

%% A socket that listens on all addresses has another one than those that it accepts.
-spec local(term()) -> term().
local({_, Port}) when is_integer(Port) -> Port;
local(Address) -> Address.

%% A socket monitors each process that waits for a connection.
-spec accepting([socket()]) -> [pid()].
accepting(Sockets) ->
    [P || {Socket, _, true} <- Sockets,
          {monitors, Monitors} <- [erlang:port_info(Socket, monitors)],
          {process, P} <- Monitors, is_pid(P)].

%% The processes of connections to an address on which the node listens. A connection that the node
%% has made, to a database for example, is needed by requests under way.
-spec owners([socket()]) -> [pid()].
owners(Sockets) ->
    Listening = maps:from_list([{Address, true} || {_, Address, true} <- Sockets]),
    [Owner || {P, Address, false} <- Sockets, is_map_key(Address, Listening),
              {connected, Owner} <- [erlang:port_info(P, connected)]].

-spec near(pid()) -> [pid()].
near(P) ->
    case process_info(P, links) of
        {links, Links} -> [P | [L || L <- Links, is_pid(L), node(L) =:= node()]];
        undefined -> [P]
    end.
