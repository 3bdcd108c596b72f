%% Terms on their way between nodes.
%%
%% A compiled regular expression belongs to its node (a reference since OTP 28), so its source
%% travels. Local funs, pids, ports and references cannot travel at all. They are marked.
-module(gatling_pack).

-export([pack/1, unpack/1, opaque/1]).

-spec pack(term()) -> term().
pack(#{'__struct__' := 'Elixir.Regex', source := Source, opts := Options}) ->
    {'$gatling_regex', Source, Options};
pack(Term) when is_map(Term) ->
    maps:from_list([{pack(K), pack(V)} || {K, V} <- maps:to_list(Term)]);
pack([H | T]) ->
    [pack(H) | pack(T)];
pack(Term) when is_tuple(Term) ->
    list_to_tuple([pack(E) || E <- tuple_to_list(Term)]);
pack(Term) when is_function(Term) ->
    case erlang:fun_info(Term, type) of
        {type, external} -> Term;
        {type, local} ->
            %% of the same code it is the same fun, though it cannot be sent
            {module, M} = erlang:fun_info(Term, module),
            {'$gatling_opaque', M, element(2, erlang:fun_info(Term, new_uniq)),
             element(2, erlang:fun_info(Term, new_index)),
             pack(element(2, erlang:fun_info(Term, env)))}
    end;
pack(Term) when is_pid(Term); is_port(Term); is_reference(Term) -> {'$gatling_opaque', handle};
pack(Term) -> Term.

-spec unpack(term()) -> term().
unpack({'$gatling_regex', Source, Options}) -> 'Elixir.Regex':'compile!'(Source, Options);
unpack(Term) when is_map(Term) ->
    maps:from_list([{unpack(K), unpack(V)} || {K, V} <- maps:to_list(Term)]);
unpack([H | T]) -> [unpack(H) | unpack(T)];
unpack(Term) when is_tuple(Term) -> list_to_tuple([unpack(E) || E <- tuple_to_list(Term)]);
unpack(Term) -> Term.

-spec opaque(term()) -> boolean().
opaque(Term) when is_tuple(Term), tuple_size(Term) > 0, element(1, Term) =:= '$gatling_opaque' ->
    true;
opaque(Term) when is_tuple(Term) ->
    opaque(tuple_to_list(Term));
opaque(Term) when is_map(Term) ->
    opaque(maps:to_list(Term));
opaque([H | T]) ->
    opaque(H) orelse opaque(T);
opaque(_) ->
    false.
