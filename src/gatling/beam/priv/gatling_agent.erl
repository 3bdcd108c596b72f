%% Changes the code of the running node, all or nothing. Loaded into the node by Gatling.
%%
%% The order of a swap: check that the node runs what it should · load what is added and start added
%% applications · suspend the processes whose callback modules change · keep each one's state aside,
%% in its own dictionary · switch all code at once · code_change · resume. Whatever fails until then is
%% taken back with the states that were kept. What follows (children, specifications, config_change)
%% is reported, and undone by a swap back.
%%
%% A request is a map: old, new (roots), files (see gatling_release:compare/3), direction (up | down),
%% answers (none | {OldFile, NewFile} of gatling_planner), and for a swap also label, from, now_ms,
%% suspend_ms.
-module(gatling_agent).

-export([inspect/1, swap/1, await_watch/2, restore_crashed/1, keep/1, chain/0]).

-define(CHAIN, {gatling, chain}).
-define(BOOT_ONLY, [kernel, stdlib, sasl, logger, elixir]).

%% How the two releases differ, and what a swap would meet in this node: code that is not what the
%% records say, processes in code from before the last swap, processes to suspend and their memory.
inspect(Request) ->
    case compared(Request) of
        #{erts := same} = Compared ->
            Changes = changes(Compared, Request),
            #{changed := Changed, added := Added, removed := Removed} = Changes,
            Known = [M || {M, _, _} <- Changed],
            Processes = gatling_processes:affected(erlang:processes(), callbacks(Changes)),
            Compared#{drift => gatling_code:drift(Changed, Added),
                      lingering => gatling_code:lingering(Known ++ [M || {M, _} <- Added]),
                      processes => gatling_processes:count([M || {_, Ms} <- Processes, M <- Ms]),
                      kept => [{M, gatling_processes:text(Where)}
                               || {M, Where} <- gatling_code:kept(Known ++ Removed)],
                      memory => lists:sum([gatling_processes:memory(P) || {P, _} <- Processes]),
                      env => env_report(Changes),
                      modules => planned(modules, Request),
                      trees => trees_report(Request),
                      apps => []};
        Compared ->
            Compared
    end.

%% The releases that this node went through: [{Label, Unix time in ms}]. The first has no time.
chain() -> persistent_term:get(?CHAIN, []).

%% What a watch may end with: the states from before the swap are given back, or forgotten.
restore_crashed(Watcher) -> gatling_processes:restore_crashed(Watcher).

keep(Watcher) ->
    Watcher ! stop,
    ok.

await_watch(Watcher, Milliseconds) -> gatling_processes:await_watch(Watcher, Milliseconds).

swap(Request) ->
    Begun = erlang:monotonic_time(microsecond),
    try
        Changes = #{changed := Changed, added := Added} = changes(compared(Request), Request),
        none(drift, gatling_code:drift(Changed, Added)),
        none(lingering, gatling_code:lingering_after_a_while([M || {M, _, _} <- Changed] ++ [M || {M, _} <- Added])),
        Prepared = prepare([{M, New} || {M, _, New} <- Changed]),
        load_added(Changes),
        {Report, EnvBefore} = try
                                  start_applications(Changes),
                                  critical(Changes, Request, Prepared)
                              catch
                                  throw:Reason ->
                                      unload_added(Changes),
                                      throw(Reason)
                              end,
        note(Request),
        Failed = try afterwards(Changes, EnvBefore)
                 catch C:W -> [{<<"after the switch">>, gatling_processes:text({C, W})}]
                 end,
        {ok, Report#{failed => Failed,
                     total_us => erlang:monotonic_time(microsecond) - Begun}}
    catch
        throw:{Stage, What} -> {error, Stage, What};
        Class:What:Stack -> {error, internal, gatling_processes:text({Class, What, Stack})}
    end.

