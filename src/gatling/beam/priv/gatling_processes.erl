%% The processes whose callback modules change: finding, suspending, converting and watching them.
%%
%% Speaks sys(3)'s messages itself, to all of them at once: twenty thousand processes are suspended in
%% the time that the slowest takes.
-module(gatling_processes).

-export([affected/2, suspend/2, late/4, resume/1, stash/2, unstash/1, convert/3, take_back/1,
         watch_from/3, await_watch/2, restore_crashed/1, look_into/1, look_into/2, is_looping/1, running/1,
         describe/1, name/1, memory/1, count/1, text/1]).
-export([watch/5]).

-define(STASH, '$gatling_stash').
%% Processes that are named when many fail for the same reason.
-define(TOLD, 3).
-define(COPY_BYTES, 1048576).
-define(COPIES_BYTES, 67108864).

affected(_, Callbacks) when map_size(Callbacks) =:= 0 ->
    [];
affected(Pids, Callbacks) ->
    lists:filtermap(
      fun(P) when P =:= self() -> false;
         (P) ->
              case [M || M <- callback_modules(P), is_map_key(M, Callbacks)] of
                  [] -> false;
                  Modules -> {true, {P, Modules}}
              end
      end, Pids).

%% The callback modules of a process that understands system messages, sys(3).
callback_modules(P) ->
    case process_info(P, dictionary) of
        {dictionary, Dictionary} ->
            case lists:keyfind('$initial_call', 1, Dictionary) of
                {_, {supervisor, M, _}} -> [M];
                {_, {gen_event, init_it, _}} -> handlers(P);
                {_, {M, init, _}} -> [M];
                {_, {M, join, 3}} -> [M]; % a Phoenix channel
                _ -> []
            end;
        undefined ->
            []
    end.

handlers(P) ->
    try gen_event:which_handlers(P) of
        Handlers -> lists:usort([case H of {M, _} -> M; M -> M end || H <- Handlers])
    catch
        exit:_ -> []
    end.

%% Processes of these modules: by their callbacks, or in the midst of a function.
running([]) ->
    [];
running(Modules) ->
    Of = fun(P) -> lists:usort(callback_modules(P) ++ gatling_calls:stack(P)) end,
    gatling_calls:with_whole_stacks(
      fun() -> [{P, Ms} || P <- erlang:processes(), P =/= self(),
                           Ms <- [[M || M <- Of(P), lists:member(M, Modules)]], Ms =/= []] end).

%% What a function finds in the states of all processes that understand sys(3) for certain, as
%% [{Process, Found}] where it is not []. It runs in each process: nothing is copied.
look_into(Fun) -> look_into(Fun, [P || P <- erlang:processes(), P =/= self(), is_generic(P)]).

look_into(Fun, Processes) ->
    Look = fun(State) -> throw({found, Fun(State)}) end,
    {Answers, _} = ask([{P, {replace_state, Look}} || P <- Processes], 2000),
    [{P, Found} || {P, {error, Why}} <- Answers, [_ | _] = Found <- [found(Why)]].

found({callback_failed, _, {throw, {found, Found}}}) -> Found;
found({throw, {found, Found}}) -> Found;
found(_) -> [].

is_generic(P) ->
    case process_info(P, dictionary) of
        {dictionary, Dictionary} ->
            case lists:keyfind('$initial_call', 1, Dictionary) of
                {_, {supervisor, _, _}} -> true;
                {_, {_, join, 3}} -> true;
                {_, {M, init, 1}} -> erlang:module_loaded(M) andalso is_generic_module(M);
                _ -> is_looping(P)
            end;
        undefined ->
            false
    end.

%% Agents, among others, bear the name of something else.
is_looping(P) ->
    case process_info(P, current_stacktrace) of
        {current_stacktrace, Stack} ->
            lists:any(fun({gen_server, F, _, _}) -> lists:member(F, [loop, handle_msg]);
                         ({gen_statem, F, _, _}) -> lists:prefix("loop", atom_to_list(F));
                         (_) -> false
                      end, Stack);
        undefined ->
            false
    end.

is_generic_module(M) ->
    Behaviours = lists:append([V || {K, V} <- M:module_info(attributes),
                                    K =:= behaviour orelse K =:= behavior]),
    lists:any(fun(B) -> lists:member(B, [gen_server, 'Elixir.GenServer', gen_statem]) end, Behaviours).

%% Processes that were started while the first ones were being suspended, suspended as well.
late(Known, Callbacks, Before, Timeout) -> late(Known, Callbacks, Before, Timeout, 5).

late(_, _, _, _, 0) ->
    [];
late(Known, Callbacks, Before, Timeout, Rounds) ->
    Now = erlang:processes(),
    case affected(Now -- Known, Callbacks) of
        [] ->
            [];
        Found ->
            try suspend(Found, Timeout)
            catch throw:Failure -> resume(Before), throw(Failure)
            end,
            Found ++ late(Now, Callbacks, Before ++ Found, Timeout, Rounds - 1)
    end.

