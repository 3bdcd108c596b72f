%% Calls that a swap would break. A process continues in old code that it is executing when the code
%% is replaced. Its fully qualified calls go to the new code, which may lack the function.
-module(gatling_calls).

-export([of_gone/2, broken/4, await/2, empty/2, last_look/1, is_inside/2, with_whole_stacks/1,
         stack/1]).
-export_type([callers/0]).

-type callers() :: [{module(), mfa()}].
-type inside() :: #{pid() => module()}.

%% The largest number of calls in a stack that the emulator can report.
-define(FRAMES, 64).
%% The largest number that it reports unless it is set to report more.
-define(DEFAULT_FRAMES, 8).

%% The modules whose files call functions that are removed: [{Module, {M, F, Arity}}],
%% with one such function each.
-spec of_gone([mfa()], [{module(), gatling_types:path()}]) -> callers().
of_gone([], _) ->
    [];
of_gone(Gone, Files) ->
    Known = maps:from_keys(Gone, true),
    [{M, Call} || {M, File} <- Files, {value, Call} <- [first(Known, calls(File))]].

%% Modules of the new release that would call what it lacks: [{Module, {M, F, Arity}}]. That is a
%% function which the old release had; or one of the same application that a changed or added
%% module (`Calling`) calls now and did not call before. A call that led nowhere before is none of
%% the change's: libraries name modules of others that need not be there.
-spec broken([mfa()], [{module(), gatling_types:path()}], gatling_types:sources(),
             gatling_types:sources()) ->
          [{module(), mfa()}].
