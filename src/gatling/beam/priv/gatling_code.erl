%% The code that a node runs: whether it is what the records say, who still runs what was before it,
%% and who keeps functions of it.
-module(gatling_code).

-export([follow/3, drift/2, lingering/1, lingering_after_a_while/1, kept/1, content/1, remove/1]).

%% Larger tables are data, and looking through them would be felt.
-define(TABLE_WORDS, 131072).

%% Modules of which the node runs other code than the release has that it should run.
drift(Changed, Added) ->
    [M || {M, Old, _} <- Changed, erlang:module_loaded(M),
          M:module_info(md5) =/= gatling_release:md5(Old)]
        ++ [M || {M, _} <- Added, erlang:module_loaded(M)].

%% Modules of which code from before the last swap is still in use, and by whom.
lingering(Modules) ->
    Old = [M || M <- Modules, erlang:check_old_code(M), not code:soft_purge(M)],
    [{M, [gatling_processes:describe(P) || P <- erlang:processes(), erlang:check_process_code(P, M) =:= true]}
     || M <- Old].

%% A process that is about to leave old code gets half a second.
lingering_after_a_while(Modules) -> lingering_after_a_while(Modules, 25).

lingering_after_a_while(Modules, Tries) ->
    case lingering(Modules) of
        [] -> [];
        Busy when Tries =:= 0 -> Busy;
        _ ->
            timer:sleep(20),
            lingering_after_a_while(Modules, Tries - 1)
    end.

%% Local functions of these modules that lie in tables and persistent terms, as [{Module, Where}]: a
%% handler of telemetry's, say. They are not exchanged with the code, and once it is purged they are
%% gone; the emulator looks for them in processes only.
kept([]) ->
    [];
kept(Modules) ->
    Set = maps:from_keys(Modules, true),
    Terms = [{M, K} || {K, V} <- persistent_term:get(), M <- functions(V, Set, [])],
    Tables = [{M, ets:info(T, name)} || T <- ets:all(), is_small(T), M <- in_table(T, Set)],
    lists:usort(Terms ++ Tables).

is_small(Table) ->
    case {ets:info(Table, protection), ets:info(Table, memory)} of
        {Protection, Words} when is_integer(Words) -> Protection =/= private andalso Words =< ?TABLE_WORDS;
        _ -> false
    end.

%% A table may go, or be of a type that cannot be looked through, while this is under way.
in_table(Table, Set) ->
    try ets:foldl(fun(Row, Found) -> functions(Row, Set, Found) end, [], Table)
    catch error:badarg -> []
    end.

functions(Term, Set, Found) when is_tuple(Term) ->
    functions(tuple_to_list(Term), Set, Found);
functions([H | T], Set, Found) ->
    functions(T, Set, functions(H, Set, Found));
functions(Term, Set, Found) when is_map(Term) ->
    maps:fold(fun(K, V, F) -> functions(V, Set, functions(K, Set, F)) end, Found, Term);
functions(Term, Set, Found) when is_function(Term) ->
    {module, M} = erlang:fun_info(Term, module),
    case erlang:fun_info(Term, type) of
        {type, external} -> Found;
        {type, local} when is_map_key(M, Set) -> [M | Found];
        {type, local} -> functions(element(2, erlang:fun_info(Term, env)), Set, Found)
    end;
functions(_, _, Found) ->
    Found.

%% Application specifications, code path and environment, as if the node had been booted there.
follow(#{consolidated := Before}, #{root := Root, version := Version, consolidated := After, apps := Apps},
       Touched) ->
    Specs = [Spec || #{name := A} = App <- Apps, lists:member(A, Touched),
                     Spec <- [gatling_release:app_spec(App)], Spec =/= none],
    %% what is in force stays in force: an application's environment is never reset
    Config = [{A, application:get_all_env(A)} || {A, _, _} <- application:loaded_applications()],
    ok = application_controller:change_application_data(Specs, Config),
    _ = [code:del_path(P) || P <- code:get_path(), flat(P) =:= Before],
    _ = [code:add_patha(After) || filelib:is_dir(After)],
    _ = [code:replace_path(A, filename:join(D, "ebin")) || #{name := A, directory := D} <- Apps],
    true = os:putenv("RELEASE_ROOT", Root),
    true = os:putenv("RELEASE_VSN", Version),
    true = os:putenv("RELEASE_SYS_CONFIG", filename:join([Root, "releases", Version, "sys"])),
    ok.

%% A node is booted with $RELEASE_LIB/../releases/… in its code path.
flat(Path) -> filename:join(flat(filename:split(Path), [])).

flat([".." | Rest], [_ | Above]) -> flat(Rest, Above);
flat([Name | Rest], Above) -> flat(Rest, [Name | Above]);
flat([], Above) -> lists:reverse(Above).

remove(Module) ->
    _ = code:soft_purge(Module),
    _ = code:delete(Module),
    _ = code:soft_purge(Module),
    ok.

content(File) ->
    {ok, Content} = file:read_file(File),
    Content.
