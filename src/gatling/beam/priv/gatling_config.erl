%% Applications' environments: what changes between two releases, how it reaches the application, and
%% how it is set, told and taken back.
-module(gatling_config).

-export([changes/1, report/2, set/2, take_back/2, tell/2]).

-define(BOOT_ONLY, [kernel, stdlib, sasl, logger, elixir]).
%% Read by Phoenix.Endpoint.Supervisor when it starts its children.
-define(LISTENERS, [http, https, server, adapter, drainer, pubsub, watchers, force_watchers]).

%% Values are compared as the old and the new release resolve them: what a running application has set
%% for itself is left alone.
changes({Old, New}) ->
    Set = [{A, K, gatling_tree:unpack(V)}
           || {A, Env} <- New, Before <- [proplists:get_value(A, Old, [])],
              {K, V} <- Env, lists:keyfind(K, 1, Before) =/= {K, V}],
    Delete = [{A, K} || {A, Before} <- Old, {_, Env} <- [lists:keyfind(A, 1, New)],
                        {K, _} <- Before, not lists:keymember(K, 1, Env)],
    {Set, Delete}.

%% Names only: values may be secrets. How a change reaches the application decides whether it is hot.
report(#{env_set := Set, env_delete := Delete, apps_added := Added}, {Old, _}) ->
    New = [A || #{name := A} <- Added],
    [report(A, K, proplists:get_value(K, proplists:get_value(A, Old, [])), V)
     || {A, K, V} <- Set, not lists:member(A, New)]
        ++ [{A, gatling_processes:text(K), reaches(A, K, undefined)} || {A, K} <- Delete].

report(App, Key, Before, After) ->
    case {reaches(App, Key, After), listeners(Key, Before, gatling_tree:pack(After))} of
        {delivered, [_ | _] = Keys} ->
            Names = lists:join(<<" ">>, [gatling_processes:text(K) || K <- [Key | Keys]]),
            {App, iolist_to_binary(Names), at_start};
        {How, _} ->
            {App, gatling_processes:text(Key), How}
    end.

reaches(App, Key, After) ->
    case {lists:member(App, ?BOOT_ONLY), gatling_tree:opaque(gatling_tree:pack(After))} of
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
listeners(Key, Before, After) when is_list(Before), is_list(After) ->
    case is_module(Key)
        andalso lists:member('Elixir.Phoenix.Endpoint',
                             proplists:get_value(behaviour, Key:module_info(attributes), [])) of
        true -> [K || K <- ?LISTENERS, proplists:get_value(K, Before) =/= proplists:get_value(K, After)];
        false -> []
    end;
listeners(_, _, _) ->
    [].

is_module(Key) -> is_atom(Key) andalso erlang:module_loaded(Key).

tells(App) ->
    case application:get_key(App, mod) of
        {ok, {M, _}} -> erlang:function_exported(M, config_change, 3);
        _ -> false
    end.

set(Set, Delete) ->
    _ = [application:set_env(A, K, V, [{persistent, true}]) || {A, K, V} <- Set],
    _ = [application:unset_env(A, K, [{persistent, true}]) || {A, K} <- Delete],
    ok.

%% All as it was when `EnvBefore` was taken.
take_back(#{env_set := Set}, EnvBefore) ->
    _ = [application:set_env(A, K, V) || {A, Env} <- EnvBefore, {K, V} <- Env],
    _ = [application:unset_env(A, K) || {A, K, _} <- Set,
                                        {_, Env} <- [lists:keyfind(A, 1, EnvBefore)],
                                        not lists:keymember(K, 1, Env)],
    ok.

%% Gives what failed, as [{What, Why}].
tell(#{touched := Touched, env_set := Set, env_delete := Delete}, EnvBefore) ->
    case application_controller:config_change(EnvBefore) of
        ok -> [];
        {error, Why} -> [{<<"config_change/3">>, gatling_processes:text(Why)}]
    end ++ lists:append([told(A) || A <- Touched, not lists:keymember(A, 1, Set),
                                    not lists:keymember(A, 1, Delete)]).

%% Every touched application is told, also when its environment is equal: Phoenix endpoints re-read
%% their manifest of static files then. One that has nothing to say to that need not have a clause.
told(App) ->
    case application:get_key(App, mod) of
        {ok, {M, _}} ->
            case erlang:function_exported(M, config_change, 3) of
                true ->
                    try M:config_change([], [], []) of _ -> []
                    catch Class:What:Stack ->
                            case {What, Stack} of
                                {function_clause, [{M, config_change, _, _} | _]} -> [];
                                _ -> [{<<"config_change/3">>, gatling_processes:text({App, Class, What})}]
                            end
                    end;
                false -> []
            end;
        _ ->
            []
    end.
