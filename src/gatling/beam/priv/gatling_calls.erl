%% Calls that a swap would break. A process that is in the midst of code goes on in it when that code is
%% exchanged; but what it calls by its full name is looked for in the new code, and may be gone there.
-module(gatling_calls).

-export([of_gone/2, await/2, inside/1, with_whole_stacks/1, stack/1]).

-define(FRAMES, 1000).

%% Which of these modules, as their files are, call functions that go: [{Module, {M, F, Arity}}], with
%% one such function each.
of_gone([], _) ->
    [];
of_gone(Gone, Files) ->
    Known = maps:from_keys(Gone, true),
    [{M, Call} || {M, File} <- Files, {value, Call} <- [first(Known, calls(File))]].

first(Known, Calls) -> lists:search(fun(C) -> is_map_key(C, Known) end, Calls).

%% What a module calls by its full name, and the functions that it hands over by that (&M.f/1).
calls(File) ->
    {ok, {_, Chunks}} = beam_lib:chunks(File, [imports, "LitT"], [allow_missing_chunks]),
    {imports, Imports} = lists:keyfind(imports, 1, Chunks),
    Imports ++ case lists:keyfind("LitT", 1, Chunks) of
                   {_, Literals} when is_binary(Literals) -> named(gatling_release:literals(Literals), []);
                   _ -> []
               end.

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

%% Wait until no process is in the midst of such a module; throws {calls, Text} when the time is up.
await([], _) ->
    ok;
await(Callers, Deadline) ->
    case inside(Callers) of
        [] ->
            ok;
        Busy ->
            case erlang:monotonic_time(millisecond) < Deadline of
                true ->
                    timer:sleep(10),
                    await(Callers, Deadline);
                false ->
                    throw({calls, Busy})
            end
    end.

%% Who is in the midst of such a module, in words; of the first three.
inside([]) ->
    [];
inside(Callers) ->
    Modules = maps:from_list(Callers),
    Found = with_whole_stacks(
              fun() -> [{P, M} || P <- erlang:processes(), P =/= self(),
                                  {value, M} <- [first(Modules, stack(P))]] end),
    [begin
         {Name, _} = gatling_processes:describe(P),
         {Module, Function, Arity} = maps:get(M, Modules),
         iolist_to_binary([Name, " is in ", gatling_processes:text(M), ", which calls ",
                           gatling_processes:text(Module), $., atom_to_binary(Function), $/,
                           integer_to_binary(Arity), "; that is gone"])
     end || {P, M} <- lists:sublist(Found, 3)].

%% The modules of whose functions a process is in the midst.
stack(P) ->
    case process_info(P, current_stacktrace) of
        {current_stacktrace, Stack} -> [M || {M, _, _, _} <- Stack];
        undefined -> []
    end.

%% The emulator tells the uppermost eight calls of a stack, if it is not told otherwise.
with_whole_stacks(Fun) ->
    Before = erlang:system_flag(backtrace_depth, ?FRAMES),
    try Fun()
    after erlang:system_flag(backtrace_depth, Before)
    end.
