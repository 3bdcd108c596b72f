%% Terms, functions and processes as text for people who read Elixir.
-module(gatling_text).

-export([term/1, function/1, name/1, some/1]).

%% Processes that are named when many fail for the same reason.
-define(NAMED, 3).

%% A term as Elixir people read it.
-spec term(term()) -> binary().
term(Term) ->
    try 'Elixir.Kernel':inspect(Term, [{limit, 50}, {printable_limit, 1000}])
    catch _:_ -> unicode:characters_to_binary(io_lib:format("~0tp", [Term], [{chars_limit, 2000}]))
    end.

-spec name(pid()) -> binary().
name(P) ->
    case process_info(P, registered_name) of
        {registered_name, N} -> term(N);
        _ -> <<(term(P))/binary, (initial_module(P))/binary>>
    end.

%% The module that a process without a name was started as.
-spec initial_module(pid()) -> binary().
initial_module(P) ->
    case process_info(P, dictionary) of
        {dictionary, Dictionary} ->
            case lists:keyfind('$initial_call', 1, Dictionary) of
                {_, {M, _, _}} -> <<" (", (term(M))/binary, ")">>;
                _ -> <<>>
            end;
        undefined ->
            <<>>
    end.

%% As Elixir people write a function: Shop.page/1.
-spec function(mfa()) -> binary().
function({M, F, A}) ->
    iolist_to_binary([term(M), $., atom_to_binary(F), $/, integer_to_binary(A)]).

%% The first of those that failed, each with its reason, and how many more there are.
-spec some([{pid(), Why :: binary()}]) -> [binary()].
some(Failed) ->
    [<<(name(P))/binary, ": ", Why/binary>> || {P, Why} <- lists:sublist(Failed, ?NAMED)]
        ++ [iolist_to_binary(["and ", integer_to_binary(N), " more"])
            || N <- [length(Failed) - ?NAMED], N > 0].
