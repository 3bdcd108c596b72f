%% The setup of a running process or application, and how the code of another release
%% would set it up differently. A swap never runs `start/2` or `init/1` again: a table, a timer or a
%% subscription that they make in the new release, and did not make in the old one, would be
%% missing from the node.
%%
%% The code of functions is compared, as it stands in the compiled files, with the functions that
%% they call in their own application. Positions in the source do not count.
-module(gatling_setup).

-export([changes/1, started/3, supervisors/1]).
-export_type([difference/0, started/0]).

%% Whether the whole code of a function is compared, or what its calls leave behind.
-type kind() :: code | effects.
-type root() :: {module(), kind(), Names :: [atom()]}.
-type question() :: #{old := gatling_types:sources(),
                      new := gatling_types:sources(),
                      applications := [{gatling_types:app_name(), module()}],
                      touched := [module()],
                      started := started()}.
-type known() :: #{old := gatling_types:sources(),
                   new := gatling_types:sources(),
                   touched := gatling_reach:touched()}.
%% Processes, with the functions that they were started with.
-type started() :: [{pid(), Call :: term(), Ancestors :: [pid()]}].
-type difference() :: #{module := module(),
                        function := binary(),
                        own := boolean(),
                        through := binary(),
                        effect := boolean()}.
-type effect() :: {mfa(), Arguments :: [term()]}.
-type registers() :: #{{x | y, non_neg_integer()} => Value :: term()}.

%% Calls that leave nothing behind. A call to any other function of a library is taken for one
%% that does.
-define(PURE, ['Elixir.Access', 'Elixir.DynamicSupervisor', 'Elixir.Enum', 'Elixir.Enumerable',
               'Elixir.Kernel', 'Elixir.Keyword', 'Elixir.List', 'Elixir.Map', 'Elixir.MapSet',
               'Elixir.Module', 'Elixir.Path', 'Elixir.String', 'Elixir.String.Chars',
               'Elixir.Supervisor', 'Elixir.Supervisor.Spec', binary, lists, maps, proplists,
               supervisor]).
-define(PURE_FUNCTIONS, [{'Elixir.Application', [app_dir, compile_env, fetch_env, 'fetch_env!',
                                                 get_all_env, get_env, spec]},
                         {'Elixir.Code', ['ensure_loaded', 'ensure_loaded!', 'ensure_loaded?']},
                         {'Elixir.Logger', ['__do_log__', '__should_log__', bare_log]},
                         {'Elixir.System', [fetch_env, 'fetch_env!', get_env, schedulers,
                                            schedulers_online]},
                         {application, [get_env]}]).
%% Of the module erlang only these leave something behind.
-define(EFFECTS, [error_logger, load_nif, monitor, open_port, process_flag, put, register, send,
                  send_after, spawn, spawn_link, spawn_monitor, spawn_opt, start_timer,
                  system_flag]).

%% The differences in setup, as #{module, function, through, own, effect}: `through` is the
%% function that differs or, with `effect`, the one that is called otherwise; `own` says whether
%% the module itself takes care of its processes, by a code_change that came or went with the
%% change. `Sources` says of both releases where each module comes from, `touched` which modules
%% differ, `started` which processes are looked at.
-spec changes(question()) -> [difference()].
changes(#{old := Old, new := New, applications := Applications, touched := Touched,
          started := Started}) ->
    Of = of_touched(Old, New, Touched),
    Every = of_applications(Applications) ++ of_processes(Started) ++ of_names(Touched),
    Roots = [Root || {M, _, _} = Root <- lists:usort(Every), Of(M), is_map_key(M, Old)],
    Differing = maps:from_keys(Touched, true),
    Known = #{old => Old, new => New, touched => Differing},
    %% one for each module is enough
    maps:values(maps:from_list([{M, C} || {M, _, _} = Root <- Roots,
                                          gatling_reach:reaches([M], New, Differing),
                                          C <- changed(Root, Known)])).

-spec of_applications([{gatling_types:app_name(), module()}]) -> [root()].
of_applications(Applications) -> [{M, effects, [start]} || {_, M} <- Applications].

-spec of_processes(started()) -> [root()].
of_processes(Started) ->
    [case Call of
         {supervisor, M, _} -> {M, effects, [init]};
         {M, init, _} -> {M, code, [init, handle_continue, start_link]};
         {M, F, _} ->
             %% an Agent is named by the function that made its state; a loop by itself, and goes
             %% on in the new code
             {M, code, [start_link | [F || gatling_processes:is_looping(P)]]}
     end || {P, Call} <- fixed(Started)].

