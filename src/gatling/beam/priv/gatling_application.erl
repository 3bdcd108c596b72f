%% Application resource files, app(4): what they say of an application, and how those of two releases
%% differ.
-module(gatling_application).

-export([spec/1, ordered/1, pairs/2, key/2, differing/2, callbacks/1, boot_keys/1, types/2]).

%% What is read when an application is started, and at no other time.
-define(BOOT_KEYS, [start_phases, included_applications]).

%% Dependencies first: mix lists the applications of a release by their names.
ordered(Apps) ->
    Known = maps:from_list([{A, App} || #{name := A} = App <- Apps]),
    Visit = fun(#{name := A}, Found) -> visit(A, Known, Found) end,
    {Ordered, _} = lists:foldl(Visit, {[], []}, Apps),
    lists:reverse(Ordered).

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

needs(App) ->
    case spec(App) of
        {application, _, Keys} ->
            proplists:get_value(applications, Keys, [])
                ++ proplists:get_value(included_applications, Keys, []);
        _ -> []
    end.

%% What the file says; `none` where there is none.
spec(App) ->
    case file:consult(file(App)) of
        {ok, [Spec]} -> Spec;
        _ -> none
    end.

file(#{name := App, directory := D}) ->
    filename:join([D, "ebin", atom_to_list(App) ++ ".app"]).

%% The keys of each application in both releases, as [{App, Before, After}]. Reading these files is what
%% a comparison would take most of its time for: of a pair that is the same file, one is read.
pairs(Apps, Differing) ->
    [{A, before(Old, New, After, Differing), After} || {Old, #{name := A} = New} <- Apps, After <- [keys(New)]].

before(#{directory := Before} = Old, #{directory := Now} = New, After, Differing) ->
    case filename:basename(Before) =:= filename:basename(Now) andalso not is_map_key(file(New), Differing) of
        true -> After;
        false -> keys(Old)
    end.

keys(App) ->
    case spec(App) of
        {application, _, Keys} -> lists:sort(Keys);
        none -> []
    end.

%% A key with its value, in both releases; `false` where it is not given.
key(Key, Pairs) ->
    [{A, lists:keyfind(Key, 1, Before), lists:keyfind(Key, 1, After)} || {A, Before, After} <- Pairs].

differing(Key, Pairs) ->
    [A || {A, Before, After} <- key(Key, Pairs), sorted(Before) =/= sorted(After)].

sorted({Key, Values}) when is_list(Values) -> {Key, lists:sort(Values)};
sorted(Value) -> Value.

%% Where the callback module is another one, or is started with other arguments.
callbacks(Pairs) ->
    [{A, case {Before, After} of
             {{mod, {M, _}}, {mod, {M, _}}} -> arguments;
             _ -> module
         end}
     || {A, Before, After} <- key(mod, Pairs), Before =/= After].

boot_keys(Pairs) -> [{A, Key} || Key <- ?BOOT_KEYS, A <- differing(Key, Pairs)].

%% Where a release starts an application in another way: permanent, transient, temporary, load, none.
types(Old, New) ->
    [{A, type} || {A, #{type := After}} <- lists:sort(maps:to_list(New)),
                  #{A := #{type := Before}} <- [Old], Before =/= After].
