%% Changes the code of the running node, all or nothing. Loaded into the node by Gatling.
%%
%% The order of a swap: announce it (gatling_guard) · check that the node runs what it should ·
%% wait until the processes have left that execute code which calls what will be gone · load what
%% is added and start added applications · hold new requests until nobody executes such code ·
%% suspend the processes whose callback modules change · keep each one's state aside, in its own
%% dictionary · freeze the others, if there is such code or if there are new children, and look
%% whether one executes such code · see that the asking process is still there · switch all code at
%% once · code_change, and beside it the code path follows and new children are started · resume. A
%% failure until then is undone with the states that were kept. A failure of the later steps
%% (children that go or are replaced, config_change, applications that go) is reported, and undone
%% by a swap back.
%%
%% A swap of several nodes waits for the others at three points, see gatling_together.
%%
%% A request is that of gatling_agent:inspect/1 and also has label, from, now_ms, asker (a process
%% of Gatling or of a test), suspend_ms and insist (see when_quiet/2).
%%
%% Steps throw {Stage, What}. A step that raises in any other way is taken back like one that
%% throws.
-module(gatling_swap).

-export([swap/1]).

%% Requests under way get this long to leave code that calls what will be gone, while new ones wait.
-define(EMPTY_MS, 800).

-type report() :: #{processes := non_neg_integer(),
                    migrated := [{module(), pos_integer()}],
                    suspended_us := non_neg_integer(),
                    held_us := non_neg_integer(),
                    watcher := pid(),
                    failed := gatling_types:failed(),
                    total_us => non_neg_integer()}.
-type prepared() :: code:prepared_code().
-type switched() :: #{watcher := pid(),
                      env := gatling_types:env(),
                      beside := gatling_beside:started(),
                      failed => {{failed, failure()}, gatling_beside:started()},
                      held_us := non_neg_integer(),
                      processes => gatling_types:suspended(),
                      suspended_us => non_neg_integer()}.
%% Requests that cannot begin, since when (in microseconds).
-type held() :: {gatling_freeze:frozen(), Since :: integer()}.

-type state() :: untouched | restored | broken.
%% untouched: nothing was changed · restored: all of it was taken back · broken: the node has to
%% be replaced.
-type failure() :: {state(), Stage :: atom(), What :: term()}.

-spec swap(gatling_types:request()) ->
          {ok, report()}
        | {error, Stage :: atom(), What :: term(), state()}
        | {busy, gatling_guard:announcement()}.
swap(Request) ->
    case gatling_guard:announce(Request) of
        {busy, _} = Busy ->
            Busy;
        ok ->
            Begun = erlang:monotonic_time(microsecond),
            Result = try {ok, carried_out(Request)}
                     catch Class:What:Stack -> failure(Class, What, Stack)
                     end,
            case Result of
                {ok, Report} ->
                    gatling_guard:done(ok),
                    {ok, Report#{total_us => erlang:monotonic_time(microsecond) - Begun}};
                {State, Stage, Why} ->
                    gatling_guard:done(State),
                    {error, Stage, Why, State}
            end
    end.

-spec carried_out(gatling_types:request()) -> report().
carried_out(Request) ->
    {Changes, Prepared, Quiet} =
        try
            Ready = ready(Request),
            gatling_together:agree(prepared),
            Ready
        catch C:W:S -> throw({failed, setelement(1, failure(C, W, S), untouched)})
        end,
    gatling_guard:touching(),
    Switched = undone_by(fun() ->
                                 gatling_added:load(Changes),
                                 gatling_added:start(Changes),
                                 move(to, Changes),
                                 critical_soon(Quiet, Request, Prepared)
                         end,
                         fun() ->
                                 move(from, Changes),
                                 gatling_added:unload(Changes)
                         end),
    note(Request),
    report(Switched, Changes).

%% Everything that can be found out before anything is touched.
-spec ready(gatling_types:request()) ->
          {gatling_types:changes(), prepared(), Quiet :: gatling_types:changes()}.
ready(Request) ->
    Changes = #{changed := Changed, added := Added} = gatling_agent:changes(Request),
    none(drift, gatling_code:drift(Changed, Added)),
    none(lingering, gatling_code:purge([M || {M, _, _} <- Changed] ++ [M || {M, _} <- Added])),
    Prepared = gatling_code:prepare([{M, New} || {M, _, New} <- Changed]),
    {Changes, Prepared, when_quiet(Changes, Request)}.

%% The report of the swap. The code has been switched: an error from now on is only reported.
-spec report(switched(), gatling_types:changes()) -> report().
report(#{processes := Processes, suspended_us := Suspended, held_us := Held, watcher := Watcher,
         env := EnvBefore, beside := Beside}, Changes) ->
    Failed = gatling_beside:ended(Beside),
    Later = try afterwards(Changes, EnvBefore)
            catch Class:What:Stack ->
                    {_, _, Why} = failure(Class, What, Stack),
                    [{<<"after the switch">>, Why}]
            end,
    #{processes => length(Processes),
      migrated => gatling_processes:count([M || {_, Ms} <- Processes, M <- Ms]),
      suspended_us => case Processes of [] -> 0; _ -> Suspended end,
      held_us => Held,
      watcher => Watcher,
      failed => Failed ++ Later}.

