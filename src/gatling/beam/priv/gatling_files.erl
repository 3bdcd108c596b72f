%% Files of two releases that are no code: native libraries, what applications bring in priv, and
%% what was laid beside them (overlays).
-module(gatling_files).

-export([native/1, priv_differs/3, data/2, overlays/3, identity/1]).

%% In priv: what is served, what is compiled in, what only migrations and generators read.
-define(NOT_AT_START, ["static", "gettext", "templates"]).
%% At the top of a release: what every one has.
-define(USUAL, ["bin", "lib", "releases"]).

%% Native libraries in priv that are new, gone or changed: a loaded one cannot be replaced.
-spec native([{gatling_types:app(), gatling_types:app()}]) ->
          [{gatling_types:app_name(), binary()}].
native(Apps) ->
    [{A, gatling_release:text(F)} || {#{directory := Old}, #{name := A, directory := New}} <- Apps,
                                     F <- native(Old, New)].

-spec native(string(), string()) -> [string()].
native(OldDir, NewDir) ->
    Old = filename:join(OldDir, "priv"),
    New = filename:join(NewDir, "priv"),
    OldFiles = files(Old),
    NewFiles = files(New),
    [F || F <- lists:usort(OldFiles ++ NewFiles),
          is_native(filename:join(Old, F)) orelse is_native(filename:join(New, F)),
          not (lists:member(F, OldFiles) andalso lists:member(F, NewFiles)
               andalso same_file(filename:join(Old, F), filename:join(New, F)))].

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

%% Whether anything in an application's priv differs.
-spec priv_differs(gatling_types:app(), gatling_types:app(), gatling_types:files()) -> boolean().
priv_differs(Old, New, Differing) -> differing(priv(Old), priv(New), Differing) =/= [].

%% Files in priv that a process may have read when it started, as [{App, File}].
-spec data([{gatling_types:app(), gatling_types:app()}], gatling_types:files()) ->
          [{gatling_types:app_name(), binary()}].
data(Apps, Differing) ->
    [{A, gatling_release:text(F)} || {Old, #{name := A} = New} <- Apps,
                                     F <- differing(priv(Old), priv(New), Differing),
                                     is_read_at_start(filename:split(F)),
                                     not is_native(filename:join(priv(New), F))].

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
    case {filelib:is_dir(Old), filelib:is_dir(New)} of
        {false, false} -> [Top || differs(Old, New, Differing)];
        _ -> [filename:join(Top, F) || F <- differing(Old, New, Differing)]
    end.

%% The files below two directories that are not the same, relative to them.
-spec differing(string(), string(), gatling_types:files()) -> [string()].
differing(Old, New, Differing) ->
    OldFiles = files(Old),
    NewFiles = files(New),
    (OldFiles -- NewFiles) ++ (NewFiles -- OldFiles)
        ++ [F || F <- NewFiles, lists:member(F, OldFiles),
                 differs(filename:join(Old, F), filename:join(New, F), Differing)].

%% Files that are not the same inode may have the same content.
-spec differs(string(), string(), gatling_types:files()) -> boolean().
differs(Old, New, Differing) -> is_map_key(New, Differing) andalso not same_file(Old, New).

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
    case file:read_file_info(File, [raw]) of
        {ok, Info} -> {element(10, Info), element(12, Info), element(2, Info)};
        {error, _} -> {none, File, none}
    end.

-spec priv(gatling_types:app()) -> string().
priv(#{directory := D}) -> filename:join(D, "priv").

-spec files(string()) -> [string()].
files(Directory) ->
    [F || F <- filelib:wildcard("**", Directory), filelib:is_regular(filename:join(Directory, F))].
