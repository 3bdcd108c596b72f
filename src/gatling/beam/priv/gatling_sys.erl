%% System messages, sys(3), to many processes at once: suspending them, keeping and converting
%% their states, looking into those. Twenty thousand processes are suspended in the time that the
%% slowest takes.
-module(gatling_sys).

-export([suspend/2, late/4, resume/1, stash/2, take_back/1, unstash/1, convert/3, look_into/1,
         look_into/2]).

-type timeout_ms() :: non_neg_integer().


-define(STASH, '$gatling_stash').
-define(COPY_BYTES, 1048576).
-define(COPIES_BYTES, 67108864).

%% Processes that were started while the first ones were being suspended, suspended as well.
-spec late(Known :: [pid()], gatling_types:callbacks(), gatling_types:suspended(),
           timeout_ms()) ->
          gatling_types:suspended().
late(Known, Callbacks, Before, Timeout) -> late(Known, Callbacks, Before, Timeout, 5).

-spec late(Known :: [pid()], gatling_types:callbacks(), gatling_types:suspended(), timeout_ms(),
           Rounds :: non_neg_integer()) ->
          gatling_types:suspended().
late(_, _, _, _, 0) ->
    [];
late(Known, Callbacks, Before, Timeout, Rounds) ->
    Now = erlang:processes(),
    case gatling_processes:affected(Now -- Known, Callbacks) of
        [] ->
            [];
        Found ->
            try suspend(Found, Timeout)
            catch throw:Failure -> resume(Before), throw(Failure)
            end,
            Found ++ late(Now, Callbacks, Before ++ Found, Timeout, Rounds - 1)
    end.

%% Suspend all of them, or none: throws {suspend, Who} when some do not answer in time.
-spec suspend(gatling_types:suspended(), timeout_ms()) -> ok.
suspend(Processes, Timeout) ->
    gatling_guard:suspending([P || {P, _} <- Processes]),
    {_, Silent} = ask([{P, suspend} || {P, _} <- Processes], Timeout),
    case Silent of
        [] ->
            ok;
        _ ->
            %% the request to suspend is still in their mailboxes, so the one to resume must
            %% follow
            resume(Processes),
            throw({suspend, gatling_text:some([{P, <<"does not answer">>} || P <- Silent])})
    end.

-spec resume(gatling_types:suspended()) -> ok.
resume(Processes) ->
    _ = ask([{P, resume} || {P, _} <- Processes], 5000),
    ok.

%% The state is kept in the process itself: nothing is copied. To throw leaves the state alone and
%% makes the answer small (sys:replace_state/2 answers with the whole state otherwise). A handler
%% of gen_event comes as {Module, Id, State}, and a process may have several.
-spec stash(gatling_types:suspended(), Watcher :: pid()) -> ok.
stash(Processes, Watcher) ->
    Budget = min(?COPY_BYTES, ?COPIES_BYTES div max(1, length(Processes))),
    Keep = fun(State) ->
                   copy(Watcher, State, Budget),
                   _ = case State of
                           {M, Id, _} -> put({?STASH, M, Id}, {kept, State});
                           _ -> ok
                       end,
                   put(?STASH, {kept, State}),
                   throw(kept)
           end,
    _ = ask([{P, {replace_state, Keep}} || {P, _} <- Processes], 30000),
    ok.

%% A process with a name and little state has a copy of it kept elsewhere, too: when it crashes in
%% the new code, the process that takes its place in the old code gets it back.
-spec copy(Watcher :: pid(), State :: term(), Bytes :: non_neg_integer()) -> ok.
copy(Watcher, State, Budget) ->
    case {process_info(self(), registered_name), process_info(self(), total_heap_size)} of
        {{registered_name, Name}, {total_heap_size, Words}} ->
            case Words * erlang:system_info(wordsize) =< Budget of
                true ->
                    Watcher ! {copy, self(), Name, State},
                    ok;
                false ->
                    ok
            end;
        _ ->
            ok
    end.

%% Give back the states that were kept.
-spec take_back(gatling_types:suspended()) -> ok.
take_back(Processes) ->
    Back = fun({M, Id, _} = State) ->
                   case get({?STASH, M, Id}) of
                       {kept, Kept} -> Kept;
                       undefined -> kept(State)
                   end;
              (State) ->
                   kept(State)
           end,
    _ = ask([{P, {replace_state, Back}} || {P, _} <- Processes], 30000),
    unstash(Processes).

