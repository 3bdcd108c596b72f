%% The watch over a node after its code was switched: which processes crash in the new code, and
%% what is logged as an error. It also holds copies of states, for processes that take the place
%% of crashed ones.
-module(gatling_watch).

-export([start/3, await/2, restore_crashed/1]).
-export([watch/5]).
-export_type([seen/0]).

-type crashed() :: {Process :: binary(), [module()], Why :: binary()}.
-type elsewhere() :: {ok, Where :: binary()} | elsewhere.
-type logged() :: {What :: binary(), HowOften :: pos_integer(), InChangedCode :: boolean()}.
-type seen() :: {[crashed()], Elsewhere :: [binary()], [logged()], Stopped :: [pid()]}.
-type ends() :: {[{pid(), crashed()}], [{pid(), elsewhere()}], Stopped :: [pid()]}.
-type changed() :: #{module() => true}.
-type owners() :: #{pid() => true}.
-type watched() :: #{reference() => {pid(), [module()] | other}}.

%% `All` are the processes there were before the switch, `Changed` the modules that it changes.
-spec start(gatling_types:suspended(), All :: [pid()], Changed :: [module()]) -> pid().
start(Processes, All, Changed) ->
    Ref = make_ref(),
    Watcher = spawn(?MODULE, watch, [self(), Ref, Processes, All, Changed]),
    receive Ref -> ok end,
    Watcher.

%% The converted processes that crashed within so many milliseconds of the swap, where others did,
%% what the rest logged as errors, as [{What, How often, Whether in changed code}], and the owners
%% of sockets that crashed or were stopped.
-spec await(pid(), non_neg_integer()) -> seen().
await(Watcher, Milliseconds) ->
    Ref = erlang:monitor(process, Watcher),
    Watcher ! {report, self(), Milliseconds},
    receive
        {Watcher, Crashed} ->
            true = erlang:demonitor(Ref, [flush]),
            Crashed;
        {'DOWN', Ref, process, _, _} ->
            {[], [], [], []}
    end.

%% For after a swap back: see give_back/1.
-spec restore_crashed(pid()) -> non_neg_integer().
restore_crashed(Watcher) ->
    Watcher ! {restore, self()},
    receive {Watcher, Number} -> Number
    after 10000 -> 0
    end.

%% Sees the processes that were converted until it is asked what became of them; and the others,
%% which meet the new code as they are (LiveViews, loops).
-spec watch(pid(), reference(), gatling_types:suspended(), [pid()], [module()]) -> term().
watch(Parent, Ref, Processes, All, Changed) ->
    Converted = maps:from_list(Processes),
    Watched = maps:from_list([{erlang:monitor(process, P), {P, Ms}} || {P, Ms} <- Processes]),
    Others = maps:from_list([{erlang:monitor(process, P), {P, other}}
                             || P <- All, P =/= Parent, not is_map_key(P, Converted)]),
    Sockets = [P || C <- erlang:ports(), {connected, P} <- [erlang:port_info(C, connected)]],
    Parent ! Ref,
    Since = erlang:monotonic_time(),
    wait(maps:merge(Others, Watched), Processes, maps:from_keys(Sockets, true),
         maps:from_keys(Changed, true), Since).

-spec wait(watched(), gatling_types:suspended(), owners(), changed(), Since :: integer()) ->
          term().
wait(Watched, Processes, Sockets, Changed, Since) ->
    receive
        stop -> ok;
        {report, From, Milliseconds} ->
            _ = erlang:send_after(Milliseconds, self(), enough),
            {Crashed, Others, Stopped} = watching(Watched, Changed, {[], [], []}),
            Told = [P || {P, _} <- Crashed ++ Others],
            InChanged = fun(M) -> is_map_key(M, Changed) end,
            Logged = [{What, lists:any(InChanged, Modules)}
                      || {P, What, Modules} <- gatling_errors:since(Since),
                         not lists:member(P, Told)],
            Errors = [{What, N, In} || {{What, In}, N} <- gatling_processes:count(Logged)],
            From ! {self(), {[C || {_, C} <- Crashed],
                             [Where || {_, {ok, Where}} <- Others],
                             Errors,
                             [P || P <- Stopped, is_map_key(P, Sockets)]}},
            receive
                {restore, To} -> To ! {self(), give_back([P || {P, _} <- Crashed])};
                stop -> gatling_sys:unstash(Processes)
            after 120000 -> gatling_sys:unstash(Processes)
            end
    after 60000 ->
            gatling_sys:unstash(Processes)
    end.

-spec watching(watched(), changed(), ends()) -> ends().
watching(Watched, Changed, {Crashed, Others, Before}) ->
    receive
        enough ->
            {lists:reverse(Crashed), lists:reverse(Others), Before};
        {'DOWN', Ref, process, P, Reason} ->
            Stopped = [P || not by_itself(Reason)] ++ Before,
            case {expected(Reason), maps:get(Ref, Watched)} of
                {true, _} ->
                    watching(Watched, Changed, {Crashed, Others, Stopped});
                {false, {_, other}} ->
                    Where = in_changed(Reason, Changed),
                    watching(Watched, Changed, {Crashed, [{P, Where} | Others], Stopped});
                {false, {_, Modules}} ->
                    %% one is enough; its like get a moment to be named as well
                    _ = erlang:send_after(20, self(), enough),
                    Crash = {gatling_text:term(P), Modules, gatling_why:why(Reason)},
                    watching(Watched, Changed, {[{P, Crash} | Crashed], Others, Stopped})
            end
    end.

%% Whether the owner of a socket ended because its work was done, or its client had left. A
%% supervisor that stops it gives `shutdown` or `killed`.
-spec by_itself(term()) -> boolean().
by_itself(normal) -> true;
by_itself(noproc) -> true;
by_itself({shutdown, _}) -> true;
by_itself(_) -> false.

%% The place in changed code at which a process crashed that was not converted.
-spec in_changed(term(), changed()) -> elsewhere().
in_changed({_, [_ | _] = Stack} = Reason, Changed) ->
    case [F || {M, _, _, _} = F <- Stack, is_map_key(M, Changed)] of
        [Frame | _] -> {ok, gatling_why:at(gatling_why:error_name(Reason), [Frame])};
        [] -> elsewhere
    end;
in_changed(_, _) ->
    elsewhere.

%% The processes that took the places of those that crashed get the states from before the swap;
%% how many did.
-spec give_back([pid()]) -> non_neg_integer().
give_back(Crashed) ->
    Copies = copies([]),
    length([ok || {P, Name, State} <- Copies, lists:member(P, Crashed),
                  New <- [whereis(Name)], is_pid(New), New =/= P,
                  _ <- [catch_exit(fun() -> sys:replace_state(New, fun(_) -> State end) end)]]).

-spec copies([{pid(), atom(), State :: term()}]) -> [{pid(), atom(), State :: term()}].
copies(Found) ->
    receive {copy, P, Name, State} -> copies([{P, Name, State} | Found])
    after 0 -> Found
    end.

-spec catch_exit(fun(() -> term())) -> term().
catch_exit(Fun) ->
    try Fun() catch exit:Reason -> Reason end.

-spec expected(term()) -> boolean().
expected(normal) -> true;
expected(shutdown) -> true;
expected({shutdown, _}) -> true;
expected(noproc) -> true;
expected(_) -> false.
