%% Supervision trees: as a release would start them, as they run, and what it takes from one to
%% the other.
%%
%% `of_app/2` is for a throw-away node of the release in question: it asks the application's own
%% modules for their child specifications, with everything that starts a process of OTP's replaced
%% by stubs that start nothing.
-module(gatling_tree).

-export([of_app/2, diff/2, find/1, missing/2, descendants/2, pack/1, unpack/1, opaque/1]).
-export([captured/2]).
-export_type([found/0, difference/0]).

-type path() :: [Id :: term()].
-type flags() :: #{strategy := atom(), _ => _}.
-type node_of_tree() :: #{flags := flags(), children := [gatling_types:child()]}.
-type tree() :: #{path() => node_of_tree()}.
-type found() :: {ok, Modules :: [module()], tree()} | {error, Why :: binary()}.
-type captured() :: {ok, Flags :: term(), Children :: [term()]} | {error, Why :: binary()}.
-type difference() :: #{path := path(),
                        strategy := atom(),
                        flags := same | changed,
                        start := [gatling_types:child()],
                        stop := [Id :: term()],
                        changed := [{Id :: term(), [binary()]}],
                        reordered := boolean(),
                        opaque := [Id :: term()]}.

%% `gen` is what all of gen_server, gen_statem, gen_event and supervisor start through.
-define(STARTERS, ['Elixir.Supervisor', 'Elixir.Task', supervisor, gen]).
%% Where the code of stubs says it comes from.
-define(LINE_ONE, erl_anno:new(1)).

