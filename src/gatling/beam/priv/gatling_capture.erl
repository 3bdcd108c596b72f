%% The supervision tree that an application would start.
%%
%% Runs in a throw-away node of the release in question. The application's own modules are asked for
%% their child specifications. Stubs that start nothing take the place of everything through which
%% OTP and Elixir start processes.
-module(gatling_capture).

-export([of_app/2]).
-export([captured/2]).
-export_type([found/0]).

-type found() :: {ok, gatling_tree:tree()} | {error, Why :: binary()}.
-type captured() :: {ok, Flags :: term(), Children :: [term()]} | {error, Why :: binary()}.

%% `gen` is what all of gen_server, gen_statem, gen_event and supervisor start through.
-define(STARTERS, ['Elixir.Supervisor', 'Elixir.Task', supervisor, gen]).
%% The source position in the code of stubs.
-define(LINE_ONE, erl_anno:new(1)).

%% The tree that an application starts, with packed child specifications, or why it is not known.
-spec of_app(gatling_types:app_name(), {module(), term()}) -> found().
of_app(App, {Module, Argument}) ->
    ok = stub_starters(),
    case capture(fun() -> Module:start(normal, Argument) end) of
        {ok, Flags, Specs} ->
            {ok, maps:from_list(nodes(App, [], Flags, Specs))};
        Error ->
            Error
    end.

-spec modules(gatling_types:app_name()) -> [module()].
modules(App) ->
    _ = application:load(App),
    case application:get_key(App, modules) of
        {ok, Modules} -> Modules;
        undefined -> []
    end.

-spec nodes(gatling_types:app_name(), gatling_tree:path(), Flags :: term(), [term()]) ->
          [{gatling_tree:path(), gatling_tree:supervisor()}].
nodes(App, Path, Flags, Specs) ->
    Children = [normal(S) || S <- Specs],
    Nested = [nodes(App, Path ++ [Id], F, S)
              || #{id := Id, type := supervisor, start := {M, Fun, Args}} <- Children,
                 is_own_supervisor(App, M),
                 {ok, F, S} <- [capture(fun() -> apply(M, Fun, Args) end)]],
    [{Path, #{flags => gatling_pack:pack(flags(Flags)),
              children => [gatling_pack:pack(C) || C <- Children]}}
     | lists:append(Nested)].

%% Only the application's own module-based supervisors are entered: what a library does below its
%% children is its own affair.
-spec is_own_supervisor(gatling_types:app_name(), module()) -> boolean().
is_own_supervisor(App, Module) ->
    lists:member(Module, modules(App)) andalso
        lists:any(fun(B) -> lists:member(B, ['Elixir.Supervisor', 'Elixir.DynamicSupervisor',
                                             supervisor]) end,
                  lists:append([V || {K, V} <- Module:module_info(attributes),
                                     K =:= behaviour orelse K =:= behavior])).

-spec normal(tuple() | gatling_types:child()) -> gatling_types:child().
normal({Id, Start, Restart, Shutdown, Type, Modules}) ->
    #{id => Id, start => Start, restart => Restart, shutdown => Shutdown, type => Type,
      modules => Modules, significant => false};
