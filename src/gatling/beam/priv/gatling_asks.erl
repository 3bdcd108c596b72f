%% The questions about two releases that need a node of each, because their files do not answer
%% them: which supervision trees, and the nature of which modules. Two nodes are started for that,
%% so they are asked only where code differs on which the answer depends.
-module(gatling_asks).

-export([trees/2, modules/1]).

-type kind() :: child | supervisor.

%% Applications of which the supervision tree may differ. `Supervisors` are callback modules of
%% supervisors that run.
%%
%% A tree is made by start/2, by init/1 of supervisors, and by child_spec/1 of the modules that they
%% name. If one of the first two calls a function that the code does not show (one that it was
%% given, say), any changed module that may be a child is meant.
-spec trees(gatling_release:comparison(), Supervisors :: [module()]) ->
          [gatling_types:app_name()].
trees(#{changed := Changed, added := Added, removed := Removed, sources := {Old, New},
        application_modules := Applications},
      Supervisors) ->
    Touched = maps:from_keys([M || #{module := M} <- Changed ++ Added ++ Removed], true),
    [App || {App, Module} <- Applications,
            lists:any(fun(#{app := A}) -> A =:= App end, Removed)
                orelse lists:any(fun(#{app := A} = B) -> A =:= App andalso kinds(B) =/= [] end,
                                 Added)
                orelse differs(Module, [B || #{app := A} = B <- Changed, A =:= App],
                               [S || S <- Supervisors, belongs(S, App, New)],
                               {Old, New, Touched})].

-spec belongs(module(), gatling_types:app_name(), gatling_types:sources()) -> boolean().
belongs(M, App, Sources) ->
    case Sources of
        #{M := {App, _}} -> true;
        _ -> false
    end.

-spec differs(module(), [gatling_types:beam()], [module()],
              {gatling_types:sources(), gatling_types:sources(), gatling_reach:touched()}) ->
          boolean().
differs(_, [], _, _) ->
    false;
differs(Module, Changed, Supervisors, {Old, New, Touched}) ->
    Kinds = [{M, lists:usort(kinds(B) ++ kinds(Before))}
             || #{module := M, old := Before} = B <- Changed],
    Starting = [{Module, start, 2} | [{S, init, 1} || S <- Supervisors]],
    Children = [{M, child_spec, 1} || {M, [child]} <- Kinds],
    %% how a changed supervisor is started is not looked for
    lists:any(fun({_, Ks}) -> lists:member(supervisor, Ks) end, Kinds)
        orelse changed(Starting ++ Children, Old, New, Touched)
        orelse (Children =/= [] andalso is_dynamic(Starting, New)).

-spec kinds(gatling_types:beam()) -> [kind()].
kinds(#{behaviours := Behaviours, child_spec := ChildSpec}) ->
    [child || ChildSpec] ++ [supervisor || lists:member('Elixir.Supervisor', Behaviours)
                                               orelse lists:member(supervisor, Behaviours)].

-spec changed([mfa()], gatling_types:sources(), gatling_types:sources(),
              gatling_reach:touched()) -> boolean().
changed(Functions, Old, New, Touched) ->
    gatling_reach:closure(Functions, Old, Touched, exact)
        =/= gatling_reach:closure(Functions, New, Touched, exact).

%% Whether what these functions call is not all in their code.
-spec is_dynamic([mfa()], gatling_types:sources()) -> boolean().
is_dynamic(Functions, Sources) ->
    lists:any(fun gatling_reach:calls_unknown/1,
              maps:values(gatling_reach:everything(Functions, Sources, exact))).

%% Changed modules of which the struct, or what Ecto knows of a schema, may differ.
-spec modules(gatling_release:comparison()) -> [module()].
modules(#{changed := Changed, sources := {Old, New}}) ->
    [M || #{module := M, struct := Struct, old := #{struct := Before}} = B <- Changed,
          Struct =/= Before
              orelse (Struct =:= unknown
                      andalso changed([{M, '__struct__', 0}], Old, New, #{M => true}))
              orelse (is_schema(B)
                      andalso changed([{M, '__schema__', 1}, {M, '__schema__', 2}], Old, New,
                                      #{M => true}))].

-spec is_schema(gatling_types:beam()) -> boolean().
is_schema(#{schema := Is, old := #{schema := Was}}) -> Is andalso Was.