-spec kept(State) -> State | term().
kept(State) ->
    case get(?STASH) of
        {kept, Kept} -> Kept;
        undefined -> State
    end.

%% Forget the states that were kept.
-spec unstash(gatling_types:suspended()) -> ok.
unstash(Processes) ->
    Drop = fun(_) ->
                   _ = [erase(K) || {K, _} <- get(), K =:= ?STASH
                                    orelse (is_tuple(K) andalso element(1, K) =:= ?STASH)],
                   throw(dropped)
           end,
    _ = ask([{P, {replace_state, Drop}} || {P, _} <- Processes, is_process_alive(P)], 5000),
    ok.

%% code_change in each; throws {code_change, Texts}.
-spec convert(gatling_types:suspended(), gatling_types:callbacks(), up | down) -> ok.
convert(Processes, Callbacks, Direction) ->
    Requests = [{P, {change_code, M, version(maps:get(M, Callbacks), Direction), []}}
                || {P, Ms} <- Processes, M <- Ms],
    {Answers, Silent} = ask(Requests, 30000),
    Failed = [{P, gatling_why:why(Reason)} || {P, {error, Reason}} <- Answers]
        ++ [{P, <<"no answer within 30 s">>} || P <- Silent],
    Failed =:= [] orelse throw({code_change, gatling_text:some(Failed)}),
    ok.

-spec version({Old :: term(), New :: term()}, up | down) -> term().
version({Old, _}, up) -> Old;
version({_, New}, down) -> {down, New}.

%% The findings of a function in the states of all processes that understand sys(3) for certain, as
%% [{Process, Found}] where Found is not []. It runs in each process: nothing is copied.
-spec look_into(fun((State :: term()) -> [Found])) -> [{pid(), [Found]}].
look_into(Fun) ->
    look_into(Fun, [P || P <- erlang:processes(), P =/= self(), gatling_processes:is_generic(P)]).

-spec look_into(fun((State :: term()) -> [Found]), [pid()]) -> [{pid(), [Found]}].
look_into(Fun, Processes) ->
    Look = fun(State) -> throw({found, Fun(State)}) end,
    {Answers, _} = ask([{P, {replace_state, Look}} || P <- Processes], 2000),
    [{P, Found} || {P, {error, Why}} <- Answers, [_ | _] = Found <- [found(Why)]].

-spec found(term()) -> term().
found({callback_failed, _, {throw, {found, Found}}}) -> Found;
found({throw, {found, Found}}) -> Found;
found(_) -> [].

%% Send a system message to each of many processes at once, then take the answers. Processes that
%% exited need none. Gives the answers, and who did not answer in time.
-spec ask([{pid(), Request :: term()}], timeout_ms()) ->
          {[{pid(), Answer :: term()}], Silent :: [pid()]}.
ask(Requests, Timeout) ->
    Pending = maps:from_list(
                [begin
                     Ref = erlang:monitor(process, P),
                     P ! {system, {self(), Ref}, Request},
                     {Ref, P}
                 end || {P, Request} <- Requests]),
    Timer = erlang:start_timer(Timeout, self(), ask),
    Result = answers(Pending, Timer, []),
    _ = erlang:cancel_timer(Timer),
    receive {timeout, Timer, _} -> ok after 0 -> ok end,
    Result.

-spec answers(#{reference() => pid()}, reference(), [{pid(), term()}]) ->
          {[{pid(), Answer :: term()}], Silent :: [pid()]}.
answers(Pending, _, Answers) when map_size(Pending) =:= 0 ->
    {Answers, []};
answers(Pending, Timer, Answers) ->
    receive
        {Ref, Answer} when is_map_key(Ref, Pending) ->
            true = erlang:demonitor(Ref, [flush]),
            {P, Rest} = maps:take(Ref, Pending),
            answers(Rest, Timer, [{P, Answer} | Answers]);
        {'DOWN', Ref, process, _, _} when is_map_key(Ref, Pending) ->
            answers(maps:remove(Ref, Pending), Timer, Answers);
        {timeout, Timer, _} ->
            _ = [erlang:demonitor(Ref, [flush]) || Ref <- maps:keys(Pending)],
            {Answers, maps:values(Pending)}
    end.
