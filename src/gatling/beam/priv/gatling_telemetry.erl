%% Counts in a node the events that the app's libraries report over :telemetry: requests by route,
%% LiveView events, queries, jobs. Loaded into the node by Gatling, without its other modules.
%%
%% The handlers are external functions, so a hot upgrade leaves them alone. No process is started.
%% Counts are in one array of fixed size, and its slots are found by persistent terms. Each kind has
%% a number of slots, and what comes later is counted as `other`. A process that needs a slot for a
%% new name takes the first free one by writing the name's hash there. Others that report the same
%% name at that moment, as the jobs of a queue do after a boot, find the hash and count in that
%% slot. Nothing of a request is kept but the route, and of a query but the table.
%%
%% A handler that fails would be detached by telemetry, with a line in the app's log. So none does.
-module(gatling_telemetry).

-export([attach/0, detach/0, read/0]).
-export([handle/4]).

%% A slot: events, failures, microseconds, microseconds in a queue, and twelve ranges of duration.
-define(WIDTH, 16).
-define(RANGES, 12).
%% Names of each kind; the last is for all others.
-define(SLOTS, 64).
-define(KINDS, [route, live, query, job]).
-define(CHARACTERS, 200).
%% To be raised when the meaning of the array changes.
-define(VERSION, 2).
-define(STATE, {?MODULE, state}).

-type kind() :: route | live | query | job.
-type name() :: [atom() | binary()].
-type state() :: #{version := pos_integer(),
                   since := integer(),
                   counts := counters:counters_ref(),
                   used := atomics:atomics_ref()}.
-type event() :: [atom()].
-type row() :: #{kind := kind(), name := [binary()], count := integer(), failed := integer(),
                 us := integer(), queue_us := integer(), ranges := [integer()]}.

