%% Changes the code of the running node, all or nothing. Loaded into the node by Gatling.
%%
%% The order of a swap: check that the node runs what it should · wait until nobody is in the midst of
%% code that calls what will be gone · load what is added and start added applications · suspend the
%% processes whose callback modules change · keep each one's state aside, in its own dictionary ·
%% switch all code at once · code_change, and beside it the code path follows and new children are
%% started · resume. Whatever fails until then is taken back with the states that were kept. What
%% follows (children that go or are replaced, config_change, applications that go) is reported, and
%% undone by a swap back.
%%
%% A request is a map: old, new (roots), files (see gatling_release:compare/3), direction (up | down),
%% answers (none | {OldFile, NewFile} of gatling_planner), and for a swap also label, from, now_ms,
%% suspend_ms and insist (see when_quiet/2).
-module(gatling_agent).

-export([inspect/1, swap/1, await_watch/2, restore_crashed/1, keep/1, chain/0, clients/1]).

%% How the two releases differ, and what a swap would meet in this node: code that is not what the
%% records say, processes in code from before the last swap, processes to suspend and their memory.
inspect(Request) ->
    case compared(Request) of
        #{erts := same} = Compared ->
            Changes = changes(Compared, Request),
            #{changed := Changed, added := Added, removed := Removed} = Changes,
            Known = [M || {M, _, _} <- Changed],
            Processes = gatling_processes:affected(erlang:processes(), callbacks(Changes)),
            Compared#{callers => [{C, gatling_calls:text(F)} || {C, F} <- maps:get(callers, Compared)],
                      drift => gatling_code:drift(Changed, Added),
                      lingering => gatling_code:lingering(Known ++ [M || {M, _} <- Added]),
                      processes => gatling_processes:count([M || {_, Ms} <- Processes, M <- Ms]),
                      holding => gatling_code:holding(Known),
                      orphans => orphans(Changes),
                      kept => [{M, gatling_processes:text(Where)}
                               || {M, Where} <- gatling_code:kept(Known ++ Removed)],
                      memory => lists:sum([gatling_processes:memory(P) || {P, _} <- Processes]),
                      env => gatling_config:report(Changes, planned(env, Request)),
                      modules => planned(modules, Request),
                      trees => trees_report(Request),
                      apps => []};
        Compared ->
            Compared
    end.

