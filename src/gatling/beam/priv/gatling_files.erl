%% Files of two releases that are no code: native libraries, what applications bring in priv, and
%% what was laid beside them (overlays).
-module(gatling_files).

-export([priv/2, native/1, data/1, assets/1, overlays/3, identity/1]).
-export_type([change/0]).

%% The files in an application's priv that are not the same in both releases, relative to the two
%% directories.
-type change() :: #{name := gatling_types:app_name(),
                    old := string(),
                    new := string(),
                    files := [{string(), removed | added | changed}]}.

%% In priv: what is served, what is compiled in, what only migrations and generators read.
-define(NOT_AT_START, ["static", "gettext", "templates"]).
%% At the top of a release: what every one has.
-define(USUAL, ["bin", "lib", "releases"]).
%% In this process, and with no time converted to that of a calendar.
-define(RAW, [raw, {time, posix}]).

%% The applications whose priv differs. Each directory is listed once, and no file is opened that is
%% the same inode in both releases: each deployment compares all applications, twice.
-spec priv([{gatling_types:app(), gatling_types:app()}], gatling_types:files()) -> [change()].
priv([], _) ->
    [];
priv([{_, #{directory := Directory}} | _] = Apps, Differing) ->
    Within = in_priv(filename:dirname(Directory) ++ "/", maps:keys(Differing)),
    [#{name => A, old => Old, new => New, files => Files}
     || {#{directory := Before}, #{name := A, directory := Now}} <- Apps,
        Old <- [filename:join(Before, "priv")], New <- [filename:join(Now, "priv")],
        Files <- [differing(Old, New, maps:get(filename:basename(Now), Within, []))],
        Files =/= []].

%% Of some files, those in the priv of a directory in `Lib`: by the names of these directories, and
%% relative to priv.
-spec in_priv(Lib :: string(), [string()]) -> #{string() => [string()]}.
in_priv(Lib, Paths) ->
    lists:foldl(
      fun({Directory, File}, Found) ->
              Found#{Directory => [File | maps:get(Directory, Found, [])]}
      end, #{},
      [{Directory, File} || Path <- Paths, lists:prefix(Lib, Path),
                            Relative <- [lists:nthtail(length(Lib), Path)],
                            [Directory, File] <- [string:split(Relative, "/priv/")]]).

%% Native libraries in priv that are new, gone or changed: a loaded one cannot be replaced.
-spec native([change()]) -> [{gatling_types:app_name(), binary()}].
native(Changes) ->
    [{A, gatling_release:text(F)}
     || #{name := A, old := Old, new := New, files := Files} <- Changes,
        {F, _} <- lists:sort(Files),
        is_native(filename:join(Old, F)) orelse is_native(filename:join(New, F))].

-spec is_native(string()) -> boolean().
is_native(File) ->
    case file:open(File, [read, binary, raw]) of
        {ok, Handle} ->
            Head = file:read(Handle, 4),
            ok = file:close(Handle),
            Head =:= {ok, <<16#7f, "ELF">>};
        {error, _} ->
            false
    end.

%% Files in priv that a process may have read when it started, as [{App, File}].
-spec data([change()]) -> [{gatling_types:app_name(), binary()}].
data(Changes) ->
    [{A, gatling_release:text(F)} || #{name := A, new := New, files := Files} <- Changes,
                                     {F, _} <- Files,
                                     is_read_at_start(filename:split(F)),
                                     not is_native(filename:join(New, F))].

%% The applications that differ by more than the manifest that phx.digest rewrites each time, with
%% the time.
-spec assets([change()]) -> [gatling_types:app_name()].
assets(Changes) ->
    [A || #{name := A, files := Files} <- Changes,
          lists:any(fun({F, How}) ->
                            How =/= changed orelse filename:basename(F) =/= "cache_manifest.json"
                    end, Files)].

-spec is_read_at_start([string(), ...]) -> boolean().
is_read_at_start([Top | Rest]) ->
    not (lists:member(Top, ?NOT_AT_START) orelse lists:member("migrations", Rest)
         orelse Rest =/= [] andalso lists:suffix("repo", Top)).

%% Files beside what every release has, relative to its root, that are not the same in both.
-spec overlays(gatling_types:release(), gatling_types:release(), gatling_types:files()) ->
          [binary()].
overlays(#{root := Old} = OldRelease, #{root := New} = NewRelease, Differing) ->
    Tops = lists:usort(tops(OldRelease) ++ tops(NewRelease)),
    [gatling_release:text(F)
     || Top <- Tops,
        F <- differing_at(filename:join(Old, Top), filename:join(New, Top), Top, Differing)].

-spec tops(gatling_types:release()) -> [string()].
tops(#{root := Root}) ->
    {ok, Names} = file:list_dir(Root),
    [N || N <- Names, not lists:member(N, ?USUAL), not lists:prefix("erts-", N)].

-spec differing_at(string(), string(), Top :: string(), gatling_types:files()) -> [string()].
differing_at(Old, New, Top, Differing) ->
    Prefix = New ++ "/",
    case {filelib:is_dir(Old), filelib:is_dir(New)} of
        {false, false} ->
            [Top || is_map_key(New, Differing), not same_file(Old, New)];
        _ ->
            Within = [lists:nthtail(length(Prefix), F)
                      || F <- maps:keys(Differing), lists:prefix(Prefix, F)],
            [filename:join(Top, F) || {F, _} <- differing(Old, New, Within)]
    end.

%% The files below two directories that are not the same, relative to them. `Within` are those of
%% the new one that are not the same inode in the old one: these may have the same content. A
%% file behind a link may differ although the link is the same inode.
-spec differing(string(), string(), Within :: [string()]) ->
          [{string(), removed | added | changed}].
differing(Old, New, Within) ->
    {OldFiles, _} = files(Old),
    {NewFiles, Linked} = files(New),
    [{F, removed} || F <- ordsets:subtract(OldFiles, NewFiles)]
        ++ [{F, added} || F <- ordsets:subtract(NewFiles, OldFiles)]
        ++ [{F, changed} || F <- lists:usort(Within ++ Linked),
                            ordsets:is_element(F, OldFiles), ordsets:is_element(F, NewFiles),
                            not same_file(filename:join(Old, F), filename:join(New, F))].

-spec same_file(string(), string()) -> boolean().
same_file(A, B) ->
    case {identity(A), identity(B)} of
        {Same, Same} -> true;
        {{_, _, Size}, {_, _, Size}} -> file:read_file(A) =:= file:read_file(B);
        _ -> false
    end.

%% Releases share equal files as hard links: one inode is one content.
-spec identity(string()) -> {Device :: term(), Inode :: term(), Size :: term()}.
identity(File) ->
    case file:read_file_info(File, ?RAW) of
        {ok, Info} -> {element(10, Info), element(12, Info), element(2, Info)};
        {error, _} -> {none, File, none}
    end.

%% All files below a directory, relative to it, and those of them that are, or are in, links.
%% filelib:wildcard/2 takes ten times as long.
-spec files(string()) -> {ordsets:ordset(string()), Linked :: [string()]}.
files(Directory) ->
    {_, IsLink} = kind(Directory),
    {Files, Linked} = files(Directory, "", IsLink, {[], []}),
    {ordsets:from_list(Files), Linked}.

-spec files(string(), Within :: string(), IsLink :: boolean(), Found) -> Found
              when Found :: {[string()], Linked :: [string()]}.
files(Directory, Within, IsLink, Found) ->
    case file:list_dir(Directory) of
        {ok, Names} ->
            lists:foldl(fun(Name, Before) ->
                                below(Directory ++ "/" ++ Name, Within ++ Name, IsLink, Before)
                        end, Found, Names);
        {error, _} ->
            Found
    end.

-spec below(string(), Within :: string(), IsLink :: boolean(), Found) -> Found
              when Found :: {[string()], Linked :: [string()]}.
below(Path, Within, InLink, {Files, Linked} = Found) ->
    case kind(Path) of
        {directory, IsLink} -> files(Path, Within ++ "/", InLink orelse IsLink, Found);
        {regular, false} when not InLink -> {[Within | Files], Linked};
        {regular, _} -> {[Within | Files], [Within | Linked]};
        _ -> Found
    end.

%% The type of a file, or of what a link leads to, as in #file_info{}; and whether it is a link.
-spec kind(string()) -> {Type :: atom(), IsLink :: boolean()}.
kind(Path) ->
    case type(file:read_link_info(Path, ?RAW)) of
        symlink -> {type(file:read_file_info(Path, ?RAW)), true};
        Type -> {Type, false}
    end.

-spec type({ok, file:file_info()} | {error, term()}) -> atom().
type({ok, Info}) -> element(3, Info);
type({error, _}) -> none.
