%% Errors that a node logs while it is upgraded. Web servers, LiveViews and channels catch what
%% their code raises, log it and go on: no process exits, but a client sees a 500.
%%
%% A handler of logger's notes them, from some time before the swap on: what was logged before it
%% says nothing against the new code. It is bounded, and goes with the process that keeps the
%% notes.
-module(gatling_errors).

-export([listen/0, deaf/0, since/1]).
%% for logger
-export([log/2]).
-export([keep/1]).

-type found() :: {Reason :: term(), Stack :: [tuple()]} | none.

-define(NOTED, 500).
-define(FRAMES, 20).
-define(MINUTES, 15).
%% How deep, and among how many terms, a stack trace is looked for in what is logged.
-define(DEPTH, 3).
-define(WIDTH, 12).

%% Note errors from now on, until deaf/0, or for some minutes at most.
-spec listen() -> ok.
listen() ->
    deaf(),
    {Keeper, Ref} = spawn_monitor(?MODULE, keep, [self()]),
    receive
        {Keeper, ready} -> true = erlang:demonitor(Ref, [flush]), ok;
        {'DOWN', Ref, process, _, _} -> ok
    after 5000 -> true = erlang:demonitor(Ref, [flush]), ok
    end.

%% Note no more.
-spec deaf() -> ok.
deaf() ->
    _ = logger:remove_handler(?MODULE),
    case whereis(?MODULE) of
        undefined -> ok;
        Keeper ->
            Ref = erlang:monitor(process, Keeper),
            Keeper ! stop,
            receive {'DOWN', Ref, process, _, _} -> ok
            after 5000 -> true = erlang:demonitor(Ref, [flush]), ok
            end
    end.

-spec keep(pid()) -> ok.
keep(Parent) ->
    true = register(?MODULE, self()),
    ?MODULE = ets:new(?MODULE, [named_table, public, ordered_set, {write_concurrency, true}]),
    true = ets:insert(?MODULE, {noted, 0}),
    _ = logger:add_handler(?MODULE, ?MODULE,
                           #{level => error, filter_default => log, filters => []}),
    Parent ! {self(), ready},
    receive stop -> ok
    after timer:minutes(?MINUTES) -> ok
    end,
    _ = logger:remove_handler(?MODULE),
    ok.

%% In the process that logs. A handler that fails would be removed; what cannot be noted is not.
-spec log(logger:log_event(), map()) -> ok.
log(#{msg := Message, meta := Meta}, _) ->
    try ets:update_counter(?MODULE, noted, 1) of
        N when N =< ?NOTED ->
            case error_in(Meta, Message) of
                none -> ok;
                {Reason, Stack} ->
                    ets:insert(?MODULE, {N, erlang:monotonic_time(), maps:get(pid, Meta, self()),
                                         without_arguments(Reason, Stack)})
            end,
            ok;
        _ ->
            ok
    catch
        error:_ -> ok
    end.

-spec error_in(map(), term()) -> found().
error_in(#{crash_reason := {Reason, [_ | _] = Stack}}, _) -> {Reason, Stack};
error_in(_, {report, #{report := [Process | _]}}) when is_list(Process) ->
    case lists:keyfind(error_info, 1, Process) of
        {error_info, {_, Reason, [_ | _] = Stack}} -> {Reason, Stack};
        _ -> none
    end;
error_in(_, {report, #{reason := Reason}}) -> traced(Reason, ?DEPTH);
error_in(_, {report, _}) -> none;
error_in(_, {_, Arguments}) when is_list(Arguments) -> first(Arguments, ?DEPTH);
error_in(_, _) -> none.

%% The first term with a stack trace beside it, in what is logged with its reason or its
%% arguments. Only a beginning of it is looked at: it may hold all of a process's state.
-spec traced(term(), Depth :: non_neg_integer()) -> found().
traced({Reason, [{M, F, _, L} | _] = Stack}, _) when is_atom(M), is_atom(F), is_list(L) ->
    {Reason, Stack};
traced(_, 0) ->
    none;
traced(Term, Depth) when is_tuple(Term), tuple_size(Term) =< ?WIDTH ->
    first(tuple_to_list(Term), Depth);
traced(Term, Depth) when is_list(Term) ->
    first(Term, Depth);
traced(_, _) ->
    none.

-spec first(list(), Depth :: non_neg_integer()) -> found().
first(Terms, Depth) -> first(Terms, Depth, ?WIDTH).

%% Ranch gives the reason and the stack as two arguments.
-spec first(term(), Depth :: non_neg_integer(), Left :: non_neg_integer()) -> found().
first([Reason, [{M, F, _, L} | _] = Stack | _], _, _) when is_atom(M), is_atom(F), is_list(L) ->
    {Reason, Stack};
first([Term | Rest], Depth, Left) when Left > 0 ->
    case traced(Term, Depth - 1) of
        none -> first(Rest, Depth, Left - 1);
        Found -> Found
    end;
first(_, _, _) -> none.

%% Arguments may be large, and anybody's secrets.
-spec without_arguments(Reason :: term(), [tuple()]) -> {What :: binary(), [module()]}.
without_arguments(Reason, Stack) ->
    Short = [{M, F, if is_list(A) -> length(A); true -> A end, L}
             || {M, F, A, L} <- lists:sublist(Stack, ?FRAMES)],
    {gatling_why:why({Reason, Short}), [M || {M, _, _, _} <- Short]}.

%% Errors that were logged since then (erlang:monotonic_time/0), and not before: [{Process, What,
%% Modules}].
-spec since(integer()) -> [{pid(), What :: binary(), [module()]}].
since(Time) ->
    Noted = try ets:tab2list(?MODULE) catch error:badarg -> [] end,
    Before = maps:from_list([{What, true} || {_, At, _, {What, _}} <- Noted, At < Time]),
    lists:usort([{P, What, Modules} || {_, At, P, {What, Modules}} <- Noted, At >= Time,
                                       not is_map_key(What, Before)]).
