%% Counts in a node the events that the app's libraries report over :telemetry: requests by route,
%% LiveView events, queries, jobs. Loaded into the node by Gatling, without its other modules.
%%
%% The handlers are external functions, so a hot upgrade leaves them alone. No process is started.
%% Counts are in one array of fixed size, and a persistent term for each name has its slot. Each
%% kind has a number of slots, and what comes later is counted as `other`. A process that needs a
%% slot for a new name takes the first free one by writing the name's hash there. Others that report
%% the same name at that moment, as the jobs of a queue do after a boot, find the hash and count in
%% that slot. Nothing of a request is kept but the route, and of a query but the table.
%%
%% A handler that fails would be detached by telemetry, with a line in the app's log. So none does.
%%
%% Between two events a request runs so much other code that most of what an event touches is no
%% longer in the processor's caches. So an event of a known name touches little: one persistent
%% term, and one cache line of counts.
-module(gatling_telemetry).

-export([attach/0, detach/0, read/0]).
-export([handle/4]).

%% A slot: microseconds, microseconds in a queue, failures, and events in twelve ranges of duration.
%% Eight counts are a cache line of a scheduler, so a slot begins with those that are most used.
-define(WIDTH, 16).
-define(US, 1).
-define(QUEUE_US, 2).
-define(FAILED, 3).
-define(RANGES, 12).
%% Names of each kind; the last is for all others.
-define(SLOTS, 64).
-define(KINDS, [route, live, query, job]).
-define(CHARACTERS, 200).
%% To be raised when the meaning of the array changes.
-define(VERSION, 3).
-define(STATE, {?MODULE, state}).

-type kind() :: route | live | query | job.
-type name() :: [atom() | binary()].
-type state() :: #{version := pos_integer(),
                   since := integer(),
                   counts := counters:counters_ref(),
                   used := atomics:atomics_ref()}.
