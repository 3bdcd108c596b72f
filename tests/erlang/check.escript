#!/usr/bin/env escript
%% Checks the Erlang that Gatling runs in nodes: `check.escript SOURCES CACHE MODULE…`.
%%
%% The compiler runs with all warnings as errors and wants a -spec for every function. xref looks for
%% calls of functions that do not exist and for functions that nothing calls. Dialyzer checks the types.
%% What it knows of OTP (its PLT) is built once for each version and kept in the directory CACHE: the
%% modules that are named, and those whose types they have in their specifications.

%% Modules of Elixir and of optional applications of OTP, which may not be installed.
-define(ELSEWHERE, ["Elixir.", "mnesia"]).
%% What dialyzer knows; the compiler would double the time that it takes to prepare.
-define(KNOWN, [erts, kernel, stdlib]).
-define(COMPILER, [debug_info, return, warnings_as_errors, warn_unused_vars, warn_missing_spec,
                   warn_missing_spec_all, warn_export_vars, warn_obsolete_guard]).

main([Sources, Cache | Names]) ->
    Files = filelib:wildcard(filename:join(Sources, "*.erl")),
    Directory = temporary(),
    Found = try
                case lists:append([compiled(F, Directory) || F <- Files]) of
                    [] -> crossed(Directory) ++ typed(Directory, plt(Cache, Names));
                    Warnings -> Warnings
                end
            after
                file:del_dir_r(Directory)
            end,
    [io:format("~ts~n", [string:trim(Line)]) || Line <- Found],
    halt(case Found of [] -> 0; _ -> 1 end).

temporary() ->
    Name = "gatling-erlang-" ++ os:getpid(),
    Directory = filename:join(os:getenv("TMPDIR", "/tmp"), Name),
    ok = file:make_dir(Directory),
    Directory.

%% ---------------------------------------------------------------- the compiler

compiled(File, Directory) ->
    case compile:file(File, [{outdir, Directory} | ?COMPILER]) of
        {ok, _, []} -> too_long(File);
        {ok, _, Warnings} -> messages(Warnings);
        {error, Errors, Warnings} -> messages(Errors ++ Warnings)
    end.

messages(Files) -> [message(File, Message) || {File, Messages} <- Files, Message <- Messages].

message(File, {Where, Module, What}) ->
    io_lib:format("~ts:~ts: ~ts", [File, place(Where), Module:format_error(What)]);
message(File, {Module, What}) ->
    io_lib:format("~ts: ~ts", [File, Module:format_error(What)]).

place({Line, _}) -> integer_to_list(Line);
place(Line) when is_integer(Line) -> integer_to_list(Line);
place(none) -> "0".

too_long(File) ->
    {ok, Text} = file:read_file(File),
    Lines = string:split(unicode:characters_to_list(Text), "\n", all),
    [io_lib:format("~ts:~b: longer than 100 characters", [File, N])
     || {N, Line} <- lists:zip(lists:seq(1, length(Lines)), Lines), length(Line) > 100].

%% ---------------------------------------------------------------- xref

crossed(Directory) ->
    {ok, _} = xref:start(gatling),
    ok = xref:set_default(gatling, [{warnings, false}, {verbose, false}]),
    ok = xref:set_library_path(gatling, [filename:join(code:lib_dir(A), "ebin")
                                         || A <- [compiler | ?KNOWN]]),
    {ok, _} = xref:add_directory(gatling, Directory),
    {ok, Calls} = xref:analyze(gatling, undefined_function_calls),
    {ok, Unused} = xref:analyze(gatling, locals_not_used),
    xref:stop(gatling),
    [io_lib:format("~tp calls ~tp, which does not exist", [Caller, Called])
     || {Caller, {M, F, A} = Called} <- Calls,
        not is_elsewhere(M),
        not erlang:is_builtin(M, F, A),
        not is_preloaded(M, F, A)]
        ++ [io_lib:format("nothing calls ~tp", [Function]) || Function <- Unused].

is_elsewhere(Module) ->
    lists:any(fun(Prefix) -> lists:prefix(Prefix, atom_to_list(Module)) end, ?ELSEWHERE).

%% Some systems have no files of the modules that are in the emulator itself.
is_preloaded(M, F, A) ->
    lists:member(M, erlang:pre_loaded()) andalso erlang:function_exported(M, F, A).

%% ---------------------------------------------------------------- dialyzer

%% The file is written under another name first: two checks may need it at the same time.
plt(Cache, Names) ->
    Erts = erlang:system_info(version),
    Plt = filename:join(Cache, io_lib:format("erts-~ts-~.16b.plt", [Erts, erlang:phash2(Names)])),
    case filelib:is_regular(Plt) of
        true ->
            Plt;
        false ->
            io:format(standard_error, "gatling: preparing dialyzer for this OTP, once~n", []),
            ok = filelib:ensure_dir(Plt),
            Making = lists:flatten([Plt, ".", os:getpid()]),
            _ = dialyzer:run([{analysis_type, plt_build},
                              {output_plt, Making},
                              {files, known(Names)}]),
            ok = file:rename(Making, Plt),
            Plt
    end.

%% The files of the modules of OTP among these names, and of those whose types they use.
known(Names) ->
    Files = maps:from_list([{filename:basename(F, ".beam"), F}
                            || A <- ?KNOWN,
                               F <- filelib:wildcard(code:lib_dir(A) ++ "/ebin/*.beam")]),
    Named = [Name || Name <- Names, is_map_key(Name, Files)],
    Types = [atom_to_list(M) || Name <- Named, M <- remote(forms(maps:get(Name, Files)))],
    maps:values(maps:with(Named ++ Types, Files)).

forms(File) ->
    {ok, {_, [{abstract_code, {_, Forms}}]}} = beam_lib:chunks(File, [abstract_code]),
    [Form || {attribute, _, What, _} = Form <- Forms,
             lists:member(What, [spec, callback, type, opaque])].

remote({remote_type, _, [{atom, _, Module} | Rest]}) -> [Module | remote(Rest)];
remote(Tuple) when is_tuple(Tuple) -> remote(tuple_to_list(Tuple));
remote([Head | Tail]) -> remote(Head) ++ remote(Tail);
remote(_) -> [].

typed(Directory, Plt) ->
    Warnings = dialyzer:run([{analysis_type, succ_typings},
                             {init_plt, Plt},
                             {files_rec, [Directory]},
                             {warnings, [unmatched_returns]}]),
    [dialyzer:format_warning(W, [{filename_opt, fullpath}])
     || {Tag, _, _} = W <- Warnings, Tag =/= warn_unknown].