normal(#{id := Id, start := Start} = Spec) ->
    Type = maps:get(type, Spec, worker),
    maps:merge(#{restart => permanent, type => Type, significant => false,
                 shutdown => case Type of supervisor -> infinity; worker -> 5000 end,
                 modules => [element(1, Start)]},
               Spec#{id => Id}).

-spec flags(tuple() | map()) -> gatling_tree:flags().
flags({Strategy, Intensity, Period}) ->
    flags(#{strategy => Strategy, intensity => Intensity, period => Period});
flags(#{} = Flags) ->
    Default = #{strategy => one_for_one, intensity => 1, period => 5, auto_shutdown => never},
    maps:merge(Default, Flags).

%% ---------------------------------------------------------------- capturing

-spec capture(fun(() -> term())) -> captured().
capture(Fun) ->
    {P, Ref} = spawn_monitor(fun() -> exit({captured, captured_by(Fun)}) end),
    receive
        {'DOWN', Ref, process, P, {captured, Result}} -> Result;
        {'DOWN', Ref, process, P, Reason} -> {error, text(Reason)}
    after 5000 ->
            exit(P, kill),
            erlang:demonitor(Ref, [flush]),
            {error, <<"it did not finish within 5 s">>}
    end.

-spec captured_by(fun(() -> term())) -> captured().
captured_by(Fun) ->
    put(gatling_capture, true),
    try Fun() of
        _ -> {error, <<"it does not end by starting a Supervisor">>}
    catch
        throw:{gatling, list, Children, Options} -> of_list(Children, Options);
        throw:{gatling, module, Module, Argument} -> of_module(Module, Argument);
        throw:{gatling, dynamic, Module, Argument} -> of_dynamic(Module, Argument);
        throw:{gatling, starts, What} ->
            {error, <<"it starts a process on its own, ", (gatling_text:term(What))/binary>>};
        error:{gatling_forbids, {M, F, A}} ->
            Text = "start/2 opens data, ~p:~p/~b, which two nodes must not do at the same time",
            {error, iolist_to_binary(io_lib:format(Text, [M, F, A]))};
        Class:Reason -> {error, text({Class, Reason})}
    end.

-spec of_list(Children :: list(), Options :: list()) -> captured().
of_list(Children, Options) ->
    Kept = [O || {K, _} = O <- Options,
                 lists:member(K, [strategy, max_restarts, max_seconds, auto_shutdown])],
    Original = original('Elixir.Supervisor'),
    try Original:init(Children, Kept) of
        {ok, {Flags, Specs}} -> {ok, Flags, Specs}
    catch
        Class:Reason -> {error, text({Class, Reason})}
    end.

-spec of_module(module(), term()) -> captured().
of_module(Module, Argument) ->
    try Module:init(Argument) of
        {ok, {Flags, Specs}} -> {ok, Flags, Specs};
        Other -> {error, text(Other)}
    catch
        Class:Reason -> {error, text({Class, Reason})}
    end.

%% The children of a DynamicSupervisor are not the release's to say, but its limits are.
-spec of_dynamic(module(), term()) -> captured().
of_dynamic(Module, Argument) ->
    try Module:init(Argument) of
        {ok, #{} = Flags} -> {ok, Flags, []};
        Other -> {error, text(Other)}
    catch
        Class:Reason -> {error, text({Class, Reason})}
    end.

%% The stubs' action in place of a start, in the process that captures; `original` for
%% all others.
-spec captured(module(), [term()]) -> original.
captured(Starter, Arguments) ->
    case get(gatling_capture) of
        true -> throw(instead(Starter, Arguments));
        undefined -> original
    end.

-spec instead(module(), [term()]) -> tuple().
instead('Elixir.Supervisor', [Children, Options]) when is_list(Children) ->
    {gatling, list, Children, Options};
instead('Elixir.Supervisor', [Module, Argument | _]) when is_atom(Module) ->
    {gatling, module, Module, Argument};
instead(supervisor, [{_, _}, Module, Argument]) ->
    {gatling, module, Module, Argument};
instead(supervisor, [Module, Argument]) ->
    {gatling, module, Module, Argument};
%% gen:start(GenMod, Link, [Name,] Mod, Args, Options)
instead(gen, [_, _, _, 'Elixir.DynamicSupervisor', {Module, Argument, _}, _]) ->
    {gatling, dynamic, Module, Argument};
instead(gen, [_, _, 'Elixir.DynamicSupervisor', {Module, Argument, _}, _]) ->
    {gatling, dynamic, Module, Argument};
instead(gen, [GenMod, _, _, Module, _, _]) ->
    {gatling, starts, {GenMod, Module}};
instead(gen, [GenMod, _, Module, _, _]) ->
    {gatling, starts, {GenMod, Module}};
instead('Elixir.Task', _) ->
    {gatling, starts, 'Elixir.Task'};
instead(_, [What | _]) ->
    {gatling, starts, What}.

%% Each of these modules is loaded once more under another name, and a stub takes its own.
-spec stub_starters() -> ok.
stub_starters() ->
    lists:foreach(fun stub/1, ?STARTERS).

-spec original(module()) -> module().
original(Module) -> list_to_atom("gatling_original_" ++ atom_to_list(Module)).

-spec stub(module()) -> ok.
stub(Module) ->
    Copy = original(Module),
    case code:is_loaded(Copy) of
        {file, _} ->
            ok;
        false ->
            {Module, Binary, Path} = code:get_object_code(Module),
            {ok, _, Chunks} = beam_lib:all_chunks(Binary),
            {"AtU8", Atoms} = lists:keyfind("AtU8", 1, Chunks),
            Renamed = rename(Atoms, atom_to_binary(Module), atom_to_binary(Copy)),
            {ok, Other} = beam_lib:build_module(
                            lists:keyreplace("AtU8", 1, Chunks, {"AtU8", Renamed})),
            {module, Copy} = code:load_binary(Copy, "gatling", Other),
            {ok, Module, Stub} = compile:forms(stub_forms(Module, Copy), []),
            %% `supervisor` and `gen` are the system's own; this is a node to be thrown away
            _ = code:unstick_dir(filename:dirname(Path)),
            {module, Module} = code:load_binary(Module, "gatling", Stub),
            ok
    end.

-spec stub_forms(module(), module()) -> [erl_parse:abstract_form()].
stub_forms(Module, Copy) ->
    Exports = [E || {F, _} = E <- Copy:module_info(exports), F =/= module_info],
    [{attribute, ?LINE_ONE, module, Module}, {attribute, ?LINE_ONE, export, Exports}
     | [stub_function(Module, Copy, F, A) || {F, A} <- Exports]].

-spec stub_function(module(), module(), atom(), arity()) -> erl_parse:abstract_form().
stub_function(Module, Copy, Function, Arity) ->
    L = ?LINE_ONE,
    Variables = [{var, L, list_to_atom("A" ++ integer_to_list(N))} || N <- lists:seq(1, Arity)],
    Original = {call, L, {remote, L, {atom, L, Copy}, {atom, L, Function}}, Variables},
    Body = case lists:member(Function, [start, start_link, async, async_nolink]) of
               true ->
                   {'case', L,
                    {call, L, {remote, L, {atom, L, ?MODULE}, {atom, L, captured}},
                     [{atom, L, Module}, list_form(Variables)]},
                    [{clause, L, [{atom, L, original}], [], [Original]}]};
               false ->
                   Original
           end,
    {function, L, Function, Arity, [{clause, L, Variables, [], [Body]}]}.

-spec list_form([erl_parse:abstract_expr()]) -> erl_parse:abstract_expr().
list_form(Elements) ->
    L = ?LINE_ONE,
    lists:foldr(fun(E, Tail) -> {cons, L, E, Tail} end, {nil, L}, Elements).

%% The atom table: one length byte per atom up to OTP 27; from OTP 28 on the count is negative and
%% lengths are compact integers.
-spec rename(binary(), From :: binary(), To :: binary()) -> binary().
rename(<<Count:32/signed, Atoms/binary>>, From, To) when Count >= 0 ->
    <<Count:32, (<< <<(byte_size(B)), B/binary>>
                    || <<L, A:L/binary>> <= Atoms, B <- [exchange(A, From, To)] >>)/binary>>;
rename(<<Count:32/signed, Atoms/binary>>, From, To) ->
    <<Count:32/signed, (rename_compact(Atoms, From, To))/binary>>.

-spec rename_compact(binary(), From :: binary(), To :: binary()) -> binary().
rename_compact(<<>>, _, _) ->
    <<>>;
rename_compact(<<L:4, 0:4, A:L/binary, Rest/binary>>, From, To) ->
    <<(compact(exchange(A, From, To)))/binary, (rename_compact(Rest, From, To))/binary>>;
rename_compact(<<High:3, 2#01000:5, Low, More/binary>>, From, To) ->
    L = (High bsl 8) bor Low,
    <<A:L/binary, Rest/binary>> = More,
    <<(compact(exchange(A, From, To)))/binary, (rename_compact(Rest, From, To))/binary>>.

-spec compact(binary()) -> binary().
compact(A) when byte_size(A) < 16 -> <<(byte_size(A)):4, 0:4, A/binary>>;
compact(A) -> <<(byte_size(A) bsr 8):3, 2#01000:5, (byte_size(A)):8, A/binary>>.

-spec exchange(binary(), From :: binary(), To :: binary()) -> binary().
exchange(From, From, To) -> To;
exchange(Atom, _, _) -> Atom.

-spec text(term()) -> binary().
text(Term) -> unicode:characters_to_binary(io_lib:format("~0tp", [Term], [{chars_limit, 500}])).