%% The array, the place before its first count there, and a microsecond in the unit of durations.
-type slot() :: {counters:counters_ref(), Base :: non_neg_integer(), pos_integer()}.
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
            Named = [row(Kind, Name, Slot) || {{?MODULE, Kind, Name}, Slot} <- terms()],
            Others = [row(Kind, [<<"other">>], slot(Counts, other(Kind))) || Kind <- ?KINDS],
            {Since, [Row || #{count := N} = Row <- Named ++ Others, N > 0]};
        _ ->
            none
    end.

-spec row(kind(), term(), slot()) -> row().
row(Kind, Name, {Counts, Base, _}) ->
    [Us, QueueUs, Failed | Ranges] =
        [counters:get(Counts, Base + N) || N <- lists:seq(1, ?FAILED + ?RANGES)],
    #{kind => Kind, name => [text(Part) || Part <- Name], count => lists:sum(Ranges),
      failed => Failed, us => Us, queue_us => QueueUs, ranges => Ranges}.

-spec terms() -> [{{?MODULE, kind(), name()}, slot()}].
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
        {Name, Failed} = named(Kind, Event, Metadata),
        Slot = case persistent_term:get({?MODULE, Kind, Name}, none) of
                   none -> unknown(Kind, Name);
                   Known -> Known
               end,
        count(Slot, Failed, Measured)
    catch _:_ -> ok
    end.

-spec count(slot(), boolean(), map()) -> ok.
count({Counts, Base, Unit}, Failed, Measured) ->
    Us = us(duration(Measured), Unit),
    ok = counters:add(Counts, Base + ?FAILED + range(Us), 1),
    ok = counters:add(Counts, Base + ?US, Us),
    ok = case Failed of
             true -> counters:add(Counts, Base + ?FAILED, 1);
             false -> ok
         end,
    case Measured of
        #{queue_time := Queue} -> counters:add(Counts, Base + ?QUEUE_US, us(Queue, Unit));
        _ -> ok
    end.

-spec duration(map()) -> term().
duration(#{duration := Duration}) -> Duration;
duration(#{query_time := Time}) -> Time;
duration(#{total_time := Time}) -> Time;
duration(_) -> 0.

-spec us(term(), pos_integer()) -> non_neg_integer().
us(Native, Unit) when is_integer(Native), Native > 0 -> Native div Unit;
us(_, _) -> 0.

%% The bounds are those of proxy/figures.py.
-spec range(integer()) -> 1..?RANGES.
range(Us) when Us < 5_000 -> 1;
range(Us) when Us < 10_000 -> 2;
range(Us) when Us < 25_000 -> 3;
range(Us) when Us < 50_000 -> 4;
range(Us) when Us < 100_000 -> 5;
range(Us) when Us < 250_000 -> 6;
range(Us) when Us < 500_000 -> 7;
range(Us) when Us < 1_000_000 -> 8;
range(Us) when Us < 2_500_000 -> 9;
range(Us) when Us < 5_000_000 -> 10;
range(Us) when Us < 10_000_000 -> 11;
range(_) -> 12.

%% The name under which an event counts, and whether what it reports failed.
-spec named(kind(), event(), map()) -> {name(), boolean()}.
named(route, [_, _, stop], #{route := Route, conn := #{method := Method, status := Status}}) ->
    {[Method, Route], is_integer(Status) andalso Status >= 500};
named(route, [_, _, exception], #{route := Route, conn := #{method := Method}} = Metadata) ->
    {[Method, Route], status(maps:get(reason, Metadata, none)) >= 500};
named(live, [_, _, handle_event, End], #{socket := #{view := View}} = Metadata) ->
    %% a client can send any name, and one that no clause takes is an exception
    Event = case End of stop -> maps:get(event, Metadata); exception -> <<"exception">> end,
    {[View, <<"handle_event">>, Event], End =:= exception};
named(live, [_, _, Callback, End], #{socket := #{view := View}}) ->
    {[View, Callback], End =:= exception};
named(query, _, #{repo := Repo} = Metadata) ->
    Source = case Metadata of
                 #{source := nil} -> <<"(no table)">>;
                 #{source := Table} -> Table;
                 _ -> <<"(no table)">>
             end,
    {[Repo, Source], case Metadata of #{result := {error, _}} -> true; _ -> false end};
named(job, [_, _, End], #{worker := Worker, queue := Queue}) ->
    {[Worker, Queue], End =:= exception};
named(job, [_, _, End], #{job := #{worker := Worker, queue := Queue}}) ->
    {[Worker, Queue], End =:= exception}.

%% A client can send any method. The known ones have no other name, so their requests do not come
%% here once they have a slot.
-spec allowed(kind(), name()) -> name().
allowed(route, [Method, Route]) -> [method(Method), Route];
allowed(_, Name) -> Name.

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

%% The slot of a name that has none yet, or that gets none.
-spec unknown(kind(), name()) -> slot().
unknown(Kind, Given) ->
    #{counts := Counts, used := Used} = persistent_term:get(?STATE),
    Name = allowed(Kind, Given),
    case persistent_term:get({?MODULE, Kind, Name}, none) of
        none -> slot(Counts, number(Kind, Name, Counts, Used));
        Slot -> Slot
    end.

-spec number(kind(), name(), counters:counters_ref(), atomics:atomics_ref()) ->
          non_neg_integer().
number(Kind, Name, Counts, Used) ->
    Other = other(Kind),
    %% no scan for each event of an app with more names than slots
    case is_short(Name) andalso atomics:get(Used, Other) =:= 0 of
        true ->
            case taken(Used, hash(Name), Other - ?SLOTS + 1, Other) of
                Other ->
                    Other;
                Number ->
                    Key = {?MODULE, Kind, [copied(Part) || Part <- Name]},
                    persistent_term:put(Key, slot(Counts, Number)),
                    Number
            end;
        false ->
            Other
    end.

-spec slot(counters:counters_ref(), non_neg_integer()) -> slot().
slot(Counts, Number) ->
    {Counts, Number * ?WIDTH, max(1, erlang:convert_time_unit(1, microsecond, native))}.

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