%% Attach the handlers that are missing. `absent` means that the app has no telemetry.
-spec attach() -> attached | absent.
attach() ->
    case is_there() of
        true ->
            _ = state(),
            Known = [Id || #{id := Id} <- telemetry_call(list_handlers, [[]])],
            _ = [attach(Id, Event, Kind) || {Kind, Event} <- events(),
                                            Id <- [{?MODULE, Event}],
                                            not lists:member(Id, Known)],
            attached;
        false ->
            absent
    end.

-spec attach(term(), event(), kind()) -> term().
attach(Id, Event, Kind) ->
    telemetry_call(attach, [Id, Event, fun ?MODULE:handle/4, Kind]).

%% Remove the handlers and all counts.
-spec detach() -> ok.
detach() ->
    Handlers = case is_there() of true -> telemetry_call(list_handlers, [[]]); false -> [] end,
    _ = [telemetry_call(detach, [Id]) || #{id := {?MODULE, _} = Id} <- Handlers],
    _ = [persistent_term:erase(Key) || {Key, _} <- terms()],
    _ = persistent_term:erase(?STATE),
    ok.

%% The Unix time in seconds at which the counts begin, and all of them.
-spec read() -> {Since :: integer(), [row()]} | none.
read() ->
    case persistent_term:get(?STATE, none) of
        #{version := ?VERSION, since := Since, counts := Counts} ->
            Named = [row(Counts, Kind, Name, Slot)
                     || {{?MODULE, Kind, Name}, Slot} <- terms()],
            Others = [row(Counts, Kind, [<<"other">>], other(Kind)) || Kind <- ?KINDS],
            {Since, [Row || #{count := N} = Row <- Named ++ Others, N > 0]};
        _ ->
            none
    end.

-spec row(counters:counters_ref(), kind(), term(), non_neg_integer()) -> row().
row(Counts, Kind, Name, Slot) ->
    [Count, Failed, Us, Queue | Ranges] =
        [counters:get(Counts, Slot * ?WIDTH + N) || N <- lists:seq(1, ?WIDTH)],
    #{kind => Kind, name => [text(Part) || Part <- Name], count => Count, failed => Failed,
      us => Us, queue_us => Queue, ranges => Ranges}.

-spec terms() -> [{{?MODULE, kind(), name()}, non_neg_integer()}].
terms() -> [Term || {{?MODULE, _, _}, _} = Term <- persistent_term:get()].

%% ---------------------------------------------------------------- the state

%% Counts of another version of this module are dropped.
-spec state() -> state().
state() ->
    case persistent_term:get(?STATE, none) of
        #{version := ?VERSION} = State ->
            State;
        _ ->
            _ = [persistent_term:erase(Key) || {Key, _} <- terms()],
            Kinds = length(?KINDS),
            State = #{version => ?VERSION,
                      since => erlang:system_time(second),
                      counts => counters:new(Kinds * ?SLOTS * ?WIDTH, [write_concurrency]),
                      used => atomics:new(Kinds * ?SLOTS, [])},
            persistent_term:put(?STATE, State),
            State
    end.

-spec is_there() -> boolean().
is_there() -> is_pid(whereis(telemetry_handler_table)).

-spec telemetry_call(atom(), [term()]) -> term().
telemetry_call(Function, Arguments) ->
    try apply(telemetry, Function, Arguments)
    catch _:_ -> []
    end.

%% ---------------------------------------------------------------- what is listened to

-spec events() -> [{kind(), event()}].
events() ->
    [{route, [phoenix, router_dispatch, stop]},
     {route, [phoenix, router_dispatch, exception]},
     {job, [oban, job, stop]},
     {job, [oban, job, exception]}]
        ++ [{live, [phoenix, Part, Callback, End]}
            || {Part, Callback} <- [{live_view, mount}, {live_view, handle_params},
                                    {live_view, handle_event}, {live_component, handle_event}],
               End <- [stop, exception]]
        ++ [{query, Event} || Event <- queries()].

%% The events of the repositories that run, as their adapters know them.
-spec queries() -> [event()].
queries() ->
    try
        Repos = apply('Elixir.Ecto.Repo', all_running, []),
        lists:usort([Event || Repo <- Repos, is_atom(Repo),
                              #{telemetry := {_, _, Event}} <- [meta(Repo)], is_list(Event)])
    catch _:_ -> []
    end.

-spec meta(module()) -> term().
meta(Repo) ->
    try apply('Elixir.Ecto.Adapter', lookup_meta, [Repo])
    catch _:_ -> none
    end.

%% ---------------------------------------------------------------- the handler

-spec handle(event(), map(), map(), kind()) -> ok.
handle(Event, Measured, Metadata, Kind) ->
    try
        #{counts := Counts, used := Used} = persistent_term:get(?STATE),
        {Name, Failed} = named(Kind, lists:last(Event), Event, Metadata),
        count(Counts, slot(Kind, Name, Used), Failed, Measured)
    catch _:_ -> ok
    end.

-spec count(counters:counters_ref(), non_neg_integer(), boolean(), map()) -> ok.
count(Counts, Slot, Failed, Measured) ->
    Base = Slot * ?WIDTH,
    Us = us(duration(Measured)),
    ok = counters:add(Counts, Base + 1, 1),
    ok = case Failed of true -> counters:add(Counts, Base + 2, 1); false -> ok end,
    ok = counters:add(Counts, Base + 3, Us),
    ok = case us(maps:get(queue_time, Measured, 0)) of
             0 -> ok;
             Queue -> counters:add(Counts, Base + 4, Queue)
         end,
    counters:add(Counts, Base + 4 + range(Us div 1000), 1).

-spec duration(map()) -> term().
duration(#{duration := Duration}) -> Duration;
duration(#{query_time := Time}) -> Time;
duration(#{total_time := Time}) -> Time;
duration(_) -> 0.

-spec us(term()) -> non_neg_integer().
us(Native) when is_integer(Native), Native > 0 ->
    erlang:convert_time_unit(Native, native, microsecond);
us(_) ->
    0.

%% The bounds in ms are those of proxy/figures.py.
-spec range(integer()) -> 1..?RANGES.
range(Ms) when Ms < 5 -> 1;
range(Ms) when Ms < 10 -> 2;
range(Ms) when Ms < 25 -> 3;
range(Ms) when Ms < 50 -> 4;
range(Ms) when Ms < 100 -> 5;
range(Ms) when Ms < 250 -> 6;
range(Ms) when Ms < 500 -> 7;
range(Ms) when Ms < 1000 -> 8;
range(Ms) when Ms < 2500 -> 9;
range(Ms) when Ms < 5000 -> 10;
range(Ms) when Ms < 10000 -> 11;
range(_) -> 12.

%% The name under which an event counts, and whether what it reports failed.
-spec named(kind(), atom(), event(), map()) -> {name(), boolean()}.
named(route, stop, _, #{route := Route, conn := #{method := Method, status := Status}}) ->
    {[method(Method), Route], is_integer(Status) andalso Status >= 500};
named(route, exception, _, #{route := Route, conn := #{method := Method}} = Metadata) ->
    {[method(Method), Route], status(maps:get(reason, Metadata, none)) >= 500};
named(live, End, [_, _, handle_event, _], #{socket := #{view := View}} = Metadata) ->
    %% a client can send any name, and one that no clause takes is an exception
    Event = case End of stop -> maps:get(event, Metadata); exception -> <<"exception">> end,
    {[View, <<"handle_event">>, Event], End =:= exception};
named(live, End, [_, _, Callback, _], #{socket := #{view := View}}) ->
    {[View, Callback], End =:= exception};
named(query, _, _, #{repo := Repo} = Metadata) ->
    Source = case maps:get(source, Metadata, nil) of nil -> <<"(no table)">>; S -> S end,
    {[Repo, Source], case Metadata of #{result := {error, _}} -> true; _ -> false end};
named(job, End, _, #{worker := Worker, queue := Queue}) ->
    {[Worker, Queue], End =:= exception};
named(job, End, _, #{job := #{worker := Worker, queue := Queue}}) ->
    {[Worker, Queue], End =:= exception}.

-spec method(term()) -> binary().
method(Method) ->
    Known = [<<"GET">>, <<"POST">>, <<"PUT">>, <<"PATCH">>, <<"DELETE">>, <<"HEAD">>,
             <<"OPTIONS">>],
    case lists:member(Method, Known) of
        true -> Method;
        false -> <<"other">>
    end.

%% The status with which Plug answers an exception. Controllers and pipelines wrap it.
-spec status(term()) -> integer().
status(#{'__struct__' := 'Elixir.Plug.Conn.WrapperError', reason := Reason}) ->
    status(Reason);
status(Reason) ->
    try apply('Elixir.Plug.Exception', status, [Reason]) of
        Status when is_integer(Status) -> Status;
        _ -> 500
    catch _:_ -> 500
    end.

-spec slot(kind(), name(), atomics:atomics_ref()) -> non_neg_integer().
slot(Kind, Name, Used) ->
    case persistent_term:get({?MODULE, Kind, Name}, none) of
        none -> new_slot(Kind, Name, Used);
        Slot -> Slot
    end.

-spec new_slot(kind(), name(), atomics:atomics_ref()) -> non_neg_integer().
new_slot(Kind, Name, Used) ->
    Other = other(Kind),
    %% no scan for each event of an app with more names than slots
    case is_short(Name) andalso atomics:get(Used, Other) =:= 0 of
        true ->
            case taken(Used, hash(Name), Other - ?SLOTS + 1, Other) of
                Other ->
                    Other;
                Slot ->
                    persistent_term:put({?MODULE, Kind, [copied(Part) || Part <- Name]}, Slot),
                    Slot
            end;
        false ->
            Other
    end.

%% The slot that has the hash of a name, or the first free one, which gets it. Slots are not given
%% back, so all processes come to the same one. Nothing is locked: a process may be killed here.
-spec taken(atomics:atomics_ref(), pos_integer(), non_neg_integer(), non_neg_integer()) ->
          non_neg_integer().
taken(_, _, Other, Other) ->
    Other;
taken(Used, Hash, Slot, Other) ->
    case atomics:compare_exchange(Used, Slot + 1, 0, Hash) of
        ok -> Slot;
        Hash -> Slot;
        _ -> taken(Used, Hash, Slot + 1, Other)
    end.

%% Wide enough that no two of some names have the same.
-spec hash(name()) -> pos_integer().
hash(Name) -> erlang:phash2(Name, 1 bsl 31) bsl 31 + erlang:phash2([Name], 1 bsl 31) + 1.

-spec other(kind()) -> non_neg_integer().
other(Kind) -> index(Kind, ?KINDS, 1) * ?SLOTS - 1.

-spec index(kind(), [kind()], pos_integer()) -> pos_integer().
index(Kind, [Kind | _], N) -> N;
index(Kind, [_ | Kinds], N) -> index(Kind, Kinds, N + 1).

-spec is_short(name()) -> boolean().
is_short(Name) ->
    lists:all(fun(Part) ->
                  is_atom(Part) orelse is_binary(Part) andalso byte_size(Part) =< ?CHARACTERS
              end, Name).

%% A binary may be a part of a large one, which would stay as long.
-spec copied(binary() | atom()) -> binary() | atom().
copied(Part) when is_binary(Part) -> binary:copy(Part);
copied(Part) -> Part.

-spec text(atom() | binary()) -> binary().
text(Part) when is_atom(Part) ->
    case atom_to_binary(Part) of
        <<"Elixir.", Module/binary>> -> Module;
        Name -> Name
    end;
text(Part) when is_binary(Part) ->
    case unicode:characters_to_binary(Part) of
        Text when is_binary(Text) -> Text;
        _ -> <<"?">>
    end.