%% Suspend all of them, or none: throws {suspend, Who} when some do not answer in time.
suspend(Processes, Timeout) ->
    gatling_guard:suspending([P || {P, _} <- Processes]),
    {_, Silent} = ask([{P, suspend} || {P, _} <- Processes], Timeout),
    case Silent of
        [] ->
            ok;
        _ ->
            %% the request to suspend is still in their mailboxes, so the one to resume must follow
            resume(Processes),
            throw({suspend, some([{P, <<"does not answer">>} || P <- Silent])})
    end.

resume(Processes) ->
    _ = ask([{P, resume} || {P, _} <- Processes], 5000),
    ok.

%% The state is kept in the process itself: nothing is copied. To throw leaves the state alone and
%% makes the answer small (sys:replace_state/2 answers with the whole state otherwise). A handler of
%% gen_event comes as {Module, Id, State}, and a process may have several.
stash(Processes, Watcher) ->
    Budget = min(?COPY_BYTES, ?COPIES_BYTES div max(1, length(Processes))),
    Keep = fun(State) ->
                   copy(Watcher, State, Budget),
                   _ = case State of {M, Id, _} -> put({?STASH, M, Id}, {kept, State}); _ -> ok end,
                   put(?STASH, {kept, State}),
                   throw(kept)
           end,
    _ = ask([{P, {replace_state, Keep}} || {P, _} <- Processes], 30000),
    ok.

%% A process with a name and little state has a copy of it kept elsewhere, too: when it crashes in the
%% new code, the process that takes its place in the old code gets it back.
copy(Watcher, State, Budget) ->
    case {process_info(self(), registered_name), process_info(self(), total_heap_size)} of
        {{registered_name, Name}, {total_heap_size, Words}} ->
            case Words * erlang:system_info(wordsize) =< Budget of
                true -> Watcher ! {copy, self(), Name, State};
                false -> ok
            end;
        _ ->
            ok
    end.

%% Give back the states that were kept.
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

kept(State) ->
    case get(?STASH) of
        {kept, Kept} -> Kept;
        undefined -> State
    end.

%% Forget the states that were kept.
unstash(Processes) ->
    Drop = fun(_) ->
                   _ = [erase(K) || {K, _} <- get(), K =:= ?STASH
                                    orelse (is_tuple(K) andalso element(1, K) =:= ?STASH)],
                   throw(dropped)
           end,
    _ = ask([{P, {replace_state, Drop}} || {P, _} <- Processes, is_process_alive(P)], 5000),
    ok.

%% code_change in each; throws {code_change, Texts}.
convert(Processes, Callbacks, Direction) ->
    Requests = [{P, {change_code, M, version(maps:get(M, Callbacks), Direction), []}}
                || {P, Ms} <- Processes, M <- Ms],
    {Answers, Silent} = ask(Requests, 30000),
    Failed = [{P, gatling_why:why(Reason)} || {P, {error, Reason}} <- Answers]
        ++ [{P, <<"no answer within 30 s">>} || P <- Silent],
    Failed =:= [] orelse throw({code_change, some(Failed)}),
    ok.

%% The first of those that failed, each with its reason, and how many more there are.
some(Failed) ->
    [<<(name(P))/binary, ": ", Why/binary>> || {P, Why} <- lists:sublist(Failed, ?TOLD)]
        ++ [iolist_to_binary(["and ", integer_to_binary(N), " more"])
            || N <- [length(Failed) - ?TOLD], N > 0].

version({Old, _}, up) -> Old;
version({_, New}, down) -> {down, New}.

%% Send a system message to each of many processes at once, then take the answers. What has exited
%% meanwhile needs none. Gives the answers, and who did not answer in time.
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

%% `All` are the processes there were before the switch, `Changed` the modules that it changes.
watch_from(Processes, All, Changed) ->
    Ref = make_ref(),
    Watcher = spawn(?MODULE, watch, [self(), Ref, Processes, All, Changed]),
    receive Ref -> ok end,
    Watcher.

%% Sees the processes that were converted until it is asked what became of them; and the others, which
%% meet the new code as they are (LiveViews, loops).
watch(Parent, Ref, Processes, All, Changed) ->
    Converted = maps:from_list(Processes),
    Watched = maps:from_list([{erlang:monitor(process, P), {P, Ms}} || {P, Ms} <- Processes]),
    Others = maps:from_list([{erlang:monitor(process, P), {P, other}}
                             || P <- All, P =/= Parent, not is_map_key(P, Converted)]),
    Parent ! Ref,
    watch(maps:merge(Others, Watched), Processes, maps:from_keys(Changed, true), erlang:monotonic_time()).

