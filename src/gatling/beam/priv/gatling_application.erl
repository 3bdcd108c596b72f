%% Application resource files, app(4): what they say of an application, and how those of two
%% releases differ.
-module(gatling_application).

-export([spec/1, ordered/1, pairs/2, key/2, differing/2, callbacks/1, boot_keys/1, types/2]).
-export_type([pair/0]).

-type keys() :: [{atom(), term()}].
-type value() :: {atom(), term()} | false.
-type resource() :: {application, gatling_types:app_name(), keys()}.
-type pair() :: {gatling_types:app_name(), Before :: keys(), After :: keys()}.
-type apps() :: #{gatling_types:app_name() => gatling_types:app()}.
-type visited() :: {[gatling_types:app()], Seen :: [gatling_types:app_name()]}.

%% The keys that are read when an application is started, and at no other time.
-define(BOOT_KEYS, [start_phases, included_applications]).

%% Dependencies first: mix lists the applications of a release by their names.
-spec ordered([gatling_types:app()]) -> [gatling_types:app()].
ordered(Apps) ->
    Known = maps:from_list([{A, App} || #{name := A} = App <- Apps]),
    Visit = fun(#{name := A}, Found) -> visit(A, Known, Found) end,
    {Ordered, _} = lists:foldl(Visit, {[], []}, Apps),
    lists:reverse(Ordered).

-spec visit(gatling_types:app_name(), #{gatling_types:app_name() => gatling_types:app()},
            visited()) ->
          visited().
visit(App, Known, {Ordered, Seen} = Found) ->
    case Known of
        #{App := Which} ->
            case lists:member(App, Seen) of
                true ->
                    Found;
                false ->
                    Visit = fun(Needed, Acc) -> visit(Needed, Known, Acc) end,
                    {Before, All} = lists:foldl(Visit, {Ordered, [App | Seen]}, needs(Which)),
                    {[Which | Before], All}
            end;
        _ ->
            Found
    end.

-spec needs(gatling_types:app()) -> [gatling_types:app_name()].
needs(App) ->
    case spec(App) of
        {application, _, Keys} ->
            proplists:get_value(applications, Keys, [])
                ++ proplists:get_value(included_applications, Keys, []);
        _ -> []
    end.

%% The content of the file; `none` where there is none.
-spec spec(gatling_types:app()) -> resource() | none.
spec(App) ->
    File = file(App),
    case file:read_file(File) of
        {ok, Content} ->
            case parsed(binary_to_list(Content)) of
                {ok, Spec} -> Spec;
                error -> consulted(File)
            end;
        {error, _} ->
            none
    end.

%% As file:consult/1, which takes three times as long: it reads line by line, in another process. An
%% encoding counts for other than ASCII only, which is left to it.
-spec parsed(string()) -> {ok, resource()} | error.
parsed(Text) ->
    term_of(lists:all(fun(C) -> C < 128 end, Text) andalso erl_scan:string(Text)).

-spec term_of(false | tuple()) -> {ok, resource()} | error.
term_of({ok, Tokens, _}) ->
    case erl_parse:parse_term(Tokens) of
        {ok, Term} -> {ok, Term};
        {error, _} -> error
    end;
term_of(_) ->
    error.

-spec consulted(string()) -> resource() | none.
consulted(File) ->
    case file:consult(File) of
        {ok, [Spec]} -> Spec;
        _ -> none
    end.

-spec file(gatling_types:app()) -> string().
file(#{name := App, directory := D}) ->
    filename:join([D, "ebin", atom_to_list(App) ++ ".app"]).

%% The keys of each application in both releases, as [{App, Before, After}]. Reading these files
%% takes a good part of a comparison: of a pair that is the same file, one is read, and none of an
%% application of Elixir or OTP, of which only differences are asked for.
-spec pairs([{gatling_types:app(), gatling_types:app()}], gatling_types:files()) -> [pair()].
pairs(Apps, Differing) ->
    [case {is_same(Old, New, Differing), gatling_release:is_runtime(A)} of
         {true, true} -> {A, [], []};
         {true, false} -> Keys = keys(New), {A, Keys, Keys};
         {false, _} -> {A, keys(Old), keys(New)}
     end || {Old, #{name := A} = New} <- Apps].

-spec is_same(gatling_types:app(), gatling_types:app(), gatling_types:files()) -> boolean().
is_same(#{directory := Before}, #{directory := Now} = New, Differing) ->
    filename:basename(Before) =:= filename:basename(Now)
        andalso not is_map_key(file(New), Differing).

-spec keys(gatling_types:app()) -> keys().
keys(App) ->
    case spec(App) of
        {application, _, Keys} -> lists:sort(Keys);
        none -> []
    end.

%% A key with its value, in both releases; `false` where it is not given.
-spec key(atom(), [pair()]) -> [{gatling_types:app_name(), value(), value()}].
key(Key, Pairs) ->
    [{A, lists:keyfind(Key, 1, Before), lists:keyfind(Key, 1, After)}
     || {A, Before, After} <- Pairs].

-spec differing(atom(), [pair()]) -> [gatling_types:app_name()].
differing(Key, Pairs) ->
    [A || {A, Before, After} <- key(Key, Pairs), sorted(Before) =/= sorted(After)].

-spec sorted(value()) -> value().
sorted({Key, Values}) when is_list(Values) -> {Key, lists:sort(Values)};
sorted(Value) -> Value.

%% The applications whose callback module, or its start arguments, differ.
-spec callbacks([pair()]) -> [{gatling_types:app_name(), arguments | module}].
callbacks(Pairs) ->
    [{A, case {Before, After} of
             {{mod, {M, _}}, {mod, {M, _}}} -> arguments;
             _ -> module
         end}
     || {A, Before, After} <- key(mod, Pairs), Before =/= After].

-spec boot_keys([pair()]) -> [{gatling_types:app_name(), start_phases | included_applications}].
boot_keys(Pairs) -> [{A, Key} || Key <- ?BOOT_KEYS, A <- differing(Key, Pairs)].

%% The applications whose start type differs: permanent, transient, temporary, load,
%% none.
-spec types(apps(), apps()) -> [{gatling_types:app_name(), type}].
types(Old, New) ->
    [{A, type} || {A, #{type := After}} <- lists:sort(maps:to_list(New)),
                  #{A := #{type := Before}} <- [Old], Before =/= After].
