%% The functions that a function calls in its own application, and the code of them all: to be
%% compared with that of another release.
-module(gatling_reach).

-export([reaches/3, closure/4, everything/3, functions/3, called/1, handed/1,
         calls_unknown/1]).
-export_type([closure/0, touched/0]).

-type closure() :: #{mfa() => gatling_disasm:code()}.
-type code_read() :: #{module() => gatling_disasm:functions()}.
-type literals() :: gatling_disasm:literals().
%% Modules that differ.
-type touched() :: #{module() => true}.

%% More modules than this are not followed from one function.
-define(MODULES, 200).

%% Whether a module calls one that differs, by way of its own application's; most do not, and the
%% cheap look at what is imported spares them the dear one.
-spec reaches([module()], gatling_types:sources(), touched()) -> boolean().
reaches(Modules, Sources, Touched) -> reaches(Modules, Sources, Touched, #{}).

-spec reaches([module()], gatling_types:sources(), touched(), Seen :: #{module() => true}) ->
          boolean().
reaches([], _, _, _) -> false;
reaches(_, _, _, Seen) when map_size(Seen) > ?MODULES -> true;
reaches([M | _], _, Touched, _) when is_map_key(M, Touched) -> true;
reaches([M | Rest], Sources, Touched, Seen) when is_map_key(M, Seen) ->
    reaches(Rest, Sources, Touched, Seen);
reaches([M | Rest], Sources, Touched, Seen) ->
    Called = [C || C <- imported(M, Sources), neighbours(M, C, Sources)],
    reaches(Called ++ Rest, Sources, Touched, Seen#{M => true}).

-spec imported(module(), gatling_types:sources()) -> [module()].
imported(M, #{} = Modules) ->
    case Modules of
        #{M := {_, File}} ->
            {ok, {_, [{imports, Imports}]}} = beam_lib:chunks(File, [imports]),
            lists:usort([C || {C, _, _} <- Imports]);
        _ ->
            []
    end.

-spec neighbours(module(), module(), gatling_types:sources()) -> boolean().
neighbours(M, Other, Modules) ->
    case Modules of
        #{M := {App, _}, Other := {App, _}} -> true;
        _ -> false
    end.

%% The functions that differ or may differ (of modules that do) in the reach of some.
-spec closure([mfa()], gatling_types:sources(), touched(), literals()) -> closure().
closure(Roots, Sources, Touched, Literals) ->
    maps:filter(fun({M, _, _}, _) -> is_map_key(M, Touched) end,
                everything(Roots, Sources, Literals)).

%% All functions in the reach of some; with `exact` those that they hand over, too.
-spec everything([mfa()], gatling_types:sources(), literals()) -> closure().
everything(Roots, Sources, Literals) ->
    visit(Roots, {Sources, Literals}, #{}, #{}).

-spec visit([mfa()], {gatling_types:sources(), literals()}, code_read(), closure()) -> closure().
visit([], _, _, Found) ->
    Found;
visit([Function | Rest], From, Read, Found) when is_map_key(Function, Found) ->
    visit(Rest, From, Read, Found);
visit([{M, F, A} = Function | Rest], {Modules, Literals} = From, Read, Found) ->
    case read(M, Modules, Literals, Read) of
        #{M := #{{F, A} := Code}} = More ->
            All = called(Code) ++ [H || Literals =:= exact, H <- handed(Code)],
            Own = [C || {N, _, _} = C <- All, N =:= M orelse neighbours(M, N, Modules)],
            visit(Own ++ Rest, From, More, Found#{Function => Code});
        #{M := #{{'$unreadable', 0} := Code}} = More ->
            visit(Rest, From, More, Found#{Function => Code});
        More ->
            visit(Rest, From, More, Found)
    end.

-spec read(module(), gatling_types:sources(), literals(), code_read()) -> code_read().
read(M, _, _, Read) when is_map_key(M, Read) -> Read;
read(_, _, _, Read) when map_size(Read) > ?MODULES -> Read;
read(M, Modules, Literals, Read) -> Read#{M => functions(M, Modules, Literals)}.

%% The code of a module's functions; none where the release has no such module.
-spec functions(module(), gatling_types:sources(), literals()) -> gatling_disasm:functions().
functions(M, Modules, Literals) ->
    case Modules of
        #{M := {_, File}} -> gatling_disasm:functions(File, Literals);
        _ -> #{}
    end.

%% The functions that some code calls or makes functions of.
-spec called(gatling_disasm:code()) -> [mfa()].
called(Code) -> lists:usort(called(Code, [])).

-spec called(term(), [mfa()]) -> [mfa()].
called([H | T], Found) ->
    called(T, called(H, Found));
called({literal, _}, Found) ->
    Found;
called({extfunc, M, F, A}, Found) ->
    [{M, F, A} | Found];
called({M, F, A}, Found) when is_atom(M), M =/= atom, is_atom(F), is_integer(A) ->
    [{M, F, A} | Found];
called(Term, Found) when is_tuple(Term) ->
    called(tuple_to_list(Term), Found);
called(_, Found) ->
    Found.

%% Whether what some code calls is not all in it, or cannot be read.
-spec calls_unknown(gatling_disasm:code()) -> boolean().
calls_unknown(Code) -> lists:any(fun is_unknown/1, Code).

-spec is_unknown(gatling_disasm:instruction() | binary()) -> boolean().
is_unknown({apply, _}) -> true;
is_unknown({apply_last, _, _}) -> true;
is_unknown({call_fun, _}) -> true;
is_unknown({call_fun2, _, _, _}) -> true;
is_unknown({_, _, {extfunc, erlang, apply, _}}) -> true;
is_unknown({_, _, {extfunc, erlang, apply, _}, _}) -> true;
is_unknown(Code) when is_binary(Code) -> true;
is_unknown(_) -> false.

%% The functions of modules (`&Shop.Children.of/1`) that some code hands over as literals.
-spec handed(gatling_disasm:code()) -> [mfa()].
handed(Code) ->
    [{M, F, A} || Instruction <- Code, is_tuple(Instruction),
                  {literal, Function} <- operands(tuple_to_list(Instruction)),
                  is_function(Function),
                  {module, M} <- [erlang:fun_info(Function, module)],
                  {name, F} <- [erlang:fun_info(Function, name)],
                  {arity, A} <- [erlang:fun_info(Function, arity)]].

-spec operands([term()]) -> [term()].
operands(Operands) ->
    lists:append([case Operand of {list, Elements} -> Elements; _ -> [Operand] end
                  || Operand <- Operands]).
