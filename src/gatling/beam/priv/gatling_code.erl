%% The code that a node runs: whether it is what the records say, who still runs what was before
%% it, and who keeps functions of it.
-module(gatling_code).

-export([follow/3, move/1, drift/2, lingering/1, purge/1, kept/1, holding/1, content/1, prepare/1,
         remove/1]).

-type changed() :: [{module(), Old :: string(), New :: string()}].
-type added() :: [{module(), string()}].
%% Whether a local function of a module is looked for.
-type wanted() :: fun((fun(), module()) -> boolean()).
-type so_far() :: {Found :: [module()], TermsLeft :: non_neg_integer()}.

%% Larger tables are data, and checking them would be noticeable.
-define(TABLE_WORDS, 131072).
-define(TERMS, 200000).

%% Modules of which the node runs other code than the release has that it should run.
-spec drift(changed(), added()) -> [module()].
drift(Changed, Added) ->
    [M || {M, Old, _} <- Changed, erlang:module_loaded(M),
          M:module_info(md5) =/= gatling_release:md5(Old)]
        ++ [M || {M, _} <- Added, erlang:module_loaded(M)].

%% Modules of which code from before the last swap is still run, and by whom. Purges nothing: what
%% merely holds functions of it (see holding/1) must not lose them by being asked about.
-spec lingering([module()]) -> [{module(), [gatling_processes:described()]}].
lingering(Modules) ->
    [{M, [gatling_processes:describe(P) || P <- Running]}
     || M <- Modules, erlang:check_old_code(M), Running <- [running_old(M)], Running =/= []].

-spec running_old(module()) -> [pid()].
running_old(Module) ->
    Asked = maps:from_list([begin
                                Ref = make_ref(),
                                async = erlang:check_process_code(P, Module, [{async, Ref}]),
                                {Ref, P}
                            end || P <- erlang:processes(), P =/= self()]),
    [maps:get(Ref, Asked) || Ref <- maps:keys(Asked),
                             receive {check_process_code, Ref, Answer} -> Answer =:= true end].

%% Purge the code from before the last swap; returns what processes still run, as lingering/1.
%% A process that is about to leave it gets half a second.
-spec purge([module()]) -> [{module(), [gatling_processes:described()]}].
purge(Modules) -> purge(Modules, 25).

-spec purge([module()], Tries :: non_neg_integer()) ->
          [{module(), [gatling_processes:described()]}].
purge(Modules, Tries) ->
    case [M || M <- Modules, erlang:check_old_code(M), not code:soft_purge(M)] of
        [] -> [];
        Busy when Tries =:= 0 -> lingering(Busy);
        _ ->
            timer:sleep(20),
            purge(Modules, Tries - 1)
    end.

%% Local functions of these modules that lie in tables and persistent terms, as [{Module, Where}]:
%% a handler of telemetry's, say. They are not exchanged with the code.
-spec kept([module()]) -> [{module(), Where :: term()}].
kept([]) ->
    [];
kept(Modules) ->
    Wanted = fun(F, M) -> lists:member(M, Modules) andalso is_function(F) end,
    Terms = [{M, K} || {K, V} <- persistent_term:get(), M <- functions(V, Wanted)],
    Tables = [{M, ets:info(T, name)} || T <- ets:all(), is_small(T), M <- in_table(T, Wanted)],
    lists:usort(Terms ++ Tables).

-spec is_small(ets:table()) -> boolean().
is_small(Table) ->
    case {ets:info(Table, protection), ets:info(Table, memory)} of
        {Protection, Words} when is_integer(Words) ->
            Protection =/= private andalso Words =< ?TABLE_WORDS;
        _ ->
            false
    end.

%% A table may go, or be of a type that cannot be traversed, while this is under way.
-spec in_table(ets:table(), wanted()) -> [module()].
in_table(Table, Wanted) ->
    try ets:foldl(fun(Row, Found) -> functions(Row, Wanted) ++ Found end, [], Table)
    catch error:badarg -> []
    end.

%% Processes whose states hold functions of code from before the last swap, as [{Module, [Who]}]:
%% with the next swap that code is purged, and the emulator does not look for functions (it did up
%% to erts 8). A hook of a LiveView's, say.
-spec holding([module()]) -> [{module(), [gatling_processes:described()]}].
holding(Modules) ->
    case maps:from_list([{M, M:module_info(md5)} || M <- Modules, erlang:check_old_code(M)]) of
        Old when map_size(Old) =:= 0 ->
            [];
        Old ->
            Wanted = fun(F, M) ->
                             case Old of
                                 #{M := Md5} -> {new_uniq, Md5} =/= erlang:fun_info(F, new_uniq);
                                 _ -> false
                             end
                     end,
            Found = gatling_sys:look_into(fun(State) -> functions([State | get()], Wanted) end),
            maps:to_list(maps:groups_from_list(fun({_, M}) -> M end,
                                               fun({P, _}) -> gatling_processes:describe(P) end,
                                               [{P, M} || {P, Ms} <- Found, M <- lists:usort(Ms)]))
    end.

%% The modules of the local functions in a term that are wanted; of a very large one, in its
%% beginning.
-spec functions(term(), wanted()) -> [module()].
functions(Term, Wanted) ->
    {Found, _} = functions(Term, Wanted, {[], ?TERMS}),
    Found.

-spec functions(term(), wanted(), so_far()) -> so_far().
functions(_, _, {_, 0} = Done) ->
    Done;
functions([H | T], Wanted, So) ->
    functions(T, Wanted, functions(H, Wanted, So));
