%% Swaps the code of several nodes at once, all or none. Loaded into the node by Gatling.
%%
%% Each node carries out the swap of gatling_swap, and stops at three points until Gatling has heard
%% that all nodes are there: prepared (all that can be found out is known, and nothing was touched),
%% suspended (the processes stand still, and the next step is the switch) and switched (the new
%% code runs, the states are converted, and the processes still stand still). Until it goes on from
%% the last point a swap can be taken back without a trace. A node does so when Gatling says that
%% another one has failed, when Gatling has disconnected, and when nothing is said for too long.
-module(gatling_together).

-export([start/1, go/1, abort/1, agree/1]).

%% For so long a node stands at a point before it goes back. The others may have more to prepare,
%% but those that call a suspended process wait.
-define(PREPARED_MS, 60000).
-define(SUSPENDED_MS, 3000).
-define(TOGETHER, '$gatling_together').

-type point() :: prepared | suspended | switched.
%% The point at which the swap stands, or its result.
-type news() :: {at, pid(), point()} | {ended, term()} | {lost, binary()}.

%% Begin a swap; the answer comes when it stands at the first point.
-spec start(gatling_types:request()) -> news().
start(#{asker := Asker} = Request) ->
    {Pid, Ref} = spawn_monitor(
                   fun() ->
                           First = receive {go, From} -> From end,
                           put(?TOGETHER, {First, monitor(process, Asker)}),
                           Result = gatling_swap:swap(Request),
                           {Now, Monitor} = get(?TOGETHER),
                           Now ! {self(), {ended, Result}},
                           tell(Result, Monitor)
                   end),
    asked(Pid, Ref, go).

%% Repeat the result for a question that is on its way.
-spec tell(term(), reference()) -> ok.
tell(Result, Monitor) ->
    receive
        {'DOWN', Monitor, process, _, _} ->
            ok;
        {What, From} when What =:= go; What =:= abort ->
            From ! {self(), {ended, Result}},
            tell(Result, Monitor)
    end.

%% Let it go on to the next point, or to its end.
-spec go(pid()) -> news().
go(Pid) -> asked(Pid, monitor(process, Pid), go).

%% Let it go back; the answer is what became of it.
-spec abort(pid()) -> news().
abort(Pid) -> asked(Pid, monitor(process, Pid), abort).

-spec asked(pid(), reference(), go | abort) -> news().
asked(Pid, Ref, What) ->
    Pid ! {What, self()},
    receive
        {Pid, {at, Point}} -> true = demonitor(Ref, [flush]), {at, Pid, Point};
        {Pid, {ended, Result}} -> true = demonitor(Ref, [flush]), {ended, Result};
        {'DOWN', Ref, process, Pid, Why} -> {lost, gatling_text:term(Why)}
    end.

%% The swap that this process carries out has come to a point: wait for the other nodes. Throws
%% what ends the swap. Outside of a swap of several nodes there is nobody to wait for.
-spec agree(point()) -> ok.
agree(Point) ->
    case get(?TOGETHER) of
        undefined ->
            ok;
        {From, Asker} ->
            From ! {self(), {at, Point}},
            receive
                {go, Next} ->
                    put(?TOGETHER, {Next, Asker}),
                    ok;
                {abort, Next} ->
                    put(?TOGETHER, {Next, Asker}),
                    throw({together, <<"another instance could not be upgraded">>});
                {'DOWN', Asker, process, _, _} ->
                    throw({gone, <<"Gatling has disconnected">>})
            after limit(Point) ->
                    throw({together, <<"the other instances were not ready in time">>})
            end
    end.

-spec limit(point()) -> pos_integer().
limit(prepared) -> ?PREPARED_MS;
limit(_) -> ?SUSPENDED_MS.
