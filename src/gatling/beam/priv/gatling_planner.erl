%% The facts that only a node of a release knows: its configuration, its supervision trees, its
%% structs and code_change functions. Runs in a throw-away node (`bin/NAME eval`) in which none of
%% the release's applications is started.
-module(gatling_planner).

-export([main/0]).

%% How the configuration was resolved; with Distillery it names directories of the release.
-define(OF_BOOT, [{elixir, config_provider_init}, {elixir, config_provider_booted},
                  {distillery, config_providers}]).

%% Reads what is asked from the file that GATLING_PLANNER names, and writes the answer there.
-spec main() -> ok.
main() ->
    %% what stands in start/2 before its supervisor is run, and the live node has its data open
    ok = gatling_holds:forbid(),
    File = os:getenv("GATLING_PLANNER"),
    {ok, Question} = file:read_file(File),
    #{apps := Apps, trees := Trees, modules := Modules} = binary_to_term(Question),
    Answer = #{env => [{A, env(A)} || A <- Apps],
               modules => [{M, #{struct => struct_keys(M), code_change => code_change(M),
                                 schema => schema(M)}}
                           || M <- Modules],
               trees => [{A, tree(A)} || A <- Trees]},
    ok = file:write_file(File, term_to_binary(Answer)).

-spec env(gatling_types:app_name()) -> [{Key :: atom(), Packed :: term()}].
env(App) ->
    _ = application:load(App),
    lists:sort([{K, gatling_pack:pack(V)} || {K, V} <- application:get_all_env(App),
                                             not lists:member({App, K}, ?OF_BOOT)]).

%% Many a start/2 attaches handlers to telemetry before it starts its supervisor. It fails without
%% that library.
-spec tree(gatling_types:app_name()) -> gatling_capture:found().
tree(App) ->
    _ = application:ensure_all_started(telemetry),
    _ = application:load(App),
    case application:get_key(App, mod) of
        {ok, {_, _} = Callback} -> gatling_capture:of_app(App, Callback);
        _ -> {ok, #{}}
    end.

-spec struct_keys(module()) -> [atom()] | none.
struct_keys(Module) ->
    case code:ensure_loaded(Module) =:= {module, Module}
        andalso erlang:function_exported(Module, '__struct__', 0) of
        true -> lists:sort(maps:keys(Module:'__struct__'()) -- ['__struct__']);
        false -> none
    end.

%% Hashes of the parts of an Ecto schema from which queries are made, and of those by which Ecto
%% recognizes a query that it has made. The second may stay while the first changes: then queries of
%% the old schema go on being used.
-spec schema(module()) -> #{made := non_neg_integer(), known := non_neg_integer()} | none.
schema(Module) ->
    case code:ensure_loaded(Module) =:= {module, Module}
        andalso erlang:function_exported(Module, '__schema__', 2) of
        true ->
            Own = [reflected(Module, [K])
                   || K <- [source, prefix, primary_key, fields, query_fields]],
            Each = [{One, [reflected(Module, [What, One]) || What <- Whats]}
                    || {Many, Whats} <- [{fields, [type, field_source]},
                                         {associations, [association]}],
                       All <- [reflected(Module, [Many])], is_list(All), One <- All],
            #{made => erlang:phash2({Own, Each}),
              known => erlang:phash2(reflected(Module, [hash]))};
        false ->
            none
    end.

-spec reflected(module(), [term()]) -> term().
reflected(Module, Arguments) ->
    try apply(Module, '__schema__', Arguments) catch error:_ -> undefined end.

%% Whether code_change is written by hand; the one that `use GenServer` provides gives any state
%% back.
-spec code_change(module()) -> none | default | custom.
code_change(Module) ->
    _ = code:ensure_loaded(Module),
    case {erlang:function_exported(Module, code_change, 3),
          erlang:function_exported(Module, code_change, 4)} of
        {false, false} -> none;
        {true, _} -> probe(fun(State) -> Module:code_change(undefined, State, []) end, 1);
        {_, true} -> probe(fun(State) -> Module:code_change(undefined, State, State, []) end, 2)
    end.

-spec probe(fun((reference()) -> term()), States :: pos_integer()) -> default | custom.
probe(Fun, States) ->
    Unknown = make_ref(),
    Default = list_to_tuple([ok | lists:duplicate(States, Unknown)]),
    try Fun(Unknown) of
        Default -> default;
        _ -> custom
    catch
        _:_ -> custom
    end.