%% Processes of modules that are gone, but for those that are stopped with their supervisors.
orphans(#{removed := Removed, children := Children}) ->
    Doomed = lists:append([gatling_tree:descendants(Path, Stop) || {Path, _, Stop} <- Children]),
    [{M, [gatling_processes:describe(P)]} || {P, Ms} <- gatling_processes:running(Removed),
                                             not lists:member(P, Doomed), M <- Ms].

%% The releases that this node went through: [{Label, Unix time in ms}]. The first has no time.
chain() -> chain(1).

chain(Number) ->
    case persistent_term:get({gatling, chain, Number}, none) of
        none -> [];
        Release -> [Release | chain(Number + 1)]
    end.

%% The connections that are open to a port of this node and last: something has been sent over them. A
%% request that waits for its answer is none; the proxy opens a connection for each.
clients(Port) ->
    [C || C <- erlang:ports(), {name, "tcp_inet"} =:= erlang:port_info(C, name),
          {ok, {_, P}} <- [inet:sockname(C)], P =:= Port, {ok, _} <- [inet:peername(C)],
          {ok, [{send_cnt, N}]} <- [inet:getstat(C, [send_cnt])], N > 0].

%% What a watch may end with: the states from before the swap are given back, or forgotten.
restore_crashed(Watcher) -> gatling_processes:restore_crashed(Watcher).

keep(Watcher) ->
    Watcher ! stop, ok.

await_watch(Watcher, Milliseconds) -> gatling_processes:await_watch(Watcher, Milliseconds).

swap(Request) ->
    Begun = erlang:monotonic_time(microsecond),
    try
        Changes = #{changed := Changed, added := Added} = changes(compared(Request), Request),
        Known = [M || {M, _, _} <- Changed],
        none(drift, gatling_code:drift(Changed, Added)),
        none(lingering, gatling_code:purge(Known ++ [M || {M, _} <- Added])),
        Prepared = prepare([{M, New} || {M, _, New} <- Changed]),
        Quiet = when_quiet(Changes, Request),
        load_added(Changes),
        {Report, EnvBefore, Failed} = try
                                          start_applications(Changes),
                                          move(to, Changes),
                                          critical_soon(Quiet, Request, Prepared)
                                      catch
                                          throw:Reason ->
                                              move(from, Changes),
                                              unload_added(Changes),
                                              throw(Reason)
                                      end,
        note(Request),
        Later = try afterwards(Changes, EnvBefore)
                catch C:W -> [{<<"after the switch">>, gatling_processes:text({C, W})}]
                end,
        {ok, Report#{failed => Failed ++ Later,
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
    {Set, Delete} = gatling_config:changes(planned(env, Request)),
    Touched = [A || #{app := A} <- Changed ++ Added ++ Removed]
        ++ [A || {A, _, _, _} <- maps:get(versions, Compared)] ++ maps:get(priv, Compared)
        ++ [A || {A, _, _} <- Set] ++ [A || {A, _} <- Delete],
    #{changed => [{M, file(O), file(F)} || #{module := M, file := F, old := #{file := O}} <- Changed],
      added => [{M, file(F)} || #{module := M, file := F} <- Added],
      removed => [M || #{module := M} <- Removed],
      migrate => [{M, V2, V} || #{module := M, version := V, old := #{version := V2} = B} = A <- Changed,
                                maps:get(code_change, A) orelse maps:get(code_change, B),
                                not is_supervisor(A)],
      callers => maps:get(callers, Compared),
      apps_added => maps:get(apps_added, Compared),
      %% dependencies first, as those that are added
      apps_removed => gatling_release:ordered(
                        [App || #{name := A} = App <- maps:get(apps, gatling_release:read(Old)),
                                lists:member(A, maps:get(apps_removed, Compared))]),
      touched => lists:usort(Touched) -- [undefined],
      env_set => Set, env_delete => Delete,
      children => [{Path, [gatling_tree:unpack(S) || S <- Start], Stop}
                   || {Path, #{start := Start, stop := Stop}} <- tree_changes(Request)],
      from => place(Old, Compared), to => place(New, Compared)}.

%% What the node must know of where a release is: the applications are those that both have.
place(Root, #{apps := Common}) ->
    #{root := Path, version := Version, apps := Apps} = Release = gatling_release:read(Root),
    Names = [A || #{name := A} <- Common],
    #{root => Path, version => Version, consolidated => gatling_release:consolidated(Release),
      apps => [App || #{name := A} = App <- Apps, lists:member(A, Names)]}.

file(Path) -> unicode:characters_to_list(Path).

%% Children of supervisors are changed through their own interface; `init/1` runs at a restart only.
is_supervisor(#{behaviours := Behaviours}) ->
    lists:member('Elixir.Supervisor', Behaviours) orelse lists:member(supervisor, Behaviours).

callbacks(#{migrate := Modules}) -> maps:from_list([{M, {Old, New}} || {M, Old, New} <- Modules]).

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
       changed => [#{id => Text(Id), how => How} || {Id, How} <- maps:get(changed, D)],
       opaque => [Text(Id) || Id <- maps:get(opaque, D)]}
     || {{App, Path}, D} <- tree_changes(Request)]
        ++ lists:usort([#{app => App, error => Why} || {App, {error, Why}} <- New ++ Old])
        ++ [#{app => App, path => [Text(I) || I <- Path],
              error => <<"start/2 names the child ", (Text(Id))/binary, ", which does not run">>}
            || {App, {ok, _, Tree}} <- Old, {Path, Id} <- gatling_tree:missing(App, Tree)].

%% What gatling_planner wrote in a node of either release.
planned(Key, #{answers := {OldFile, NewFile}}) -> {answer(Key, OldFile), answer(Key, NewFile)};
planned(_, #{answers := none}) -> {[], []}.

answer(Key, File) ->
    {ok, Binary} = file:read_file(File),
    maps:get(Key, binary_to_term(Binary)).

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

%% They come in an order of dependencies first.
start_applications(#{apps_added := Apps, env_set := Env}) ->
    lists:foreach(
      fun(#{name := App, type := Type, directory := Directory}) ->
              _ = code:add_pathz(filename:join(Directory, "ebin")),
              _ = application:load(App),
              gatling_config:set([E || {A, _, _} = E <- Env, A =:= App], []),
              case lists:member(Type, [none, load]) orelse application:start(App, Type) of
                  true -> ok;
                  ok -> ok;
                  {error, Reason} ->
                      Why = gatling_processes:why_not_started(Reason),
                      throw({start_application, <<(atom_to_binary(App))/binary, ": ", Why/binary>>})
              end
      end, Apps).

%% ---------------------------------------------------------------- the critical section

%% When no process is in the midst of code that calls what will be gone. `insist`: go on when the time
%% is up, since there is worse than a failed request; nobody is looked for any more then.
when_quiet(#{callers := Callers} = Changes, #{insist := Insist} = Request) ->
    try
        gatling_calls:await(Callers, deadline(Request)),
        Changes
    catch
        throw:{calls, _} when Insist -> Changes#{callers := []}
    end.

%% What began since then, or while others were being suspended, is waited for once more.
critical_soon(Changes, #{insist := Insist} = Request, Prepared) ->
    Deadline = deadline(Request),
    try critical_until(Deadline, Changes, Request, Prepared)
    catch throw:{calls, _} when Insist -> critical(Changes#{callers := []}, Request, Prepared)
    end.

critical_until(Deadline, #{callers := Callers} = Changes, Request, Prepared) ->
    gatling_calls:await(Callers, Deadline),
    try critical(Changes, Request, Prepared)
    catch throw:{calls, Busy} ->
            erlang:monotonic_time(millisecond) < Deadline orelse throw({calls, Busy}),
            critical_until(Deadline, Changes, Request, Prepared)
    end.

deadline(#{suspend_ms := Timeout}) -> erlang:monotonic_time(millisecond) + Timeout.

critical(#{changed := Changed} = Changes, #{direction := Direction} = Request, Prepared) ->
    Callbacks = callbacks(Changes),
    Timeout = maps:get(suspend_ms, Request),
    Known = erlang:processes(),
    First = gatling_processes:affected(Known, Callbacks),
    Begun = erlang:monotonic_time(microsecond),
    gatling_processes:suspend(First, Timeout),
    Processes = First ++ gatling_processes:late(Known, Callbacks, First, Timeout),
    Watcher = gatling_processes:watch_from(Processes, Known, [M || {M, _, _} <- Changed]),
    EnvBefore = application_controller:prep_config_change(),
    gatling_processes:stash(Processes, Watcher),
    Result = try
                 Direction =:= down andalso gatling_processes:convert(Processes, Callbacks, down),
                 gatling_config:set(maps:get(env_set, Changes), maps:get(env_delete, Changes)),
                 none(calls, gatling_calls:last_look(maps:get(callers, Changes))),
                 finish(Prepared),
                 %% new code may ask for a new child at once, and a new child for what is suspended
                 Starter = start_beside(Changes),
                 try
                     Direction =:= up andalso gatling_processes:convert(Processes, Callbacks, up),
                     {ok, Starter}
                 catch
                     throw:Failure -> {Failure, Starter}
                 end
             catch
                 throw:Early -> {Early, none}
             end,
    case Result of
        {ok, Beside} ->
            gatling_processes:resume(Processes),
            Suspended = erlang:monotonic_time(microsecond) - Begun,
            {#{processes => length(Processes),
               migrated => gatling_processes:count([M || {_, Ms} <- Processes, M <- Ms]),
               suspended_us => case Processes of [] -> 0; _ -> Suspended end,
               watcher => Watcher}, EnvBefore, started(Beside)};
        {Why, Beside} ->
            Restored = restore(Processes, Changed, Changes, EnvBefore, Why),
            gatling_processes:resume(Processes),
            stop_beside(Changes, Beside),
            Watcher ! stop,
            throw(Restored)
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
    gatling_config:take_back(Changes, EnvBefore),
    Loaded = [{M, Old} || {M, Old, _} <- Changed, erlang:module_loaded(M),
                          M:module_info(md5) =/= gatling_release:md5(Old)],
    case gatling_code:purge([M || {M, _} <- Loaded]) of
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
afterwards(#{removed := Removed, children := Children} = Changes, EnvBefore) ->
    Failed = lists:append([change_children(C) || {_, _, [_ | _]} = C <- Children]),
    Told = gatling_config:tell(Changes, EnvBefore),
    %% nobody needs these any more: what used them has just been changed
    stop_applications(maps:get(apps_removed, Changes)),
    lists:foreach(fun gatling_code:remove/1, Removed),
    Failed ++ Told.

%% ---------------------------------------------------------------- children

%% Start what is new, except where something else goes: that may hold a name or a port. At once, since
%% the new code may ask for it already. In a process of its own, whose end tells what failed.
start_beside(#{children := Children, from := From, to := To, touched := Touched}) ->
    spawn_monitor(fun() ->
                          Failed = lists:append([change_children(C) || {_, _, []} = C <- Children]),
                          ok = gatling_code:follow(From, To, Touched),
                          exit({started, Failed})
                  end).

%% The directories of the applications that change, before their code does: what a new child reads of
%% its priv must be there when it starts.
move(Where, #{touched := Touched} = Changes) ->
    #{apps := Apps} = maps:get(Where, Changes),
    gatling_code:move([A || #{name := Name} = A <- Apps, lists:member(Name, Touched)]).

started({P, Ref}) ->
    receive
        {'DOWN', Ref, process, P, {started, Failed}} -> Failed;
        {'DOWN', Ref, process, P, Why} -> [{<<"after the switch">>, gatling_processes:text(Why)}]
    end.

stop_beside(_, none) ->
    ok;
stop_beside(#{children := Children, from := From, to := To, touched := Touched}, Beside) ->
    _ = started(Beside),
    _ = [change_children({Path, [], [Id || #{id := Id} <- Start]}) || {Path, Start, []} <- Children],
    gatling_code:follow(To, From, Touched).

%% Gives what failed, as [{Child, Why}].
change_children({Path, Start, Stop}) ->
    try
        Supervisor = gatling_tree:find(Path),
        Stopped = [{Id, R} || Id <- Stop, R <- [stop_child(Supervisor, Id)], R =/= ok],
        Started = [{Id, R} || #{id := Id} = Spec <- Start, {error, R} <- [start_child(Supervisor, Spec)]],
        [{gatling_processes:text(Id), gatling_processes:why_not_started(Why)} || {Id, Why} <- Stopped ++ Started]
    catch
        throw:Missing -> [{gatling_processes:text(Path), gatling_processes:text(Missing)}]
    end.

%% One that is there already is what is wanted; one with its name elsewhere is not.
start_child(Supervisor, #{id := Id} = Spec) ->
    case supervisor:start_child(Supervisor, Spec) of
        {error, {already_started, P}} = Error ->
            case lists:keyfind(Id, 1, supervisor:which_children(Supervisor)) of
                {Id, P, _, _} -> ok;
                _ -> Error
            end;
        Result ->
            Result
    end.

stop_child(Supervisor, Id) ->
    case supervisor:terminate_child(Supervisor, Id) of
        ok -> supervisor:delete_child(Supervisor, Id);
        {error, not_found} -> ok;
        Error -> Error
    end.

note(#{label := Label, from := From, now_ms := Now}) ->
    case length(chain()) of
        0 -> link(1, {From, undefined}), link(2, {Label, Now});
        Length -> link(Length + 1, {Label, Now})
    end.

%% Each in a term of its own: to change one would make the emulator look through all processes.
link(Number, Release) -> persistent_term:put({gatling, chain, Number}, Release).
