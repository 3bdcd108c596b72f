%% The calls of a release's script when the node boots: the code of the release that its
%% configuration depends on.
-module(gatling_script).

-export([called/2]).

%% Modules of the release's own, not of Elixir's or OTP's, that config/runtime.exs calls, imports
%% or makes structs of. A name that is only configured (`config :shop, Shop.Repo`) is not called.
%% If the script cannot be read this way, all that it might call is meant: `unknown`.
-spec called(binary(), gatling_types:sources()) -> [module() | unknown].
called(<<>>, _) ->
    [];
called(Script, Modules) ->
    case 'Elixir.Code':string_to_quoted(Script) of
        {ok, Quoted} -> lists:usort([M || M <- targets(Quoted, []), is_own(M, Modules)]);
        {error, _} -> [unknown]
    end.

-spec is_own(module(), gatling_types:sources()) -> boolean().
is_own(M, Modules) ->
    case Modules of
        #{M := {App, _}} -> not gatling_release:is_runtime(App);
        _ -> false
    end.

-spec targets(Quoted :: term(), [module()]) -> [module()].
targets({{'.', _, [Target | _]}, _, Arguments}, Found) ->
    targets(Arguments, targets(Target, module(Target) ++ Found));
targets({Directive, _, [Target | Rest]}, Found)
  when Directive =:= alias; Directive =:= import; Directive =:= require; Directive =:= use;
       Directive =:= '%'; Directive =:= apply ->
    targets(Rest, targets(Target, module(Target) ++ Found));
targets({Form, _, Arguments}, Found) -> targets(Arguments, targets(Form, Found));
targets({Key, Value}, Found) -> targets(Value, targets(Key, Found));
targets([H | T], Found) -> targets(T, targets(H, Found));
targets(_, Found) -> Found.

-spec module(Quoted :: term()) -> [module()].
module({'__aliases__', _, Names}) ->
    case lists:all(fun is_atom/1, Names) of
        true -> ['Elixir.Module':concat(Names)];
        false -> []
    end;
module(Name) when is_atom(Name) -> [Name];
module(_) -> [].
