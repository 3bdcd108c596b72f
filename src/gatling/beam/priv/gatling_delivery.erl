%% Brings the tree of a release into a pod, beside that which runs. Loaded into the node by Gatling.
%%
%% Files that a tree of the pod has already become hard links, the others are sent. All are
%% compared with those that Gatling has, and only then has the tree its name.
-module(gatling_delivery).

-export([stage/4, put/4, finish/2, point/2, booted/0]).

%% The content is named by its MD5: TLS protects it on its way, and this finds what was damaged.
-type entry() :: {Path :: binary(), directory}
               | {Path :: binary(), link, Target :: binary()}
               | {Path :: binary(), file, Executable :: boolean(), erlang:md5()}.

%% Begin with the files that are here. Gives those that have to be sent, or `there` for a tree that
%% is whole.
%%
%% Trees names the directory of all trees, and Keep those that stay besides this one; the others
%% are removed.
-spec stage(Trees :: binary(), Name :: binary(), Keep :: [binary()], [entry()]) ->
          there | {missing, [binary()]}.
stage(Trees, Name, Keep, Entries) ->
    Tree = filename:join(Trees, Name),
    {ok, Found} = file:list_dir(Trees),
    Here = [unicode:characters_to_binary(F) || F <- Found],
    [ok = file:del_dir_r(filename:join(Trees, F)) || F <- Here -- [Name | Keep]],
    case lists:member(Name, Here) andalso differing(Tree, Entries) =:= [] of
        true ->
            there;
        false ->
            lists:member(Name, Keep) andalso error(damaged),
            lists:member(Name, Here) andalso (ok = file:del_dir_r(Tree)),
            Bases = [filename:join(Trees, F) || F <- Keep, lists:member(F, Here)],
            ok = file:make_dir(staged(Tree)),
            {missing, [Path || Entry <- Entries, Path <- staged(staged(Tree), Bases, Entry)]}
    end.

-spec staged(Tree :: binary()) -> binary().
staged(Tree) -> <<Tree/binary, ".new">>.

-spec staged(Staged :: binary(), Bases :: [binary()], entry()) -> Missing :: [binary()].
staged(Staged, _, {Path, directory}) ->
    ok = file:make_dir(filename:join(Staged, Path)),
    [];
staged(Staged, _, {Path, link, Target}) ->
    ok = file:make_symlink(Target, filename:join(Staged, Path)),
    [];
staged(Staged, Bases, {Path, file, _, _} = Entry) ->
    case [Base || Base <- Bases, same(Base, Entry)] of
        [Base | _] ->
            ok = file:make_link(filename:join(Base, Path), filename:join(Staged, Path)),
            [];
        [] ->
            [Path]
    end.

%% Append to a file that has to be sent.
-spec put(Tree :: binary(), Path :: binary(), Executable :: boolean(), binary()) -> ok.
put(Tree, Path, Executable, Content) ->
    File = filename:join(staged(Tree), Path),
    ok = file:write_file(File, Content, [append]),
    ok = file:change_mode(File, case Executable of true -> 8#755; false -> 8#644 end).

%% Give the tree its name, if the files that were sent are those of Gatling; otherwise the paths
%% that are not.
-spec finish(Tree :: binary(), [entry()]) -> ok | {differs, [binary()]}.
finish(Tree, Entries) ->
    case differing(staged(Tree), Entries) of
        [] -> file:rename(staged(Tree), Tree);
        Paths -> {differs, Paths}
    end.

-spec differing(Tree :: binary(), [entry()]) -> [binary()].
differing(Tree, Entries) -> [element(1, Entry) || Entry <- Entries, not same(Tree, Entry)].

-spec same(Tree :: binary(), entry()) -> boolean().
same(Tree, {Path, directory}) ->
    filelib:is_dir(filename:join(Tree, Path));
same(Tree, {Path, link, Target}) ->
    case file:read_link_all(filename:join(Tree, Path)) of
        {ok, Found} -> unicode:characters_to_binary(Found) =:= Target;
        {error, _} -> false
    end;
same(Tree, {Path, file, Executable, Digest}) ->
    File = filename:join(Tree, Path),
    case file:read_link_info(File) of
        {ok, Info} when element(3, Info) =:= regular ->
            Executable =:= (element(8, Info) band 8#100 =/= 0) andalso digest(File) =:= Digest;
        _ ->
            false
    end.

-spec digest(binary()) -> erlang:md5() | none.
digest(File) ->
    case file:read_file(File) of
        {ok, Content} -> erlang:md5(Content);
        {error, _} -> none
    end.

%% The release that the pod's next start runs.
-spec point(Link :: binary(), Tree :: binary()) -> ok.
point(Link, Tree) ->
    New = <<Link/binary, ".new">>,
    _ = file:delete(New),
    ok = file:make_symlink(Tree, New),
    ok = file:rename(New, Link).

%% The name of the tree that the node was started from.
-spec booted() -> binary().
booted() -> filename:basename(unicode:characters_to_binary(code:root_dir())).