broken(Gone, Calling, Old, New) ->
    Known = maps:from_keys(Gone, true),
    Lost = [{M, Call} || Gone =/= [],
                         {M, File} <- naming(Gone, New),
                         {value, Call} <- [first(Known, calls(File))]],
    Fresh = [{M, Call} || {M, File} <- Calling,
                          not lists:keymember(M, 1, Lost),
                          Call <- new_calls(M, File, Old, New)],
    Called = lists:usort([M || {_, {M, _, _}} <- Fresh]),
    Exports = maps:from_list([{M, gatling_release:exports(File)}
                              || M <- Called, #{M := {_, File}} <- [New]]),
    lists:usort(Lost ++ [{C, Call} || {C, {M, F, A} = Call} <- Fresh,
                                      not lists:member({F, A}, maps:get(M, Exports))]).

%% Modules in whose files such a module is named. To look for names is cheap, to read tables is
%% not.
-spec naming([mfa()], gatling_types:sources()) -> [{module(), string()}].
naming(Gone, Modules) ->
    Pattern = binary:compile_pattern(lists:usort([atom_to_binary(M) || {M, _, _} <- Gone])),
    Names = fun(Text) -> binary:match(Text, Pattern) =/= nomatch end,
    [{M, File} || {M, {App, File}} <- maps:to_list(Modules),
                  not gatling_release:is_runtime(App),
                  {ok, Binary} <- [file:read_file(File)],
                  lists:any(Names, [Binary | literals(Binary)])].

%% They are compressed in most files.
-spec literals(binary()) -> [binary()].
literals(Binary) ->
    case beam_lib:chunks(Binary, ["LitT"], [allow_missing_chunks]) of
        {ok, {_, [{"LitT", <<Size:32, Compressed/binary>>}]}} when Size > 0 ->
            [zlib:uncompress(Compressed)];
        _ -> []
    end.

-spec new_calls(module(), gatling_types:path(), gatling_types:sources(),
                gatling_types:sources()) ->
          [mfa()].
new_calls(M, File, Old, New) ->
    Before = case Old of
                 #{M := {_, OldFile}} -> calls(OldFile);
                 _ -> []
             end,
    #{M := {App, _}} = New,
    [Call || {Called, _, _} = Call <- calls(File) -- Before,
             Called =/= M,
             #{Called := {Same, _}} <- [New],
             Same =:= App].

-spec first(#{Wanted => term()}, [Wanted]) -> {value, Wanted} | false.
first(Known, Calls) -> lists:search(fun(C) -> is_map_key(C, Known) end, Calls).

%% The functions that a module calls by their full names, and those that it hands over so (&M.f/1).
-spec calls(gatling_types:path()) -> [mfa()].
calls(File) ->
    {ok, {_, Chunks}} = beam_lib:chunks(File, [imports, "LitT"], [allow_missing_chunks]),
    {imports, Imports} = lists:keyfind(imports, 1, Chunks),
    case lists:keyfind("LitT", 1, Chunks) of
        {_, Literals} when is_binary(Literals) ->
            Imports ++ named(gatling_release:literals(Literals), []);
        _ ->
            Imports
    end.

-spec named(term(), [mfa()]) -> [mfa()].
named([H | T], Found) -> named(T, named(H, Found));
named(Term, Found) when is_tuple(Term) -> named(tuple_to_list(Term), Found);
named(Term, Found) when is_map(Term) -> named(maps:to_list(Term), Found);
named(Term, Found) when is_function(Term) ->
    case erlang:fun_info(Term, type) of
        {type, external} ->
            [{_, M}, {_, F}, {_, A}] = [erlang:fun_info(Term, K) || K <- [module, name, arity]],
            [{M, F, A} | Found];
        _ ->
            Found
    end;
named(_, Found) -> Found.

%% Wait until each process that executes such a module has been seen outside of it; throws
%% {calls, Texts} when the time is up. Under load there may be no moment at which nobody is inside.
%% The command that asked may have been killed, and others may have inspected the node: then this
%% throws {gone, Text}.
-spec await(callers(), Deadline :: integer()) -> ok.
await(Callers, Deadline) -> await(Callers, Deadline, inside(Callers)).

-spec await(callers(), Deadline :: integer(), inside()) -> ok.
await(Callers, Deadline, Before) ->
    gatling_guard:asked(),
    case inside(Callers, maps:keys(Before)) of
        Still when map_size(Still) =:= 0 ->
            ok;
        Still ->
            erlang:monotonic_time(millisecond) < Deadline
                orelse throw({calls, described(Still, Callers)}),
            timer:sleep(10),
            await(Callers, Deadline, Still)
    end.

%% Wait until no process executes such a module, while no new request can begin. Whether that was
%% so in the end is seen by the last look.
-spec empty(callers(), Until :: integer()) -> ok.
empty(Callers, Until) -> empty(Callers, Until, #{}).

%% To look at all processes takes some time of the requests that are to end.
-spec empty(callers(), Until :: integer(), inside()) -> ok.
empty(Callers, Until, Before) ->
    case left(Callers, maps:keys(Before)) of
        Still when map_size(Still) =:= 0 ->
            ok;
        Still ->
            erlang:monotonic_time(millisecond) >= Until
                orelse begin timer:sleep(1), empty(Callers, Until, Still) end,
            ok
    end.

%% Those that are inside still; when all of these have left, those that have entered it since.
-spec left(callers(), [pid()]) -> inside().
left(Callers, Before) ->
    case inside(Callers, Before) of
        Still when map_size(Still) =:= 0 -> inside(Callers);
        Still -> Still
    end.

%% The processes that execute such a module, in words.
-spec last_look(callers()) -> [binary()].
last_look(Callers) -> described(inside(Callers), Callers).

-spec inside(callers()) -> inside().
inside([]) -> #{};
inside(Callers) -> inside(Callers, erlang:processes()).

-spec inside(callers(), [pid()]) -> inside().
inside(_, []) ->
    #{};
inside(Callers, Pids) ->
    Modules = maps:from_list(Callers),
    maps:from_list(with_whole_stacks(
                     fun() -> [{P, M} || P <- Pids, P =/= self(),
                                         {value, M} <- [first(Modules, stack(P))]] end)).

%% Whether one process does. Another process may be in with_whole_stacks/1 at the same time.
-spec is_inside(pid(), callers()) -> boolean().
is_inside(P, Callers) -> first(maps:from_list(Callers), stack(P, ?DEFAULT_FRAMES)) =/= false.

%% The first three.
-spec described(inside(), callers()) -> [binary()].
described(Inside, Callers) ->
    [iolist_to_binary([gatling_text:name(P), " is in ", gatling_text:term(M), ", which calls ",
                       gatling_text:function(Called), ", which is removed"])
     || {P, M} <- lists:sublist(lists:sort(maps:to_list(Inside)), 3),
        {_, Called} <- [lists:keyfind(M, 1, Callers)]].

%% The modules whose functions a process executes.
-spec stack(pid()) -> [module()].
stack(P) -> stack(P, ?FRAMES).

-spec stack(pid(), Frames :: pos_integer()) -> [module()].
stack(P, Frames) ->
    case process_info(P, current_stacktrace) of
        {current_stacktrace, Stack} when length(Stack) < Frames -> [M || {M, _, _, _} <- Stack];
        {current_stacktrace, _} -> deep(process_info(P, backtrace));
        undefined -> []
    end.

%% As it is printed: `Return addr 0x… ('Elixir.Shop':page/1 + 64)`.
-spec deep({backtrace, binary()} | undefined) -> [module()].
deep({backtrace, Text}) ->
    case re:run(Text, "\\(('[^'\n]+'|[a-z][\\w@]*):", [global, unicode, {capture, [1], binary}]) of
        {match, Found} ->
            [M || [Name] <- lists:usort(Found), M <- existing(string:trim(Name, both, "'"))];
        nomatch ->
            []
    end;
deep(undefined) -> [].

-spec existing(binary()) -> [atom()].
existing(Name) ->
    try [binary_to_existing_atom(Name)]
    catch error:badarg -> []
    end.

%% By default, the emulator reports only the uppermost eight calls of a stack.
-spec with_whole_stacks(fun(() -> Result)) -> Result.
with_whole_stacks(Fun) ->
    Before = case erlang:system_flag(backtrace_depth, ?FRAMES) of
                 ?FRAMES -> ?DEFAULT_FRAMES;
                 Set -> Set
             end,
    try Fun()
    after erlang:system_flag(backtrace_depth, Before)
    end.