compared(#{old := Old, new := New, files := Files}) -> gatling_release:compare(Old, New, Files).

%% ---------------------------------------------------------------- what is to be done

%% Files, versions, environment, children: everything that the steps below need.
changes(#{changed := Changed, added := Added, removed := Removed} = Compared,
        #{old := Old, new := New} = Request) ->
    {Set, Delete} = env_changes(Request),
    Touched = [A || #{app := A} <- Changed ++ Added ++ Removed]
        ++ [A || {A, _, _, _} <- maps:get(versions, Compared)] ++ maps:get(priv, Compared)
        ++ [A || {A, _, _} <- Set] ++ [A || {A, _} <- Delete],
    #{changed => [{M, file(O), file(F)} || #{module := M, file := F, old := #{file := O}} <- Changed],
      added => [{M, file(F)} || #{module := M, file := F} <- Added],
      removed => [M || #{module := M} <- Removed],
      migrate => [{M, V2, V} || #{module := M, version := V, old := #{version := V2} = B} = A <- Changed,
                                maps:get(code_change, A) orelse maps:get(code_change, B),
                                not is_supervisor(A)],
      apps => maps:get(apps, Compared),
      apps_added => maps:get(apps_added, Compared),
      %% in the order of the release, which is one of dependencies first
      apps_removed => [App || #{name := A} = App <- maps:get(apps, gatling_release:read(Old)),
                              lists:member(A, maps:get(apps_removed, Compared))],
      touched => lists:usort(Touched) -- [undefined],
      env_set => Set, env_delete => Delete,
      children => [{Path, [gatling_tree:unpack(S) || S <- Start], Stop}
                   || {Path, #{start := Start, stop := Stop}} <- tree_changes(Request)],
      paths_added => [consolidated(New)], paths_removed => [consolidated(Old)],
      root => maps:get(root, gatling_release:read(New)),
      version => maps:get(version, gatling_release:read(New))}.

file(Path) -> unicode:characters_to_list(Path).

consolidated(Root) ->
    filename:join(maps:get(directory, gatling_release:read(Root)), "consolidated").

%% A node is booted with $RELEASE_LIB/../releases/… in its code path.
flat(Path) -> filename:join(flat(filename:split(Path), [])).

flat([".." | Rest], [_ | Above]) -> flat(Rest, Above);
flat([Name | Rest], Above) -> flat(Rest, [Name | Above]);
flat([], Above) -> lists:reverse(Above).

%% Children of supervisors are changed through their own interface; `init/1` runs at a restart only.
is_supervisor(#{behaviours := Behaviours}) ->
    lists:member('Elixir.Supervisor', Behaviours) orelse lists:member(supervisor, Behaviours).

callbacks(#{migrate := Modules}) -> maps:from_list([{M, {Old, New}} || {M, Old, New} <- Modules]).

%% What gatling_planner wrote in a node of either release.
planned(Key, #{answers := {OldFile, NewFile}}) -> {answer(Key, OldFile), answer(Key, NewFile)};
planned(_, #{answers := none}) -> {[], []}.

answer(Key, File) ->
    {ok, Binary} = file:read_file(File),
    maps:get(Key, binary_to_term(Binary)).

%% Values are compared as the old and the new release resolve them: what a running application has set
%% for itself is left alone.
env_changes(Request) ->
    {Old, New} = planned(env, Request),
    Set = [{A, K, gatling_tree:unpack(V)}
           || {A, Env} <- New, Before <- [proplists:get_value(A, Old, [])],
              {K, V} <- Env, lists:keyfind(K, 1, Before) =/= {K, V}],
    Delete = [{A, K} || {A, Before} <- Old, {_, Env} <- [lists:keyfind(A, 1, New)],
                        {K, _} <- Before, not lists:keymember(K, 1, Env)],
    {Set, Delete}.

%% Names only: values may be secrets. How a change reaches the application decides whether it is hot.
env_report(#{env_set := Set, env_delete := Delete, apps_added := Added}) ->
    New = [A || #{name := A} <- Added],
    [{A, gatling_processes:text(K), reaches(A, K, V)} || {A, K, V} <- Set, not lists:member(A, New)]
        ++ [{A, gatling_processes:text(K), reaches(A, K, undefined)} || {A, K} <- Delete].

reaches(App, Key, Value) ->
    case {lists:member(App, ?BOOT_ONLY), gatling_tree:opaque(Value)} of
        {true, _} -> boot_only;
        {_, true} -> opaque;
        _ -> case {is_module(Key), tells(App)} of
                 {true, true} ->
                     case erlang:function_exported(Key, config_change, 2) of
                         true -> delivered;
                         false -> at_start
                     end;
                 {false, true} -> delivered;
                 {_, false} -> at_start
             end
    end.

is_module(Key) -> is_atom(Key) andalso erlang:module_loaded(Key).

tells(App) ->
    case application:get_key(App, mod) of
        {ok, {M, _}} -> erlang:function_exported(M, config_change, 3);
        _ -> false
    end.

tree_changes(Request) ->
    {Old, New} = planned(trees, Request),
    [{{App, maps:get(path, D)}, D} || {App, {ok, _, NewTree}} <- New,
                                      {_, {ok, _, OldTree}} <- [lists:keyfind(App, 1, Old)],
                                      D <- gatling_tree:diff(OldTree, NewTree)].

trees_report(Request) ->
    {Old, New} = planned(trees, Request),
    Text = fun gatling_processes:text/1,
    [#{app => App, path => [Text(Id) || Id <- Path], strategy => maps:get(strategy, D),
       flags => maps:get(flags, D), reordered => maps:get(reordered, D),
       start => [Text(Id) || #{id := Id} <- maps:get(start, D)],
       stop => [Text(Id) || Id <- maps:get(stop, D)],
       changed => [Text(Id) || Id <- maps:get(changed, D)],
       opaque => [Text(Id) || Id <- maps:get(opaque, D)]}
     || {{App, Path}, D} <- tree_changes(Request)]
        ++ [#{app => App, error => Why} || {App, {error, Why}} <- New ++ Old]
        ++ [#{app => App, path => [Text(I) || I <- Path],
              error => <<"start/2 names the child ", (Text(Id))/binary, ", which does not run">>}
            || {App, {ok, _, Tree}} <- Old, {Path, Id} <- gatling_tree:missing(App, Tree)].

%% ---------------------------------------------------------------- before anything is touched

none(_, []) -> ok;
none(Stage, Found) -> throw({Stage, Found}).

prepare(Modules) ->
    case code:prepare_loading([{M, unicode:characters_to_list(F), gatling_code:content(F)} || {M, F} <- Modules]) of
        {ok, Prepared} -> Prepared;
        {error, Reasons} -> throw({prepare, gatling_processes:text(Reasons)})
    end.

%% ---------------------------------------------------------------- what is added

load_added(#{added := []}) ->
    ok;
load_added(#{added := Added}) ->
    case code:finish_loading(prepare(Added)) of
        ok -> ok;
        {error, Reasons} -> throw({load, gatling_processes:text(Reasons)})
    end.

unload_added(#{added := Added, apps_added := Apps}) ->
    stop_applications(Apps),
    lists:foreach(fun gatling_code:remove/1, [M || {M, _} <- Added]).

stop_applications(Apps) ->
    _ = [begin
             _ = application:stop(App),
             _ = application:unload(App),
             code:del_path(filename:join(Directory, "ebin"))
         end || #{name := App, directory := Directory} <- lists:reverse(Apps)],
    ok.

%% In the order of the release, which is one of dependencies first.
start_applications(#{apps_added := Apps, env_set := Env}) ->
    lists:foreach(
      fun(#{name := App, type := Type, directory := Directory}) ->
              _ = code:add_pathz(filename:join(Directory, "ebin")),
              _ = application:load(App),
              set_env([E || {A, _, _} = E <- Env, A =:= App], []),
              case lists:member(Type, [none, load]) orelse application:start(App, Type) of
                  true -> ok;
                  ok -> ok;
                  {error, Reason} -> throw({start_application, gatling_processes:text({App, Reason})})
              end
      end, Apps).

%% ---------------------------------------------------------------- the critical section

critical(#{changed := Changed} = Changes, #{direction := Direction} = Request, Prepared) ->
    Callbacks = callbacks(Changes),
    Timeout = maps:get(suspend_ms, Request),
    Known = erlang:processes(),
    First = gatling_processes:affected(Known, Callbacks),
    Begun = erlang:monotonic_time(microsecond),
    gatling_processes:suspend(First, Timeout),
    Processes = First ++ gatling_processes:late(Known, Callbacks, First, Timeout),
    Watcher = gatling_processes:watch_from(Processes),
    EnvBefore = application_controller:prep_config_change(),
    gatling_processes:stash(Processes, Watcher),
    Result = try
                 Direction =:= down andalso gatling_processes:convert(Processes, Callbacks, down),
                 set_env(maps:get(env_set, Changes), maps:get(env_delete, Changes)),
                 finish(Prepared),
                 Direction =:= up andalso gatling_processes:convert(Processes, Callbacks, up),
                 ok
             catch
                 throw:Failure -> restore(Processes, Changed, Changes, EnvBefore, Failure)
             end,
    gatling_processes:resume(Processes),
    Suspended = erlang:monotonic_time(microsecond) - Begun,
    case Result of
        ok ->
            {#{processes => length(Processes),
               migrated => gatling_processes:count([M || {_, Ms} <- Processes, M <- Ms]),
               suspended_us => case Processes of [] -> 0; _ -> Suspended end,
               watcher => Watcher}, EnvBefore};
        _ ->
            Watcher ! stop,
            throw(Result)
    end.

finish(Prepared) ->
    case code:finish_loading(Prepared) of
        ok -> ok;
        {error, Reasons} -> throw({load, gatling_processes:text(Reasons)})
    end.

%% Back to the old code, with the states that were kept. Where a process is in the midst of the old
%% code, that cannot be loaded again: then the states stay converted as far as they are, and the node
%% has to be replaced.
restore(Processes, Changed, Changes, EnvBefore, Failure) ->
    _ = [application:set_env(A, K, V) || {A, Env} <- EnvBefore, {K, V} <- Env],
    _ = [application:unset_env(A, K) || {A, K, _} <- maps:get(env_set, Changes),
                                        {_, Env} <- [lists:keyfind(A, 1, EnvBefore)],
                                        not lists:keymember(K, 1, Env)],
    Loaded = [{M, Old} || {M, Old, _} <- Changed, erlang:module_loaded(M),
                          M:module_info(md5) =/= gatling_release:md5(Old)],
    case gatling_code:lingering_after_a_while([M || {M, _} <- Loaded]) of
        [] ->
            Loaded =:= [] orelse (ok = code:atomic_load([{M, F, gatling_code:content(F)} || {M, F} <- Loaded])),
            gatling_processes:take_back(Processes),
            Failure;
        Busy ->
            gatling_processes:unstash(Processes),
            {broken, {Failure, Busy}}
    end.

%% ---------------------------------------------------------------- what follows

%% Gives what failed, as [{What, Why}].
afterwards(#{apps := Apps, touched := Touched, removed := Removed} = Changes, EnvBefore) ->
    Specs = [Spec || #{name := A} = App <- Apps, lists:member(A, Touched),
                     Spec <- [gatling_release:app_spec(App)], Spec =/= none],
    %% what is in force stays in force: an application's environment is never reset
    Config = [{A, application:get_all_env(A)} || {A, _, _} <- application:loaded_applications()],
    ok = application_controller:change_application_data(Specs, Config),
    _ = [code:add_patha(P) || P <- maps:get(paths_added, Changes), filelib:is_dir(P)],
    _ = [code:del_path(P) || P <- code:get_path(),
                             lists:member(flat(P), maps:get(paths_removed, Changes))],
    _ = [code:replace_path(A, filename:join(D, "ebin")) || #{name := A, directory := D} <- Apps],
    #{root := Root, version := Version} = Changes,
    true = os:putenv("RELEASE_ROOT", Root),
    true = os:putenv("RELEASE_VSN", Version),
    true = os:putenv("RELEASE_SYS_CONFIG", filename:join([Root, "releases", Version, "sys"])),
    Failed = change_children(maps:get(children, Changes)),
    _ = application_controller:config_change(EnvBefore),
    _ = [told(A) || A <- Touched],
    %% nobody needs these any more: what used them has just been changed
    stop_applications(maps:get(apps_removed, Changes)),
    lists:foreach(fun gatling_code:remove/1, Removed),
    Failed.

%% Every touched application is told, also when its environment is equal: Phoenix endpoints re-read
%% their manifest of static files then.
told(App) ->
    case application:get_key(App, mod) of
        {ok, {M, _}} ->
            case erlang:function_exported(M, config_change, 3) of
                true -> try M:config_change([], [], []) catch _:_ -> ok end;
                false -> ok
            end;
        _ ->
            ok
    end.

change_children(Changes) ->
    lists:append(
      [begin
           Stopped = [{Id, gatling_processes:text(R)} || Id <- Stop, R <- [stop_child(Supervisor, Id)], R =/= ok],
           Started = [{Id, gatling_processes:text(R)} || #{id := Id} = Spec <- Start,
                                       {error, R} <- [start_child(Supervisor, Spec)]],
           [{gatling_processes:text(Id), Why} || {Id, Why} <- Stopped ++ Started]
       end || {Path, Start, Stop} <- Changes, Supervisor <- [gatling_tree:find(Path)]]).

start_child(Supervisor, Spec) ->
    case supervisor:start_child(Supervisor, Spec) of
        {error, {already_started, _}} -> ok;
        Result -> Result
    end.

stop_child(Supervisor, Id) ->
    case supervisor:terminate_child(Supervisor, Id) of
        ok -> supervisor:delete_child(Supervisor, Id);
        {error, not_found} -> ok;
        Error -> Error
    end.

set_env(Set, Delete) ->
    _ = [application:set_env(A, K, V, [{persistent, true}]) || {A, K, V} <- Set],
    _ = [application:unset_env(A, K, [{persistent, true}]) || {A, K} <- Delete],
    ok.

note(#{label := Label, from := From, now_ms := Now}) ->
    Before = case chain() of
                 [] -> [{From, undefined}];
                 Known -> Known
             end,
    persistent_term:put(?CHAIN, lists:sublist(Before, 100) ++ [{Label, Now}]).
