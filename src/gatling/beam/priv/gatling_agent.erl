%% Gatling's questions to the running node: how two releases differ, what a swap would meet here,
%% which releases the node went through. Changes nothing; gatling_swap does that. Loaded into the
%% node by Gatling.
%%
%% A request is a map: old, new (roots), files (see gatling_release:compare/3), direction (up |
%% down) and answers (none | {OldFile, NewFile} of gatling_planner).
-module(gatling_agent).

-export([inspect/1, await_watch/2, restore_crashed/1, keep/1, chain/0, clients/1]).
-export([changes/1, callbacks/1, chain_of/1]).

-type report() :: #{atom() => term()}.
-type chain() :: [{Label :: binary(), UnixMilliseconds :: integer() | undefined}].
-type busy() :: {busy, gatling_guard:announcement()}.

%% How the two releases differ, and what a swap would meet in this node: code that is not what the
%% records say, processes in code from before the last swap, processes to suspend and their
%% memory.
-spec inspect(gatling_types:request()) -> {ok, report()} | busy().
inspect(Request) -> unless_busy(fun() -> inspected(Request) end).

%% While a swap is under way nothing that could be said would stay true.
-spec unless_busy(fun(() -> Result)) -> {ok, Result} | busy().
unless_busy(Fun) ->
    case gatling_guard:current() of
        none -> {ok, Fun()};
        Busy -> {busy, Busy}
    end.

-spec inspected(gatling_types:request()) -> report().
inspected(Request) ->
    case compared(Request) of
        #{erts := same} = Compared ->
            Changes = changes(Compared, Request),
            #{changed := Changed, added := Added, removed := Removed} = Changes,
            Known = [M || {M, _, _} <- Changed],
            Started = started(Compared, Changes),
            Processes = gatling_processes:affected(erlang:processes(), callbacks(Changes)),
            Trees = gatling_asks:trees(Compared, gatling_setup:supervisors(Started)),
            Modules = gatling_asks:modules(Compared),
            Again = asked_again(Request, [Trees, Modules, maps:get(config_files, Compared)]),
            (maps:without([apps, sources], Compared))#{
                      callers => calls(maps:get(callers, Compared)),
                      broken => calls(maps:get(broken, Compared)),
                      setup => setup(Compared, Changes, Started),
                      asks_trees => Trees,
                      asks_modules => Modules,
                      drift => gatling_code:drift(Changed, Added),
                      lingering => gatling_code:lingering(Known ++ [M || {M, _} <- Added]),
                      processes => gatling_processes:count([M || {_, Ms} <- Processes, M <- Ms]),
                      holding => [Held || not Again, Held <- gatling_code:holding(Known)],
                      orphans => orphans(Changes),
                      kept => [{M, gatling_text:term(Where)}
                               || {M, Where} <- gatling_code:kept(Known ++ Removed)],
                      memory => lists:sum([gatling_processes:memory(P) || {P, _} <- Processes]),
                      pages => gatling_pages:open(),
                      env => gatling_config:report(Changes, planned(env, Request)),
                      modules => planned(modules, Request),
                      trees => trees_report(Request)};
        Compared ->
            Compared
    end.