%% The static tree of an application: {ok, #{Path => #{flags, children}}} where a path is the list
%% of child ids from the top, or {error, Why}. Child specifications are packed.
-spec of_app(gatling_types:app_name(), {module(), term()}) -> found().
of_app(App, {Module, Argument}) ->
    ok = stub_starters(),
    case capture(fun() -> Module:start(normal, Argument) end) of
        {ok, Flags, Specs} ->
            {ok, modules(App), maps:from_list(nodes(App, [], Flags, Specs))};
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

-spec nodes(gatling_types:app_name(), path(), Flags :: term(), [term()]) ->
          [{path(), node_of_tree()}].
nodes(App, Path, Flags, Specs) ->
    Children = [normal(S) || S <- Specs],
    Nested = [nodes(App, Path ++ [Id], F, S)
              || #{id := Id, type := supervisor, start := {M, Fun, Args}} <- Children,
                 is_own_supervisor(App, M),
                 {ok, F, S} <- [capture(fun() -> apply(M, Fun, Args) end)]],
    [{Path, #{flags => pack(flags(Flags)), children => [pack(C) || C <- Children]}}
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

-spec flags(tuple() | map()) -> flags().
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
            {error, <<"it did not come to an end within 5 s">>}
    end.

-spec captured_by(fun(() -> term())) -> captured().
captured_by(Fun) ->
    put(gatling_capture, true),
    try Fun() of
        _ -> {error, <<"it starts no Supervisor at its end">>}
    catch
        throw:{gatling, list, Children, Options} -> of_list(Children, Options);
        throw:{gatling, module, Module, Argument} -> of_module(Module, Argument);
        throw:{gatling, dynamic, Module, Argument} -> of_dynamic(Module, Argument);
        throw:{gatling, starts, What} ->
            {error, <<"it starts a process on its own, ", (gatling_text:term(What))/binary>>};
        error:{gatling_forbids, {M, F, A}} ->
            Text = "start/2 opens data, ~p:~p/~b, which two nodes must not do at a time",
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

%% What the stubs do instead of starting something, in the process that captures; `original` for
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

%% ---------------------------------------------------------------- comparing, finding

%% What it takes from the one tree to the other: a list of
%% #{path, strategy, start => [Spec], stop => [Id], changed => [{Id, [Text]}],
%%   flags => same | changed, opaque => [Id]}, for nodes where there is something to do.
-spec diff(tree(), tree()) -> [difference()].
diff(Old, New) ->
    [D || {Path, NewNode} <- lists:sort(maps:to_list(New)),
          OldNode <- [maps:get(Path, Old, none)], OldNode =/= none,
          D <- [diff(Path, OldNode, NewNode)], is_change(D)].

-spec diff(path(), node_of_tree(), node_of_tree()) -> difference().
diff(Path, #{flags := FO, children := CO}, #{flags := FN, children := CN}) ->
    Ids = fun(Children) -> [Id || #{id := Id} <- Children] end,
    Start = [C || #{id := Id} = C <- CN, not lists:member(Id, Ids(CO))],
    #{path => Path,
      strategy => maps:get(strategy, FO),
      flags => case FO =:= FN of true -> same; false -> changed end,
      start => Start,
      stop => Ids(CO) -- Ids(CN),
      changed => [{Id, differences(C2, C)} || #{id := Id} = C <- CN, #{id := Id2} = C2 <- CO,
                      Id =:= Id2, maps:remove(modules, C) =/= maps:remove(modules, C2)],
      reordered => [I || I <- Ids(CO), lists:member(I, Ids(CN))]
          =/= [I || I <- Ids(CN), lists:member(I, Ids(CO))],
      opaque => [Id || #{id := Id} = C <- Start, opaque(C)]}.

-spec is_change(difference()) -> boolean().
is_change(#{flags := same, start := [], stop := [], changed := [], reordered := false}) -> false;
is_change(_) -> true.

%% What of a child's specification differs, in words, and without the values: those may be secret.
-spec differences(gatling_types:child(), gatling_types:child()) -> [binary()].
differences(CO, CN) ->
    Other = [atom_to_binary(K) || K <- lists:usort(maps:keys(CO) ++ maps:keys(CN)),
             K =/= modules, K =/= start, maps:find(K, CO) =/= maps:find(K, CN)],
    case Other ++ started(maps:get(start, CO), maps:get(start, CN)) of
        [] -> [<<"the order of its arguments">>];
        Words -> lists:sublist(Words, 5)
    end.

-spec started(Old :: term(), New :: term()) -> [binary()].
started({M, F, Old}, {M, F, New}) -> lists:usort(where(Old, New, []));
started(_, _) -> [<<"the function that starts it">>].

-spec where(Old :: term(), New :: term(), Keys :: [term()]) -> [binary()].
where(Same, Same, _) -> [];
where({'$gatling_opaque', _, _, _, _}, {'$gatling_opaque', _, _, _, _}, Keys) ->
    [place(<<"a function in ">>, Keys)];
where(Old, New, Keys) when is_map(Old), is_map(New) -> each(Old, New, Keys);
where(Old, New, Keys) when is_tuple(Old), tuple_size(Old) =:= tuple_size(New) ->
    where(tuple_to_list(Old), tuple_to_list(New), Keys);
where(Old, New, Keys) when length(Old) >= 0, length(New) >= 0 ->
    case {lists:all(fun is_option/1, Old ++ New), length(Old) =:= length(New)} of
        {true, _} -> each(maps:from_list(Old), maps:from_list(New), Keys);
        {false, true} -> [P || {O, N} <- lists:zip(Old, New), P <- where(O, N, Keys)];
        {false, false} -> [place(<<>>, Keys)]
    end;
where(_, _, Keys) -> [place(<<>>, Keys)].

-spec is_option(term()) -> boolean().
is_option({Key, _}) -> is_atom(Key);
is_option(_) -> false.

-spec each(map(), map(), Keys :: [term()]) -> [binary()].
each(Old, New, Keys) ->
    lists:append([case {Old, New} of
                      {#{K := O}, #{K := N}} -> where(O, N, [K | Keys]);
                      _ -> [place(<<>>, [K | Keys])]
                  end
                  || K <- maps:keys(maps:merge(Old, New)),
                     maps:find(K, Old) =/= maps:find(K, New)]).

%% Keys that are not atoms are values, as it were.
-spec place(binary(), Keys :: [term()]) -> binary().
place(What, Keys) ->
    case lists:takewhile(fun is_atom/1, lists:reverse(Keys)) of
        [] -> <<What/binary, "its arguments">>;
        Named -> unicode:characters_to_binary(
                   [What, "its argument ", lists:join($., [key(K) || K <- Named])])
    end.

-spec key(atom()) -> unicode:chardata().
key(Key) ->
    case atom_to_list(Key) of
        "Elixir." ++ Module -> Module;
        _ -> text(Key)
    end.

%% The running supervisor at a path, {App, [Id]}; throws when there is none.
-spec find(gatling_types:child_path()) -> pid().
find({App, Ids}) ->
    case application_controller:get_master(App) of
        Master when is_pid(Master) ->
            {Top, _} = application_master:get_child(Master),
            lists:foldl(fun below/2, Top, Ids);
        _ ->
            throw({not_running, App})
    end.

%% Children that a tree of `of_app/2` has and the running application has not, as {Path, Id}: then
%% the tree is not what `start/2` starts. Temporary children may have ended, and others may have
%% been started by hand.
-spec missing(gatling_types:app_name(), tree()) -> [{path(), Id :: term()}].
missing(App, Tree) ->
    [{Path, Id} || {Path, #{children := Children}} <- lists:sort(maps:to_list(Tree)),
                   Running <- [running({App, Path})],
                   #{id := Id, restart := Restart} <- Children, Restart =/= temporary,
                   not lists:member(Id, Running)].

%% The processes of some children of a supervisor, and of all below them.
-spec descendants(gatling_types:child_path(), [Id :: term()]) -> [pid()].
descendants(Path, Ids) ->
    try lists:append([below(C) || {Id, _, _, _} = C <- supervisor:which_children(find(Path)),
                                  lists:member(Id, Ids)])
    catch throw:_ -> []
    end.

-spec below(tuple()) -> [pid()].
below({_, P, supervisor, _}) when is_pid(P) ->
    [P | lists:append([below(C) || C <- supervisor:which_children(P)])];
below({_, P, _, _}) when is_pid(P) -> [P];
below(_) -> [].

-spec running(gatling_types:child_path()) -> [Id :: term()].
running(Path) ->
    try [Id || {Id, _, _, _} <- supervisor:which_children(find(Path))]
    catch throw:_ -> []
    end.

-spec below(Id :: term(), pid()) -> pid().
below(Id, Supervisor) ->
    case lists:keyfind(Id, 1, supervisor:which_children(Supervisor)) of
        {Id, P, _, _} when is_pid(P) -> P;
        _ -> throw({no_child, Id})
    end.

%% ---------------------------------------------------------------- terms on their way between nodes

%% A compiled regular expression belongs to its node (a reference since OTP 28): its source
%% travels. Local funs, pids, ports and references cannot travel at all; they are marked.
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

-spec text(term()) -> binary().
text(Term) -> unicode:characters_to_binary(io_lib:format("~0tp", [Term], [{chars_limit, 500}])).
