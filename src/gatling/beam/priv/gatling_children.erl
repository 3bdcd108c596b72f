%% The children of running supervisors: found, started and stopped.
-module(gatling_children).

-export([missing/2, descendants/2, change/1, supervisors/1]).

%% Start and stop children of one supervisor. Gives those that failed, with the reason.
-spec change({gatling_types:child_path(), [gatling_types:child()], [Id :: term()]}) ->
          gatling_types:failed().
change({Path, Start, Stop}) ->
    try
        Supervisor = find(Path),
        Stopped = [{Id, R} || Id <- Stop, R <- [stop_child(Supervisor, Id)], R =/= ok],
        Started = [{Id, R} || #{id := Id} = Spec <- Start,
                              {error, R} <- [start_child(Supervisor, Spec)]],
        [{gatling_text:term(Id), gatling_why:why_not_started(Why)}
         || {Id, Why} <- Stopped ++ Started]
    catch
        throw:Missing -> [{gatling_text:term(Path), gatling_text:term(Missing)}]
    end.

%% A child that already runs below this supervisor is no failure. A process that has its name but
%% runs elsewhere is one.
-spec start_child(pid(), gatling_types:child()) -> ok | supervisor:startchild_ret().
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

-spec stop_child(pid(), Id :: term()) -> ok | {error, term()}.
stop_child(Supervisor, Id) ->
    case supervisor:terminate_child(Supervisor, Id) of
        ok -> supervisor:delete_child(Supervisor, Id);
        {error, not_found} -> ok;
        Error -> Error
    end.

%% ---------------------------------------------------------------- finding

%% The running supervisor at a path. Throws when there is none.
-spec find(gatling_types:child_path()) -> pid().
find({App, Ids}) ->
    case application_controller:get_master(App) of
        Master when is_pid(Master) ->
            {Top, _} = application_master:get_child(Master),
            lists:foldl(fun below/2, Top, Ids);
        _ ->
            throw({not_running, App})
    end.

%% The running supervisors on the way to a path, as far as there are.
-spec supervisors(gatling_types:child_path()) -> [pid()].
supervisors({App, Ids}) ->
    try [find({App, lists:sublist(Ids, N)}) || N <- lists:seq(0, length(Ids))]
    catch throw:_ -> []
    end.

-spec below(Id :: term(), pid()) -> pid().
below(Id, Supervisor) ->
    case lists:keyfind(Id, 1, supervisor:which_children(Supervisor)) of
        {Id, P, _, _} when is_pid(P) -> P;
        _ -> throw({no_child, Id})
    end.

%% ---------------------------------------------------------------- what runs

%% Children of a tree that the running application does not have. If there are any, start/2 does
%% not start the tree. Temporary children may have ended, and other children may have been started
%% by hand.
-spec missing(gatling_types:app_name(), gatling_tree:tree()) ->
          [{gatling_tree:path(), Id :: term()}].
missing(App, Tree) ->
    [{Path, Id} || {Path, #{children := Children}} <- lists:sort(maps:to_list(Tree)),
                   Running <- [running({App, Path})],
                   #{id := Id, restart := Restart} <- Children, Restart =/= temporary,
                   not lists:member(Id, Running)].

%% The processes of some children of a supervisor, and of all below them.
-spec descendants(gatling_types:child_path(), [Id :: term()]) -> [pid()].
descendants(Path, Ids) ->
    try lists:append([below(C) || {Id, _, _, _} = C <- supervisor:which_children(find(Path)),
                                  lists:member(Id, Ids)])
    catch throw:_ -> []
    end.

-spec below(tuple()) -> [pid()].
below({_, P, supervisor, _}) when is_pid(P) ->
    [P | lists:append([below(C) || C <- supervisor:which_children(P)])];
below({_, P, _, _}) when is_pid(P) -> [P];
below(_) -> [].

-spec running(gatling_types:child_path()) -> [Id :: term()].
running(Path) ->
    try [Id || {Id, _, _, _} <- supervisor:which_children(find(Path))]
    catch throw:_ -> []
    end.
