%% Modules and applications that only one of two releases has: loads and starts them in the running
%% node, and takes them away. See gatling_swap.
-module(gatling_added).

-export([load/1, unload/1, start/1, stop/1]).

-spec load(gatling_types:changes()) -> ok.
load(#{added := []}) ->
    ok;
load(#{added := Added}) ->
    case code:finish_loading(gatling_code:prepare(Added)) of
        ok -> ok;
        {error, Reasons} -> throw({load, gatling_text:term(Reasons)})
    end.

-spec unload(gatling_types:changes()) -> ok.
unload(#{added := Added, apps_added := Apps}) ->
    stop(Apps),
    lists:foreach(fun gatling_code:remove/1, [M || {M, _} <- Added]).

-spec stop([gatling_types:app()]) -> ok.
stop(Apps) ->
    _ = [begin
             _ = application:stop(App),
             _ = application:unload(App),
             code:del_path(filename:join(Directory, "ebin"))
         end || #{name := App, directory := Directory} <- lists:reverse(Apps)],
    ok.

%% They come in an order of dependencies first.
-spec start(gatling_types:changes()) -> ok.
start(#{apps_added := Apps, env_set := Env}) ->
    lists:foreach(
      fun(#{name := App, type := Type, directory := Directory}) ->
              _ = code:add_pathz(filename:join(Directory, "ebin")),
              _ = application:load(App),
              gatling_config:set([E || {A, _, _} = E <- Env, A =:= App], []),
              case lists:member(Type, [none, load]) orelse application:start(App, Type) of
                  true -> ok;
                  ok -> ok;
                  {error, Reason} ->
                      Why = gatling_why:why_not_started(Reason),
                      throw({start_application, <<(atom_to_binary(App))/binary, ": ", Why/binary>>})
              end
      end, Apps).