%% ---------------------------------------------------------------- failures

%% The description of a raised term. Of one that no step throws only the kind and the place: it may
%% hold anything.
-spec failure(atom(), term(), list()) -> failure().
failure(throw, {failed, Failure}, _) -> Failure;
failure(throw, {Stage, What}, _) when is_atom(Stage) -> {restored, Stage, What};
failure(_, What, Stack) -> {restored, internal, gatling_why:why({What, Stack})}.

%% `Do`; when it raises, in whatever way, `Undo` first.
-spec undone_by(fun(() -> Result), fun(() -> term())) -> Result.
undone_by(Do, Undo) ->
    try Do()
    catch Class:What:Stack ->
            _ = try Undo()
                catch C:W:S -> broken(failure(Class, What, Stack), failure(C, W, S))
                end,
            erlang:raise(Class, What, Stack)
    end.

%% Taking back has failed as well.
-spec broken(failure(), failure()) -> no_return().
broken({_, Stage, What}, {_, _, Why}) -> throw({failed, {broken, Stage, [What, Why]}}).

%% ---------------------------------------------------------------- before anything is touched

-spec none(Stage :: atom(), Found :: list()) -> ok.
none(_, []) -> ok;
none(Stage, Found) -> throw({Stage, Found}).

%% ---------------------------------------------------------------- the critical section

