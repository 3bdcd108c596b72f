%% The steps of a swap beside the conversion of processes: new children are started, and the code
%% path follows. See gatling_swap.
-module(gatling_beside).

-export([start/2, ended/1, stop/2]).
-export_type([started/0]).

-type started() :: {pid(), reference()}.

%% Start what is new, except where something else goes: that may hold a name or a port. At once,
%% since the new code may ask for it already. In a process of its own, whose exit reason lists the
%% failures.
-spec start(gatling_types:changes(), gatling_freeze:frozen()) -> started().
start(#{children := Children, from := From, to := To, touched := Touched}, Frozen) ->
    spawn_monitor(fun() ->
                          gatling_freeze:beside(Frozen, self()),
                          Failed = lists:append([gatling_children:change(C)
                                                 || {_, _, []} = C <- Children]),
                          gatling_freeze:thaw(Frozen),
                          ok = gatling_code:follow(From, To, Touched),
                          exit({started, Failed})
                  end).

%% Wait until it has ended; gives what failed.
-spec ended(started()) -> gatling_types:failed().
ended({P, Ref}) ->
    receive
        {'DOWN', Ref, process, P, {started, Failed}} -> Failed;
        {'DOWN', Ref, process, P, Why} -> [{<<"after the switch">>, gatling_text:term(Why)}]
    end.

%% Undo it.
-spec stop(gatling_types:changes(), started()) -> ok.
stop(#{children := Children, from := From, to := To, touched := Touched}, Started) ->
    _ = ended(Started),
    _ = [gatling_children:change({Path, [], [Id || #{id := Id} <- Start]})
         || {Path, Start, []} <- Children],
    gatling_code:follow(To, From, Touched).
