%% Applications' environments: what changes between two releases, how it reaches the application,
%% and how it is set, delivered and taken back.
-module(gatling_config).

-export([changes/1, report/2, set/2, take_back/2, tell/2]).

-type set() :: [{gatling_types:app_name(), Key :: atom(), Value :: term()}].
-type delete() :: [{gatling_types:app_name(), Key :: atom()}].
-type how() :: boot_only | opaque | delivered | at_start.
-type reported() :: {gatling_types:app_name(), Keys :: binary(), how()}.

-define(BOOT_ONLY, [kernel, stdlib, sasl, logger, elixir]).
%% Read by Phoenix.Endpoint.Supervisor when it starts its children.
-define(LISTENERS, [http, https, server, adapter, drainer, pubsub, watchers, force_watchers]).

%% Values are compared as the old and the new release resolve them: what a running application has
%% set for itself is left alone.
-spec changes({gatling_types:env(), gatling_types:env()}) -> {set(), delete()}.
changes({Old, New}) ->
    Set = [{A, K, gatling_pack:unpack(V)}
           || {A, Env} <- New, Before <- [proplists:get_value(A, Old, [])],
              {K, V} <- Env, lists:keyfind(K, 1, Before) =/= {K, V}],
    Delete = [{A, K} || {A, Before} <- Old, {_, Env} <- [lists:keyfind(A, 1, New)],
                        {K, _} <- Before, not lists:keymember(K, 1, Env)],
    {Set, Delete}.

%% Names only: values may be secrets. How a change reaches the application decides whether it is
%% hot.
-spec report(gatling_types:changes(), {gatling_types:env(), gatling_types:env()}) -> [reported()].
report(#{env_set := Set, env_delete := Delete, apps_added := Added}, {Old, _}) ->
    New = [A || #{name := A} <- Added],
    [report(A, K, proplists:get_value(K, proplists:get_value(A, Old, [])), V)
     || {A, K, V} <- Set, not lists:member(A, New)]
        ++ [{A, gatling_text:term(K), reaches(A, K, undefined)} || {A, K} <- Delete].

-spec report(gatling_types:app_name(), Key :: atom(), Before :: term(), After :: term()) ->
          reported().
report(App, Key, Before, After) ->
    case {reaches(App, Key, After), listeners(Key, Before, gatling_pack:pack(After))} of
        {delivered, [_ | _] = Keys} ->
            Names = lists:join(<<" ">>, [gatling_text:term(K) || K <- [Key | Keys]]),
            {App, iolist_to_binary(Names), at_start};
        {How, _} ->
            {App, gatling_text:term(Key), How}
    end.

-spec reaches(gatling_types:app_name(), Key :: atom(), After :: term()) -> how().
reaches(App, Key, After) ->
    case {lists:member(App, ?BOOT_ONLY), gatling_pack:opaque(gatling_pack:pack(After))} of
        {true, _} -> boot_only;
        {_, true} -> opaque;
        _ -> case {is_module(Key), tells(App)} of
                 {true, true} ->
                     case erlang:function_exported(Key, config_change, 2) of
                         true -> delivered;
                         false -> at_start
                     end;
                 {false, true} -> delivered;
                 {_, false} -> at_start
             end
    end.

%% A Phoenix endpoint takes over its configuration, but for what its listeners and sockets were
%% started with.
-spec listeners(Key :: atom(), Before :: term(), After :: term()) -> [atom()].
listeners(Key, Before, After) when is_list(Before), is_list(After) ->
    case is_module(Key)
        andalso lists:member('Elixir.Phoenix.Endpoint',
                             proplists:get_value(behaviour, Key:module_info(attributes), [])) of
        true ->
            [K || K <- ?LISTENERS,
                  proplists:get_value(K, Before) =/= proplists:get_value(K, After)];
        false ->
            []
    end;
listeners(_, _, _) ->
    [].

-spec is_module(atom()) -> boolean().
is_module(Key) -> is_atom(Key) andalso erlang:module_loaded(Key).

-spec tells(gatling_types:app_name()) -> boolean().
tells(App) ->
    case application:get_key(App, mod) of
        {ok, {M, _}} -> erlang:function_exported(M, config_change, 3);
        _ -> false
    end.

-spec set(set(), delete()) -> ok.
set(Set, Delete) ->
    _ = [application:set_env(A, K, V, [{persistent, true}]) || {A, K, V} <- Set],
    _ = [application:unset_env(A, K, [{persistent, true}]) || {A, K} <- Delete],
    ok.

%% All as it was when `EnvBefore` was taken.
-spec take_back(gatling_types:changes(), gatling_types:env()) -> ok.
take_back(#{env_set := Set}, EnvBefore) ->
    _ = [application:set_env(A, K, V) || {A, Env} <- EnvBefore, {K, V} <- Env],
    _ = [application:unset_env(A, K) || {A, K, _} <- Set,
                                        {_, Env} <- [lists:keyfind(A, 1, EnvBefore)],
                                        not lists:keymember(K, 1, Env)],
    ok.

%% Gives what failed, as [{What, Why}].
-spec tell(gatling_types:changes(), gatling_types:env()) -> gatling_types:failed().
tell(#{touched := Touched, env_set := Set, env_delete := Delete}, EnvBefore) ->
    case application_controller:config_change(EnvBefore) of
        ok -> [];
        {error, Why} -> [{<<"config_change/3">>, gatling_text:term(Why)}]
    end ++ lists:append([told(A) || A <- Touched, not lists:keymember(A, 1, Set),
                                    not lists:keymember(A, 1, Delete)]).

%% Call config_change/3 of every touched application, even if its environment is equal: Phoenix
%% endpoints then read their manifest of static files again. An application without such a clause
%% is left alone.
-spec told(gatling_types:app_name()) -> gatling_types:failed().
told(App) ->
    case application:get_key(App, mod) of
        {ok, {M, _}} ->
            case erlang:function_exported(M, config_change, 3) of
                true ->
                    try M:config_change([], [], []) of _ -> []
                    catch Class:What:Stack ->
                            case {What, Stack} of
                                {function_clause, [{M, config_change, _, _} | _]} -> [];
                                _ ->
                                    Why = gatling_text:term({App, Class, What}),
                                    [{<<"config_change/3">>, Why}]
                            end
                    end;
                false -> []
            end;
        _ ->
            []
    end.
