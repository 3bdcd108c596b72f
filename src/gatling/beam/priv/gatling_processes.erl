%% The processes of this node: which ones the callback modules belong to that change, which ones
%% run code of certain modules, and what can be seen of them from outside.
-module(gatling_processes).

-export([affected/2, running/1, is_generic/1, is_looping/1, describe/1, memory/1, count/1]).
-export_type([described/0]).

-type described() :: {Name :: binary(), CallbackModules :: [module()]}.

-spec affected([pid()], gatling_types:callbacks()) -> gatling_types:suspended().
affected(_, Callbacks) when map_size(Callbacks) =:= 0 ->
    [];
affected(Pids, Callbacks) ->
    lists:filtermap(
      fun(P) when P =:= self() -> false;
         (P) ->
              case [M || M <- callback_modules(P), is_map_key(M, Callbacks)] of
                  [] -> false;
                  Modules -> {true, {P, Modules}}
              end
      end, Pids).

%% The callback modules of a process that understands system messages, sys(3).
-spec callback_modules(pid()) -> [module()].
callback_modules(P) ->
    case process_info(P, dictionary) of
        {dictionary, Dictionary} ->
            case lists:keyfind('$initial_call', 1, Dictionary) of
                {_, {supervisor, M, _}} -> [M];
                {_, {gen_event, init_it, _}} -> handlers(P);
                {_, {M, init, _}} -> [M];
                {_, {M, join, 3}} -> [M]; % a Phoenix channel
                _ -> []
            end;
        undefined ->
            []
    end.

-spec handlers(pid()) -> [module()].
handlers(P) ->
    try gen_event:which_handlers(P) of
        Handlers -> lists:usort([case H of {M, _} -> M; M -> M end || H <- Handlers])
    catch
        exit:_ -> []
    end.

%% Processes of these modules: by their callbacks, or because they execute a function.
-spec running([module()]) -> [{pid(), [module()]}].
running([]) ->
    [];
running(Modules) ->
    Of = fun(P) -> lists:usort(callback_modules(P) ++ gatling_calls:stack(P)) end,
    gatling_calls:with_whole_stacks(
      fun() -> [{P, Ms} || P <- erlang:processes(), P =/= self(),
                           Ms <- [[M || M <- Of(P), lists:member(M, Modules)]], Ms =/= []] end).

-spec is_generic(pid()) -> boolean().
is_generic(P) ->
    case process_info(P, dictionary) of
        {dictionary, Dictionary} ->
            case lists:keyfind('$initial_call', 1, Dictionary) of
                {_, {supervisor, _, _}} -> true;
                {_, {_, join, 3}} -> true;
                {_, {_, mount, 3}} -> true; % a LiveView, which may hibernate
                {_, {M, init, 1}} -> erlang:module_loaded(M) andalso is_generic_module(M);
                _ -> is_looping(P)
            end;
        undefined ->
            false
    end.

%% Agents, among others, bear the name of something else.
-spec is_looping(pid()) -> boolean().
is_looping(P) ->
    case process_info(P, current_stacktrace) of
        {current_stacktrace, Stack} ->
            lists:any(fun({gen_server, F, _, _}) -> lists:member(F, [loop, handle_msg]);
                         ({gen_statem, F, _, _}) -> lists:prefix("loop", atom_to_list(F));
                         (_) -> false
                      end, Stack);
        undefined ->
            false
    end.

-spec is_generic_module(module()) -> boolean().
is_generic_module(M) ->
    Behaviours = lists:append([V || {K, V} <- M:module_info(attributes),
                                    K =:= behaviour orelse K =:= behavior]),
    Generic = [gen_server, 'Elixir.GenServer', gen_statem],
    lists:any(fun(B) -> lists:member(B, Generic) end, Behaviours).

-spec describe(pid()) -> described().
describe(P) -> {gatling_text:name(P), callback_modules(P)}.

-spec memory(pid()) -> non_neg_integer().
memory(P) ->
    case process_info(P, memory) of
        {memory, Bytes} -> Bytes;
        undefined -> 0
    end.

-spec count([Item]) -> [{Item, pos_integer()}].
count(Modules) ->
    maps:to_list(lists:foldl(fun(M, Acc) -> maps:update_with(M, fun(N) -> N + 1 end, 1, Acc) end,
                             #{}, Modules)).