functions(Term, Wanted, So) when is_tuple(Term) ->
    functions(tuple_to_list(Term), Wanted, So);
functions(Term, Wanted, So) when is_map(Term) ->
    in_map(maps:next(maps:iterator(Term)), Wanted, So);
functions(Term, Wanted, {Found, Left}) when is_function(Term) ->
    {module, M} = erlang:fun_info(Term, module),
    case erlang:fun_info(Term, type) of
        {type, external} -> {Found, Left - 1};
        {type, local} ->
            So = case Wanted(Term, M) of
                     true -> {[M | Found], Left - 1};
                     false -> {Found, Left - 1}
                 end,
            functions(element(2, erlang:fun_info(Term, env)), Wanted, So)
    end;
functions(_, _, {Found, Left}) ->
    {Found, Left - 1}.

-spec in_map(none | {term(), term(), maps:iterator()}, wanted(), so_far()) -> so_far().
in_map(none, _, So) -> So;
in_map(_, _, {_, 0} = Done) -> Done;
in_map({K, V, Next}, Wanted, So) ->
    in_map(maps:next(Next), Wanted, functions(V, Wanted, functions(K, Wanted, So))).

%% Application specifications, code path, working directory and environment, as if the node had
%% been booted there.
-spec follow(gatling_types:place(), gatling_types:place(),
             Touched :: [gatling_types:app_name()]) ->
          ok.
follow(#{consolidated := Before} = From,
       #{root := Root, version := Version, consolidated := After, apps := Apps} = To, Touched) ->
    Specs = [Spec || #{name := A} = App <- Apps, lists:member(A, Touched),
                     Spec <- [gatling_application:spec(App)], Spec =/= none],
    %% the current values stay: an application's environment is never reset
    Config = [{A, application:get_all_env(A)} || {A, _, _} <- application:loaded_applications()],
    ok = application_controller:change_application_data(Specs, Config),
    _ = [code:del_path(P) || P <- code:get_path(), flat(P) =:= Before],
    _ = [code:add_patha(After) || filelib:is_dir(After)],
    move(Apps),
    follow_directory(From, To),
    _ = [os:putenv(K, New) || {K, Old} <- os:env(), New <- [elsewhere(Old, From, To)], New =/= Old],
    true = os:putenv("RELEASE_VSN", Version),
    true = os:putenv("RELEASE_SYS_CONFIG", filename:join([Root, "releases", Version, "sys"])),
    %% Distillery's
    _ = [os:putenv(K, V) || {K, V} <- [{"REL_VSN", Version},
                                       {"REL_DIR", filename:join([Root, "releases", Version])}],
                            os:getenv(K) =/= false],
    ok.

%% An instance is started in its release's directory. An app that has gone elsewhere since stays
%% there.
-spec follow_directory(gatling_types:place(), gatling_types:place()) -> ok.
follow_directory(#{root := Old}, #{root := New}) ->
    {ok, Directory} = file:get_cwd(),
    case gatling_files:identity(Directory) =:= gatling_files:identity(Old) of
        true -> _ = file:set_cwd(New), ok;
        false -> ok
    end.

%% RELEASE_ROOT, RELEASE_VM_ARGS, ROOTDIR, PATH …: what names a place in the one tree, in the
%% other.
-spec elsewhere(string(), gatling_types:place(), gatling_types:place()) -> string().
elsewhere(Value, #{root := Old, version := Before}, #{root := New, version := After}) ->
    Here = filename:join([Old, "releases", Before]),
    There = filename:join([New, "releases", After]),
    lists:flatten(lists:join($:, [moved(Part, [{Here, There}, {Old, New}])
                                  || Part <- string:split(Value, ":", all)])).

-spec moved(string(), [{From :: string(), To :: string()}]) -> string().
moved(Path, []) -> Path;
moved(Path, [{From, To} | Rest]) ->
    case string:prefix(Path, From) of
        nomatch -> moved(Path, Rest);
        [] -> To;
        [$/ | _] = Below -> To ++ Below;
        _ -> moved(Path, Rest)
    end.

-spec move([gatling_types:app()]) -> ok.
move(Apps) ->
    _ = [code:replace_path(A, filename:join(D, "ebin")) || #{name := A, directory := D} <- Apps],
    ok.

%% A node is booted with $RELEASE_LIB/../releases/… in its code path.
-spec flat(string()) -> string().
flat(Path) -> filename:join(flat(filename:split(Path), [])).

-spec flat(Names :: [string()], Above :: [string()]) -> [string()].
flat([".." | Rest], [_ | Above]) -> flat(Rest, Above);
flat([Name | Rest], Above) -> flat(Rest, [Name | Above]);
flat([], Above) -> lists:reverse(Above).

-spec remove(module()) -> ok.
remove(Module) ->
    _ = code:soft_purge(Module),
    _ = code:delete(Module),
    _ = code:soft_purge(Module),
    ok.

%% Modules that can be loaded in an instant, from these files.
-spec prepare([{module(), gatling_types:path()}]) -> code:prepared_code().
prepare(Modules) ->
    Contents = [{M, unicode:characters_to_list(F), content(F)} || {M, F} <- Modules],
    case code:prepare_loading(Contents) of
        {ok, Prepared} -> Prepared;
        {error, Reasons} -> throw({prepare, gatling_text:term(Reasons)})
    end.

-spec content(gatling_types:path()) -> binary().
content(File) ->
    {ok, Content} = file:read_file(File),
    Content.