watch(Watched, Processes, Changed, Since) ->
    receive
        stop -> ok;
        {report, From, Milliseconds} ->
            _ = erlang:send_after(Milliseconds, self(), enough),
            {Crashed, Others} = watching(Watched, Changed, [], []),
            Told = [P || {P, _} <- Crashed ++ Others],
            Logged = [{What, lists:any(fun(M) -> is_map_key(M, Changed) end, Modules)}
                      || {P, What, Modules} <- gatling_errors:since(Since), not lists:member(P, Told)],
            From ! {self(), {[C || {_, C} <- Crashed], [Where || {_, {ok, Where}} <- Others],
                             [{What, N, In} || {{What, In}, N} <- count(Logged)]}},
            receive
                {restore, To} -> To ! {self(), give_back([P || {P, _} <- Crashed])};
                stop -> unstash(Processes)
            after 120000 -> unstash(Processes)
            end
    after 60000 ->
            unstash(Processes)
    end.

watching(Watched, Changed, Crashed, Others) ->
    receive
        enough ->
            {lists:reverse(Crashed), lists:reverse(Others)};
        {'DOWN', Ref, process, P, Reason} ->
            case {expected(Reason), maps:get(Ref, Watched)} of
                {true, _} ->
                    watching(Watched, Changed, Crashed, Others);
                {false, {_, other}} ->
                    watching(Watched, Changed, Crashed, [{P, in_changed(Reason, Changed)} | Others]);
                {false, {_, Modules}} ->
                    %% one is enough; its like get a moment to be named as well
                    _ = erlang:send_after(20, self(), enough),
                    watching(Watched, Changed, [{P, {text(P), Modules, gatling_why:why(Reason)}} | Crashed], Others)
            end
    end.

%% Where in changed code a process crashed that was not converted.
in_changed({_, [_ | _] = Stack} = Reason, Changed) ->
    case [F || {M, _, _, _} = F <- Stack, is_map_key(M, Changed)] of
        [Frame | _] -> {ok, gatling_why:at(gatling_why:error_name(Reason), [Frame])};
        [] -> elsewhere
    end;
in_changed(_, _) ->
    elsewhere.

%% The processes that took the places of those that crashed get the states from before the swap; how
%% many did.
give_back(Crashed) ->
    Copies = copies([]),
    length([ok || {P, Name, State} <- Copies, lists:member(P, Crashed),
                  New <- [whereis(Name)], is_pid(New), New =/= P,
                  _ <- [catch_exit(fun() -> sys:replace_state(New, fun(_) -> State end) end)]]).

copies(Found) ->
    receive {copy, P, Name, State} -> copies([{P, Name, State} | Found])
    after 0 -> Found
    end.

catch_exit(Fun) ->
    try Fun() catch exit:Reason -> Reason end.

expected(normal) -> true;
expected(shutdown) -> true;
expected({shutdown, _}) -> true;
expected(noproc) -> true;
expected(_) -> false.

%% For after a swap back: see give_back/1.
restore_crashed(Watcher) ->
    Watcher ! {restore, self()},
    receive {Watcher, Number} -> Number
    after 10000 -> 0
    end.

%% The converted processes that crashed within so many milliseconds of the swap, where others did, and
%% what the rest logged as errors, as [{What, How often, Whether in changed code}].
await_watch(Watcher, Milliseconds) ->
    Ref = erlang:monitor(process, Watcher),
    Watcher ! {report, self(), Milliseconds},
    receive
        {Watcher, Crashed} ->
            true = erlang:demonitor(Ref, [flush]),
            Crashed;
        {'DOWN', Ref, process, _, _} ->
            {[], [], []}
    end.

describe(P) -> {name(P), callback_modules(P)}.

name(P) ->
    case process_info(P, registered_name) of
        {registered_name, N} -> text(N);
        _ -> <<(text(P))/binary, (initial_module(P))/binary>>
    end.

%% What it was started as, for one without a name.
initial_module(P) ->
    case process_info(P, dictionary) of
        {dictionary, Dictionary} ->
            case lists:keyfind('$initial_call', 1, Dictionary) of
                {_, {M, _, _}} -> <<" (", (text(M))/binary, ")">>;
                _ -> <<>>
            end;
        undefined ->
            <<>>
    end.

memory(P) ->
    case process_info(P, memory) of
        {memory, Bytes} -> Bytes;
        undefined -> 0
    end.

count(Modules) ->
    maps:to_list(lists:foldl(fun(M, Acc) -> maps:update_with(M, fun(N) -> N + 1 end, 1, Acc) end,
                             #{}, Modules)).

%% A term as Elixir people read it.
text(Term) ->
    try 'Elixir.Kernel':inspect(Term, [{limit, 50}, {printable_limit, 1000}])
    catch _:_ -> unicode:characters_to_binary(io_lib:format("~0tp", [Term], [{chars_limit, 2000}]))
    end.