%% Whether this node is certain to be inspected once more, with the answers of throw-away nodes. To
%% look into the states of processes is left for then: it waits for those that are busy.
-spec asked_again(gatling_types:request(), [[term()]]) -> boolean().
asked_again(#{answers := none}, Questions) -> lists:append(Questions) =/= [];
asked_again(_, _) -> false.

-spec calls([{module(), mfa()}]) -> [{module(), binary()}].
calls(Calls) -> [{Caller, gatling_text:function(Called)} || {Caller, Called} <- Calls].

%% The running parts that the new release would have set up differently.
-spec setup(gatling_release:comparison(), gatling_types:changes(), gatling_setup:started()) ->
          [gatling_setup:difference()].
setup(#{sources := {Old, New}, application_modules := Applications}, Changes, Started) ->
    gatling_setup:changes(#{old => Old,
                            new => New,
                            applications => Applications,
                            touched => touched(Changes),
                            started => Started}).

-spec started(gatling_release:comparison(), gatling_types:changes()) -> gatling_setup:started().
started(#{sources := {Old, New}}, Changes) -> gatling_setup:started(Old, New, touched(Changes)).

-spec touched(gatling_types:changes()) -> [module()].
touched(#{changed := Changed, added := Added, removed := Removed}) ->
    [M || {M, _, _} <- Changed] ++ [M || {M, _} <- Added] ++ Removed.

%% Processes of modules that are gone, but for those that are stopped with their supervisors.
-spec orphans(gatling_types:changes()) -> [{module(), [gatling_processes:described()]}].
orphans(#{removed := Removed, children := Children}) ->
    Doomed = lists:append([gatling_children:descendants(Path, Stop)
                           || {Path, _, Stop} <- Children]),
    [{M, [gatling_processes:describe(P)]} || {P, Ms} <- gatling_processes:running(Removed),
                                             not lists:member(P, Doomed), M <- Ms].

%% The releases that this node went through: [{Label, Unix time in ms}]. The first has no time.
-spec chain() -> {ok, chain()} | busy().
chain() -> unless_busy(fun() -> chain_of(1) end).

-spec chain_of(pos_integer()) -> chain().
chain_of(Number) ->
    case persistent_term:get({gatling, chain, Number}, none) of
        none -> [];
        Release -> [Release | chain_of(Number + 1)]
    end.

%% The connections that are open to a port of this node and last: something has been sent over
%% them. A request that waits for its answer is none; the proxy opens a connection for each.
-spec clients(inet:port_number()) -> [{port(), Owner :: pid()}].
clients(Port) ->
    [{C, Owner} || C <- erlang:ports(), {name, "tcp_inet"} =:= erlang:port_info(C, name),
                   {ok, {_, P}} <- [inet:sockname(C)], P =:= Port, {ok, _} <- [inet:peername(C)],
                   {ok, [{send_cnt, N}]} <- [inet:getstat(C, [send_cnt])], N > 0,
                   {connected, Owner} <- [erlang:port_info(C, connected)]].

%% The two ends of a watch: the states from before the swap are given back, or forgotten.
-spec restore_crashed(pid()) -> non_neg_integer().
restore_crashed(Watcher) -> gatling_watch:restore_crashed(Watcher).

-spec keep(pid()) -> ok.
keep(Watcher) ->
    Watcher ! stop,
    ok.

-spec await_watch(pid(), non_neg_integer()) -> gatling_watch:seen().
await_watch(Watcher, Milliseconds) -> gatling_watch:await(Watcher, Milliseconds).

-spec compared(gatling_types:request()) -> gatling_release:comparison().
compared(#{old := Old, new := New, files := Files}) -> gatling_release:compare(Old, New, Files).

%% ---------------------------------------------------------------- what is to be done

%% Files, versions, environment, children: everything that the steps of a swap need.
-spec changes(gatling_types:request()) -> gatling_types:changes().
changes(Request) -> changes(compared(Request), Request).

-spec changes(gatling_release:comparison(), gatling_types:request()) -> gatling_types:changes().
changes(#{changed := Changed, added := Added, removed := Removed} = Compared,
        #{old := Old, new := New} = Request) ->
    {Set, Delete} = gatling_config:changes(planned(env, Request)),
    Touched = [A || #{app := A} <- Changed ++ Added ++ Removed]
        ++ [A || {A, _, _, _} <- maps:get(versions, Compared)] ++ maps:get(priv, Compared)
        ++ maps:get(app_files, Compared)
        ++ [A || {A, _, _} <- Set] ++ [A || {A, _} <- Delete],
    #{changed => [{M, file(O), file(F)}
                  || #{module := M, file := F, old := #{file := O}} <- Changed],
      added => [{M, file(F)} || #{module := M, file := F} <- Added],
      removed => [M || #{module := M} <- Removed],
      migrate => [{M, V2, V}
                  || #{module := M, version := V, old := #{version := V2} = B} = A <- Changed,
                     maps:get(code_change, A) orelse maps:get(code_change, B),
                     not is_supervisor(A)],
      callers => maps:get(callers, Compared),
      apps_added => maps:get(apps_added, Compared),
      %% dependencies first, as those that are added
      apps_removed => gatling_application:ordered(
                        [App || #{name := A} = App <- maps:get(apps, gatling_release:read(Old)),
                                lists:member(A, maps:get(apps_removed, Compared))]),
      touched => lists:usort(Touched) -- [undefined],
      env_set => Set, env_delete => Delete,
      children => [{Path, [gatling_pack:unpack(S) || S <- Start], Stop}
                   || {Path, #{start := Start, stop := Stop}} <- tree_changes(Request)],
      from => place(Old, Compared), to => place(New, Compared)}.

%% The node's view of a release's place: the applications are those that both releases have.
-spec place(gatling_types:path(), gatling_release:comparison()) -> gatling_types:place().
place(Root, #{apps := Common}) ->
    #{root := Path, version := Version, apps := Apps} = Release = gatling_release:read(Root),
    Names = [A || #{name := A} <- Common],
    #{root => Path, version => Version, consolidated => gatling_release:consolidated(Release),
      apps => [App || #{name := A} = App <- Apps, lists:member(A, Names)]}.

-spec file(binary() | string()) -> string().
file(Path) -> unicode:characters_to_list(Path).

%% Children of supervisors are changed through their own interface; `init/1` runs at a restart
%% only.
-spec is_supervisor(gatling_types:beam()) -> boolean().
is_supervisor(#{behaviours := Behaviours}) ->
    lists:member('Elixir.Supervisor', Behaviours) orelse lists:member(supervisor, Behaviours).

-spec callbacks(gatling_types:changes()) -> gatling_types:callbacks().
callbacks(#{migrate := Modules}) -> maps:from_list([{M, {Old, New}} || {M, Old, New} <- Modules]).

-spec tree_changes(gatling_types:request()) ->
          [{gatling_types:child_path(), gatling_tree:difference()}].
tree_changes(Request) ->
    {Old, New} = planned(trees, Request),
    [{{App, maps:get(path, D)}, D} || {App, {ok, NewTree}} <- New,
                                      {_, {ok, OldTree}} <- [lists:keyfind(App, 1, Old)],
                                      D <- gatling_tree:diff(OldTree, NewTree)].

-spec trees_report(gatling_types:request()) ->
          [#{app := gatling_types:app_name(), atom() => term()}].
trees_report(Request) ->
    {Old, New} = planned(trees, Request),
    Text = fun gatling_text:term/1,
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
            || {App, {ok, Tree}} <- Old, {Path, Id} <- gatling_children:missing(App, Tree)].

%% The answers that gatling_planner wrote in a node of either release.
-spec planned(env | modules | trees, gatling_types:request()) -> {list(), list()}.
planned(Key, #{answers := {OldFile, NewFile}}) -> {answer(Key, OldFile), answer(Key, NewFile)};
planned(_, #{answers := none}) -> {[], []}.

-spec answer(env | modules | trees, gatling_types:path()) -> list().
answer(Key, File) ->
    {ok, Binary} = file:read_file(File),
    maps:get(Key, binary_to_term(Binary)).