%% A process that is registered as the name of a module was started by it: an Ecto repo, a Phoenix
%% endpoint.
-spec of_names([module()]) -> [root()].
of_names(Modules) ->
    [{M, code, [start_link, '__sockets__', init2]} || M <- Modules, is_pid(whereis(M))].

%% ---------------------------------------------------------------- processes

%% The processes that modules of the applications were started with which the touched modules
%% belong to.
-spec started(Old :: gatling_types:sources(), New :: gatling_types:sources(), [module()]) ->
          started().
started(Old, New, Touched) ->
    Of = of_touched(Old, New, Touched),
    [{P, Call, Ancestors} || P <- erlang:processes(), {Call, Ancestors} <- [born(P)],
                             Of(callback(Call))].

-spec of_touched(Old :: gatling_types:sources(), New :: gatling_types:sources(), [module()]) ->
          fun((module()) -> boolean()).
of_touched(Old, New, Touched) ->
    Apps = lists:usort([A || M <- Touched, #{M := {A, _}} <- [Old, New]]),
    fun(M) -> case New of #{M := {A, _}} -> lists:member(A, Apps); _ -> false end end.

%% The callback modules of those that are supervisors.
-spec supervisors(started()) -> [module()].
supervisors(Started) -> lists:usort([M || {_, {supervisor, M, _}, _} <- Started]).

%% Those that the node would have right after its start: those whose supervisors, all of them, have
%% fixed children. A DynamicSupervisor's child (a connection, a LiveView, a game) begins and
%% ends with its purpose.
-spec fixed(started()) -> [{pid(), Call :: term()}].
fixed(Started) ->
    Supervisors = lists:usort([S || {_, _, Ancestors} <- Started, S <- Ancestors,
                                    is_supervisor(S)]),
    Dynamic = [S || {S, _} <- gatling_sys:look_into(fun is_dynamic/1, Supervisors)],
    [{P, Call} || {P, Call, Ancestors} <- Started,
                  Above <- [[S || S <- Ancestors, lists:member(S, Supervisors)]], Above =/= [],
                  [S || S <- Above, lists:member(S, Dynamic)] =:= []].

-spec callback(term()) -> module().
callback({supervisor, M, _}) -> M;
callback({M, _, _}) -> M;
callback(_) -> undefined.

-spec born(pid()) -> {Call :: term(), Ancestors :: [pid()]}.
born(P) ->
    case process_info(P, dictionary) of
        {dictionary, Dictionary} ->
            {proplists:get_value('$initial_call', Dictionary),
             [A || Name <- proplists:get_value('$ancestors', Dictionary, []),
                   A <- [pid(Name)], is_pid(A)]};
        undefined ->
            {undefined, []}
    end.

-spec pid(term()) -> pid() | undefined.
pid(Name) when is_atom(Name) -> whereis(Name);
pid(P) when is_pid(P), node(P) =:= node() -> P;
pid(_) -> undefined.

-spec is_supervisor(pid()) -> boolean().
is_supervisor(P) ->
    case born(P) of
        {{supervisor, _, _}, _} -> true;
        _ -> false
    end.

-spec is_dynamic(State :: term()) -> [dynamic].
is_dynamic(State) when is_tuple(State), tuple_size(State) > 3, element(1, State) =:= state ->
    case lists:member(element(3, State), [one_for_one, one_for_all, rest_for_one]) of
        true -> [];
        false -> [dynamic]
    end;
is_dynamic(_) ->
    [dynamic].

%% ---------------------------------------------------------------- comparing

-spec changed(root(), known()) -> [difference()].
changed({M, Kind, Names}, #{old := Old, new := New, touched := Touched}) ->
    Before = gatling_reach:functions(M, Old, placeless),
    After = gatling_reach:functions(M, New, placeless),
    Own = code_changes(Before) =/= code_changes(After),
    Roots = lists:usort([FA || FA <- maps:keys(Before) ++ maps:keys(After),
                               is_root(FA, Names, Kind)]),
    lists:sublist(
      [#{module => M, function => text({M, F, A}), own => Own,
         through => text(What), effect => Kind =:= effects}
       || {F, A} <- Roots, Root <- [{M, F, A}],
          {value, What} <- [case Kind of
                                code ->
                                    differs(closure(Root, Old, Touched),
                                            closure(Root, New, Touched), Root);
                                effects ->
                                    differs_in_effects(left_behind(Root, Old, Touched),
                                                       left_behind(Root, New, Touched), Root)
                            end]], 1).

-spec closure(mfa(), gatling_types:sources(), gatling_reach:touched()) -> gatling_reach:closure().
closure(Root, Sources, Touched) ->
    maps:filter(fun(Function, _) -> not finds_implementation(Function, Sources) end,
                gatling_reach:closure([Root], Sources, Touched, placeless)).

%% Whether a function only names the implementation of a protocol for a value. It differs whenever
%% a dependency brings an implementation for a type of its own.
-spec finds_implementation(mfa(), gatling_types:sources()) -> boolean().
finds_implementation({M, F, 1}, Sources)
  when F =:= impl_for; F =:= struct_impl_for; F =:= '__protocol__' ->
    case Sources of
        #{M := {_, File}} -> lists:member({'__protocol__', 1}, gatling_release:exports(File));
        _ -> false
    end;
finds_implementation(_, _) ->
    false.

%% An anonymous function is a part of the one it stands in: -init/1-fun-0-.
-spec text(mfa()) -> binary().
text({M, '$unreadable', 0}) ->
    <<"the code of ", (gatling_text:term(M))/binary>>;
text({M, F, A}) ->
    case re:run(atom_to_list(F), "^-(.+)/(\\d+)-.*-$", [unicode, {capture, [1, 2], list}]) of
        {match, [Name, Arity]} ->
            gatling_text:function({M, list_to_atom(Name), list_to_integer(Arity)});
        nomatch ->
            gatling_text:function({M, F, A})
    end.

-spec is_root({atom(), arity()}, Names :: [atom()], kind()) -> boolean().
is_root({'$unreadable', 0}, _, _) -> true;
is_root({init, 1}, Names, _) -> lists:member(init, Names);
is_root({init, 2}, Names, _) -> lists:member(init2, Names);
is_root({start, 2}, Names, effects) -> lists:member(start, Names);
is_root({handle_continue, 2}, Names, _) -> lists:member(handle_continue, Names);
is_root({start_link, _}, Names, _) -> lists:member(start_link, Names);
is_root({F, _}, Names, code) -> lists:member(F, Names -- [start, init, handle_continue]);
is_root(_, _, _) -> false.

%% code_change written by hand; the one of `use GenServer` gives any state back.
-spec code_changes(gatling_disasm:functions()) -> [gatling_disasm:code()].
code_changes(Functions) ->
    [Code || FA <- [{code_change, 3}, {code_change, 4}], #{FA := Code} <- [Functions],
             not gives_back(Code)].

-spec gives_back(gatling_disasm:code()) -> boolean().
gives_back(Code) ->
    Kept = [I || I <- Code,
                 not lists:member(gatling_disasm:name(I), [label, func_info, test_heap])],
    case Kept of
        [{put_tuple2, {x, 0}, {list, [{atom, ok}, {x, 1}]}}, return] -> true;
        [{put_tuple2, {x, 0}, {list, [{atom, ok}, {x, 1}, {x, 2}]}}, return] -> true;
        _ -> false
    end.

%% A function in the reach of a root that is not the same in both releases; the root itself first.
-spec differs(gatling_reach:closure(), gatling_reach:closure(), mfa()) -> {value, mfa()} | false.
differs(Before, After, Root) ->
    case [F || F <- [Root | lists:sort(maps:keys(maps:merge(Before, After)))],
               maps:find(F, Before) =/= maps:find(F, After)] of
        [First | _] -> {value, First};
        [] -> false
    end.

-spec differs_in_effects([effect()], [effect()], Root :: mfa()) -> {value, mfa()} | false.
differs_in_effects(Same, Same, _) ->
    false;
differs_in_effects(Before, After, Root) ->
    case (After -- Before) ++ (Before -- After) of
        [{What, _} | _] -> {value, What};
        [] -> {value, Root}
    end.

%% ---------------------------------------------------------------- effects

%% The effects that a function, and those in its reach that may differ, leave behind. A call to one
%% of the application's own functions that leave nothing behind (a list of children, say) does not
%% count.
-spec left_behind(mfa(), gatling_types:sources(), gatling_reach:touched()) -> [effect()].
left_behind(Root, Sources, Touched) ->
    All = gatling_reach:everything([Root], Sources, placeless),
    Each = maps:map(fun(_, Code) -> effects(Code) end, All),
    Harmless = harmless(All, Each, maps:map(fun(_, _) -> true end, All)),
    lists:sort([E || {{M, _, _}, Effects} <- maps:to_list(Each), is_map_key(M, Touched),
                     {F, _} = E <- Effects, not is_map_key(F, Harmless)]).

%% Of these functions, those that leave nothing behind, nor does any that they call.
-spec harmless(gatling_reach:closure(), #{mfa() => [effect()]}, Supposed :: #{mfa() => true}) ->
          #{mfa() => true}.
harmless(All, Each, Supposed) ->
    Is = fun(F) -> is_map_key(F, Supposed) end,
    Left = maps:filter(
             fun(F, _) ->
                     Code = maps:get(F, All),
                     lists:all(fun({What, _}) -> Is(What) end, maps:get(F, Each))
                         andalso lists:all(fun(C) -> Is(C) orelse not is_map_key(C, All) end,
                                           gatling_reach:called(Code))
                         andalso gatling_reach:handed(Code) =:= []
                         andalso not gatling_reach:calls_unknown(Code)
             end, Supposed),
    case map_size(Left) =:= map_size(Supposed) of
        true -> Left;
        false -> harmless(All, Each, Left)
    end.

%% The effects of a function's calls: [{Function, Arguments}], with `unknown` for an
%% argument that is not constant.
-spec effects(gatling_disasm:code()) -> [effect()].
effects(Code) -> effects(Code, #{}, []).

-spec effects(gatling_disasm:code(), registers(), [effect()]) -> [effect()].
effects([], _, Found) -> Found;
effects([send | Rest], Registers, Found) ->
    effects(Rest, #{}, [{{erlang, send, 2}, [maps:get({x, 1}, Registers, unknown)]} | Found]);
effects([Instruction | Rest], Registers, Found) ->
    case Instruction of
        {move, From, To} ->
            effects(Rest, Registers#{To => value(From, Registers)}, Found);
        {put_list, H, T, To} ->
            Value = {cons, value(H, Registers), value(T, Registers)},
            effects(Rest, Registers#{To => Value}, Found);
        {put_tuple2, To, {list, Elements}} ->
            Value = {tuple, [value(E, Registers) || E <- Elements]},
            effects(Rest, Registers#{To => Value}, Found);
        {put_map_assoc, _, From, To, _, {list, Elements}} ->
            Value = {map, value(From, Registers), [value(E, Registers) || E <- Elements]},
            effects(Rest, Registers#{To => Value}, Found);
        {make_fun3, {M, F, A}, To, _} ->
            effects(Rest, Registers#{To => {function, M, F, A}}, Found);
        _ ->
            case call(Instruction) of
                {Arity, {extfunc, M, F, A}} ->
                    Arguments = [maps:get({x, N}, Registers, unknown)
                                 || N <- lists:seq(0, Arity - 1)],
                    After = (lasting(Registers))#{{x, 0} => {result, M, F, A}},
                    effects(Rest, After, [{{M, F, A}, Arguments} || has_effect(M, F)] ++ Found);
                {_, _} ->
                    effects(Rest, lasting(Registers), Found);
                none ->
                    effects(Rest, forget(Instruction, Registers), Found)
            end
    end.

-spec call(gatling_disasm:instruction()) -> {arity(), Who :: term()} | none.
call({Name, Arity, Who})
  when Name =:= call; Name =:= call_only; Name =:= call_ext; Name =:= call_ext_only ->
    {Arity, Who};
call({Name, Arity, Who, _}) when Name =:= call_last; Name =:= call_ext_last ->
    {Arity, Who};
call(_) ->
    none.

-spec value(term(), registers()) -> term().
value({literal, Value}, _) ->
    {literal, Value};
value({Kind, _} = Register, Registers) when Kind =:= x; Kind =:= y ->
    maps:get(Register, Registers, unknown);
value(Value, _) ->
    Value.

-spec lasting(registers()) -> registers().
lasting(Registers) -> maps:filter(fun({Kind, _}, _) -> Kind =:= y end, Registers).

%% Nothing is known of a register where control flows join, or after an instruction that may write
%% to it.
-spec forget(gatling_disasm:instruction(), registers()) -> registers().
forget({label, _}, _) -> #{};
forget({trim, _, _}, Registers) -> maps:filter(fun({Kind, _}, _) -> Kind =:= x end, Registers);
forget(Instruction, Registers) -> maps:without(registers(Instruction, []), Registers).

-spec registers(term(), [tuple()]) -> [tuple()].
registers({Kind, N} = Register, Found) when is_integer(N), Kind =:= x orelse Kind =:= y ->
    [Register | Found];
registers([H | T], Found) ->
    registers(T, registers(H, Found));
registers(Term, Found) when is_tuple(Term) ->
    registers(tuple_to_list(Term), Found);
registers(_, Found) ->
    Found.

-spec has_effect(module(), atom()) -> boolean().
has_effect(_, child_spec) -> false;
has_effect(erlang, F) -> lists:member(F, ?EFFECTS);
has_effect(M, F) ->
    not lists:member(M, ?PURE)
        andalso not lists:member(F, proplists:get_value(M, ?PURE_FUNCTIONS, [])).
