%% The code of a compiled module's functions, to be compared.
-module(gatling_disasm).

-export([functions/2, name/1]).
-export_type([functions/0, code/0, instruction/0, literals/0]).

-type instruction() :: atom() | tuple().
-type code() :: [instruction() | binary()].
-type functions() :: #{{atom(), arity()} => code()}.
%% Whether literals are left as they are, or without what macros note of where they stand.
-type literals() :: exact | placeless.
-type context() :: {Numbers :: #{pos_integer() => pos_integer()}, Strings :: binary(), literals()}.
-type disassembled() :: {function, atom(), arity(), Entry :: term(), code()}.

%% How many types a module may have noted; most have a few, and a long table takes its time.
-define(TYPES, [256, 8192]).

%% The functions of a compiled file, #{{Name, Arity} => Code}, in a form that does not change with
%% what stands around them: labels count from the function's own beginning, lines and the numbers
%% of anonymous functions are left out.
%%
%% If a file cannot be read this way, all of its code is one function, '$unreadable'/0.
-spec functions(gatling_types:path(), literals()) -> functions().
functions(File, Literals) ->
    {ok, Binary} = file:read_file(File),
    {ok, _, Chunks} = beam_lib:all_chunks(Binary),
    Strings = proplists:get_value("StrT", Chunks, <<>>),
    Typed = [fun() -> with_types(Chunks, Number) end || Number <- ?TYPES],
    case first([fun() -> Binary end | Typed]) of
        none -> #{{'$unreadable', 0} => [erlang:md5(proplists:get_value("Code", Chunks, <<>>))]};
        Functions -> maps:from_list([{{Name, Arity}, normal(Code, Strings, Literals)}
                                     || {function, Name, Arity, _, Code} <- Functions])
    end.

-spec first([fun(() -> binary())]) -> none | [disassembled()].
first([]) -> none;
first([Make | Rest]) ->
    try
        {beam_file, _, _, _, _, Functions} = beam_disasm:file(Make()),
        Functions
    catch
        _:_ -> first(Rest)
    end.

%% Releases are made without the table of types by some versions of Elixir, and beam_disasm looks
%% everything up there that the compiler has noted a type of. Its results are left out here
%% anyway.
-spec with_types([{string(), binary()}], pos_integer()) -> binary().
with_types(Chunks, Number) ->
    {Version, Any} = types(),
    Table = <<Version:32, Number:32, (binary:copy(Any, Number))/binary>>,
    {ok, Binary} = beam_lib:build_module(lists:keystore("Type", 1, Chunks, {"Type", Table})),
    Binary.

-spec types() -> {Version :: non_neg_integer(), Entry :: binary()} | none.
types() ->
    case get(?MODULE) of
        undefined ->
            Found = any_types(),
            put(?MODULE, Found),
            Found;
        Found ->
            Found
    end.

%% The entry that says `any`, in the format of this OTP: as the compiler writes it for a function
%% that takes anything. There is none before OTP 25.
-spec any_types() -> {Version :: non_neg_integer(), Entry :: binary()} | none.
any_types() ->
    L = erl_anno:new(1),
    Clause = {clause, L, [{var, L, 'A'}], [], [{op, L, '+', {var, L, 'A'}, {integer, L, 1}}]},
    {ok, _, Binary} = compile:forms([{attribute, L, module, ?MODULE},
                                     {attribute, L, export, [{f, 1}]},
                                     {function, L, f, 1, [Clause]}], []),
    case beam_lib:chunks(Binary, ["Type"], [allow_missing_chunks]) of
        {ok, {_, [{"Type", <<Version:32, 1:32, Any/binary>>}]}} ->
            {Version, Any};
        _ ->
            none
    end.

-spec normal(code(), Strings :: binary(), literals()) -> code().
normal(Code, Strings, Literals) ->
    Labels = [L || {label, L} <- Code],
    Numbers = maps:from_list(lists:zip(Labels, lists:seq(1, length(Labels)))),
    [plain(I, {Numbers, Strings, Literals}) || I <- Code, not is_position(I)].

-spec is_position(instruction()) -> boolean().
is_position(Instruction) ->
    lists:member(name(Instruction), [line, executable_line, debug_line]).

-spec plain(term(), context()) -> term().
plain({literal, _} = Literal, {_, _, exact}) -> Literal;
plain({literal, Literal}, _) -> {literal, placeless(Literal)};
plain({label, L}, {Numbers, _, _}) -> {label, maps:get(L, Numbers, L)};
plain({f, L}, {Numbers, _, _}) -> {f, maps:get(L, Numbers, 0)};
plain({tr, Register, _}, _) -> Register;
plain({make_fun3, Function, _, _, To, Free}, _) -> {make_fun3, Function, To, Free};
plain({make_fun2, Function, _, _, Free}, _) -> {make_fun2, Function, Free};
%% a text within a binary is given as its place in the file's table of texts
plain([{atom, string}, Flags, Unit, Size, {u, Offset}, {i, Length} | Rest], {_, Strings, _} = Of)
  when Offset + Length =< byte_size(Strings) ->
    Text = binary:part(Strings, Offset, Length),
    [{string, Flags, Unit, Size, Text} | plain(Rest, Of)];
plain([H | T], Of) -> [plain(H, Of) | plain(T, Of)];
plain(Term, Of) when is_tuple(Term) ->
    list_to_tuple([plain(E, Of) || E <- tuple_to_list(Term)]);
plain(Term, _) -> Term.

%% A term without the source positions that Logger and other macros put into it.
-spec placeless(term()) -> term().
placeless([H | T] = List) ->
    case length_or(List) > 0 andalso lists:keyfind(line, 1, List) of
        {line, N} when is_integer(N) -> placeless([E || E <- List, not is_place(E)]);
        _ -> [placeless(H) | placeless(T)]
    end;
placeless(#{line := N} = Map) when is_integer(N) -> placeless(maps:without([file, line], Map));
placeless(Term) when is_map(Term) -> maps:map(fun(_, V) -> placeless(V) end, Term);
placeless(Term) when is_tuple(Term) -> list_to_tuple([placeless(E) || E <- tuple_to_list(Term)]);
placeless(Term) -> Term.

-spec is_place(term()) -> boolean().
is_place({Key, _}) -> lists:member(Key, [file, line]);
is_place(_) -> false.

%% 0 for what is no proper list.
-spec length_or(term()) -> non_neg_integer().
length_or(List) ->
    try length(List) catch error:badarg -> 0 end.

%% The name of an instruction.
-spec name(instruction()) -> term().
name(Instruction) when is_tuple(Instruction) -> element(1, Instruction);
name(Instruction) -> Instruction.