%% When the processes have left that execute code which calls what will be gone. `insist`: go on
%% when the time is up, since there is worse than a failed request; nobody is looked for any more
%% then.
-spec when_quiet(gatling_types:changes(), gatling_types:request()) -> gatling_types:changes().
when_quiet(#{callers := Callers} = Changes, #{insist := Insist} = Request) ->
    try
        gatling_calls:await(Callers, deadline(Request)),
        Changes
    catch
        throw:{calls, _} when Insist -> Changes#{callers := []}
    end.

%% Wait once more for critical work that began since then, or during the suspension of others.
-spec critical_soon(gatling_types:changes(), gatling_types:request(), prepared()) -> switched().
critical_soon(Changes, #{insist := Insist} = Request, Prepared) ->
    Deadline = deadline(Request),
    try critical_until(Deadline, Changes, Request, Prepared)
    catch throw:{calls, _} when Insist -> critical(Changes#{callers := []}, Request, Prepared)
    end.

%% New requests are held only when those that are under way may be expected to end soon.
-spec critical_until(Deadline :: integer(), gatling_types:changes(), gatling_types:request(),
                     prepared()) ->
          switched().
critical_until(Deadline, #{callers := Callers} = Changes, Request, Prepared) ->
    gatling_calls:await(Callers, Deadline),
    Held = held(Changes, Request),
    Tried = try
                gatling_calls:empty(Callers, erlang:monotonic_time(millisecond) + ?EMPTY_MS),
                critical(Changes, Request, Prepared, Held)
            catch throw:{calls, Busy} -> {busy, Busy}
            after
                released(Held)
            end,
    case Tried of
        {busy, Still} ->
            erlang:monotonic_time(millisecond) < Deadline orelse throw({calls, Still}),
            critical_until(Deadline, Changes, Request, Prepared);
        Switched ->
            Switched
    end.

-spec held(gatling_types:changes(), gatling_types:request()) -> held().
held(#{callers := []}, _) ->
    {none, 0};
held(#{callers := Callers} = Changes, #{asker := Asker}) ->
    Converted = gatling_processes:affected(erlang:processes(), gatling_agent:callbacks(Changes)),
    Since = erlang:monotonic_time(microsecond),
    {gatling_freeze:doors(Callers, [Asker], [P || {P, _} <- Converted]), Since}.

%% The microseconds for which they were held.
-spec released(held()) -> non_neg_integer().
released({none, _}) ->
    0;
released({Frozen, Since}) ->
    gatling_freeze:thaw(Frozen),
    erlang:monotonic_time(microsecond) - Since.

-spec deadline(gatling_types:request()) -> integer().
deadline(#{suspend_ms := Timeout}) -> erlang:monotonic_time(millisecond) + Timeout.

-spec critical(gatling_types:changes(), gatling_types:request(), prepared()) -> switched().
critical(Changes, Request, Prepared) -> critical(Changes, Request, Prepared, {none, 0}).

-spec critical(gatling_types:changes(), gatling_types:request(), prepared(), held()) ->
          switched().
critical(Changes, Request, Prepared, Held) ->
    Known = erlang:processes(),
    Begun = erlang:monotonic_time(microsecond),
    Processes = suspended(Known, gatling_agent:callbacks(Changes), maps:get(suspend_ms, Request)),
    Resume = fun() -> gatling_sys:resume(Processes) end,
    Switched = undone_by(
                 fun() ->
                         Watcher = gatling_watch:start(Processes, Known, touched(Changes)),
                         Switch = fun() ->
                                          switch(Processes, Watcher, Changes, Request, Prepared,
                                                 Held)
                                  end,
                         undone_by(Switch, fun() -> Watcher ! stop end)
                 end, Resume),
    Resume(),
    case Switched of
        #{failed := {Failure, Beside}} ->
            %% what was started beside may have waited for a process that was suspended
            undone_by(fun() -> throw(Failure) end,
                      fun() -> gatling_beside:stop(Changes, Beside) end);
        _ ->
            Switched#{processes => Processes,
                      suspended_us => erlang:monotonic_time(microsecond) - Begun}
    end.

%% All processes that are to be converted, suspended; or none.
-spec suspended([pid()], gatling_types:callbacks(), non_neg_integer()) ->
          gatling_types:suspended().
suspended(Known, Callbacks, Timeout) ->
    First = gatling_processes:affected(Known, Callbacks),
    gatling_sys:suspend(First, Timeout),
    undone_by(fun() -> First ++ gatling_sys:late(Known, Callbacks, First, Timeout) end,
              fun() -> gatling_sys:resume(First) end).

%% Everything that happens while they are suspended.
-spec switch(gatling_types:suspended(), Watcher :: pid(), gatling_types:changes(),
             gatling_types:request(), prepared(), held()) ->
          switched().
switch(Processes, Watcher, Changes, #{direction := Direction} = Request, Prepared, Held) ->
    Callbacks = gatling_agent:callbacks(Changes),
    EnvBefore = application_controller:prep_config_change(),
    gatling_sys:stash(Processes, Watcher),
    Restore = fun() -> restore(Processes, Changes, EnvBefore) end,
    Frozen = undone_by(
      fun() ->
              Direction =:= down andalso gatling_sys:convert(Processes, Callbacks, down),
              gatling_config:set(maps:get(env_set, Changes), maps:get(env_delete, Changes)),
              frozen(Processes, Watcher, Changes, Request,
                     fun() ->
                             Callers = maps:get(callers, Changes),
                             none(calls, gatling_calls:last_look(Callers)),
                             gatling_together:agree(suspended),
                             %% others may have taken longer than processes stay frozen
                             none(calls, gatling_calls:last_look(Callers)),
                             gatling_guard:commit(),
                             finish(Prepared)
                     end)
      end, Restore),
    %% new code may ask for a new child at once, and a new child for what is suspended
    Beside = gatling_beside:start(Changes, Frozen),
    Switched = #{watcher => Watcher, env => EnvBefore, beside => Beside,
                 held_us => released(Held)},
    try
        Convert = fun() ->
                          Direction =:= up andalso gatling_sys:convert(Processes, Callbacks, up),
                          gatling_together:agree(switched)
                  end,
        %% a process that is frozen in the new code cannot leave it
        _ = undone_by(Convert, fun() -> gatling_freeze:thaw(Frozen), Restore() end),
        Switched
    catch Class:What:Stack ->
            Watcher ! stop,
            Switched#{failed => {{failed, failure(Class, What, Stack)}, Beside}}
    end.

%% `Do` while the other processes of the applications are frozen. If the new code may call children
%% that do not run yet, they stay so until these have been started, see gatling_freeze.
-spec frozen(gatling_types:suspended(), Watcher :: pid(), gatling_types:changes(),
             gatling_types:request(), Do :: fun(() -> ok)) ->
          gatling_freeze:frozen().
frozen(Processes, Watcher, #{children := Children, callers := Callers}, #{asker := Asker}, Do) ->
    Paths = [Path || {Path, [_ | _], []} <- Children],
    Frozen = case {Paths, Callers} of
                 {[], []} -> none;
                 _ -> gatling_freeze:start(Paths, [Asker, Watcher], [P || {P, _} <- Processes])
             end,
    Thaw = fun() -> gatling_freeze:thaw(Frozen) end,
    _ = undone_by(Do, Thaw),
    case Paths of
        [] -> Thaw(), none;
        _ -> Frozen
    end.

%% Modules whose code is another one after the swap, or is there at all, or is not.
-spec touched(gatling_types:changes()) -> [module()].
touched(#{changed := Changed, added := Added, removed := Removed}) ->
    [M || {M, _, _} <- Changed] ++ [M || {M, _} <- Added] ++ Removed.

-spec finish(prepared()) -> ok.
finish(Prepared) ->
    case code:finish_loading(Prepared) of
        ok -> ok;
        {error, Reasons} -> throw({load, gatling_text:term(Reasons)})
    end.

%% Back to the old code, with the states that were kept. If a process is executing the old
%% code, that cannot be loaded again: then the states stay converted as far as they are, and the
%% node has to be replaced.
-spec restore(gatling_types:suspended(), gatling_types:changes(), gatling_types:env()) -> ok.
restore(Processes, #{changed := Changed} = Changes, EnvBefore) ->
    gatling_config:take_back(Changes, EnvBefore),
    Loaded = [{M, Old} || {M, Old, _} <- Changed, erlang:module_loaded(M),
                          M:module_info(md5) =/= gatling_release:md5(Old)],
    case gatling_code:purge([M || {M, _} <- Loaded]) of
        [] ->
            Contents = [{M, F, gatling_code:content(F)} || {M, F} <- Loaded],
            Loaded =:= [] orelse (ok = code:atomic_load(Contents)),
            gatling_sys:take_back(Processes);
        Busy ->
            gatling_sys:unstash(Processes),
            throw({lingering, Busy})
    end.

%% ---------------------------------------------------------------- what follows

%% Gives what failed, as [{What, Why}].
-spec afterwards(gatling_types:changes(), gatling_types:env()) -> gatling_types:failed().
afterwards(#{removed := Removed, children := Children} = Changes, EnvBefore) ->
    Failed = lists:append([gatling_children:change(C) || {_, _, [_ | _]} = C <- Children]),
    Told = gatling_config:tell(Changes, EnvBefore),
    %% nobody needs these any more: what used them has just been changed
    gatling_added:stop(maps:get(apps_removed, Changes)),
    lists:foreach(fun gatling_code:remove/1, Removed),
    Failed ++ Told.

%% The directories of the applications that change, before their code does: what a new child reads
%% of its priv must be there when it starts.
-spec move(from | to, gatling_types:changes()) -> ok.
move(Where, #{touched := Touched} = Changes) ->
    #{apps := Apps} = maps:get(Where, Changes),
    gatling_code:move([A || #{name := Name} = A <- Apps, lists:member(Name, Touched)]).

-spec note(gatling_types:request()) -> ok.
note(#{label := Label, from := From, now_ms := Now}) ->
    case length(gatling_agent:chain_of(1)) of
        0 ->
            record(1, {From, undefined}),
            record(2, {Label, Now});
        Length ->
            record(Length + 1, {Label, Now})
    end.

%% Each in a term of its own: to change one would make the emulator check all processes.
-spec record(pos_integer(), {binary(), integer() | undefined}) -> ok.
record(Number, Release) -> persistent_term:put({gatling, chain, Number}, Release).
