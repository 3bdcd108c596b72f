%% EUnit tests of gatling_rendering, with modules that stand in for LiveView's own.
-module(rendering_tests).

-include_lib("eunit/include/eunit.hrl").

-define(DIFF, 'Elixir.Phoenix.LiveView.Diff').

%% As LiveView's: a component that the page gives other assigns is rendered with the page, and what
%% the browser has is not sent again. A whole diff has the key s.
diff() ->
    "-module('Elixir.Phoenix.LiveView.Diff').\n"
    "-export([render/3, render/4, write_component/4, render_private/2]).\n"
    "render(S, Template, Components) ->\n"
    "    {Diff, Prints, New} = render(S, Template, maps:get(fingerprints, S), Components),\n"
    "    {S#{fingerprints := Prints}, Diff, New}.\n"
    "render(S, {Text, Other}, {nil, _}, Components) ->\n"
    "    {Diffs, New} = lists:foldl(fun(Cid, {D, C}) -> one(S, Cid, C, D) end, {#{}, Components},\n"
    "                               Other),\n"
    "    {#{s => [Text], c => Diffs, e => [page]}, {1, #{}}, New}.\n"
    "one(S, Cid, {Map, Ids, Next}, Diffs) ->\n"
    "    {Module, Id, Assigns, Private, Prints} = maps:get(Cid, Map),\n"
    "    Text = Module:render(Assigns),\n"
    "    Diff = case Prints of {nil, _} -> #{s => [Text]}; _ -> #{0 => Text} end,\n"
    "    C = {Module, Id, Assigns#{'__changed__' := #{}}, Private, {1, #{id => Id}}},\n"
    "    {Diffs#{Cid => Diff}, {Map#{Cid := C}, Ids, Next}}.\n"
    "write_component(S, Cid, {Map, Ids, Next} = Components, Fun) ->\n"
    "    {Module, Id, Assigns, Private, Prints} = maps:get(Cid, Map),\n"
    "    {#{assigns := New}, Extra} = Fun(S#{assigns := Assigns}, Module),\n"
    "    With = {Map#{Cid := {Module, Id, New, Private, Prints}}, Ids, Next},\n"
    "    Inner = maps:get(inner, Assigns, []),\n"
    "    case maps:size(maps:get('__changed__', New)) of\n"
    "        0 -> {#{}, Components, Extra};\n"
    "        _ -> {Diffs, Last} = lists:foldl(fun(I, {D, C}) -> one(S, I, C, D) end,\n"
    "                                         one(S, Cid, With, #{}), Inner),\n"
    "             {#{c => Diffs, e => [Id]}, Last, Extra}\n"
    "    end.\n"
    "render_private(_, Diff) -> Diff#{private => true}.\n".

others() ->
    ["-module('Elixir.Phoenix.LiveView.Renderer').\n-export([to_rendered/2]).\n"
     "to_rendered(#{assigns := Assigns}, View) -> View:page(Assigns).\n",
     "-module('Elixir.Phoenix.LiveView.Lifecycle').\n-export([after_render/1]).\n"
     "after_render(S) -> S.\n",
     "-module('Elixir.Phoenix.LiveView.Utils').\n-export([clear_changed/1, clear_temp/1]).\n"
     "clear_changed(#{assigns := A} = S) -> S#{assigns := A#{'__changed__' := #{}}}.\n"
     "clear_temp(#{private := P} = S) -> S#{private := P#{live_temp => #{}}}.\n",
     "-module('Elixir.Phoenix.Socket.Message').\n-export(['__struct__'/1]).\n"
     "'__struct__'(Fields) -> Fields.\n",
     "-module(rendering_view).\n-export([page/1, render/1, 'encode!'/1]).\n"
     "page(#{other := Other}) -> {new_page, Other}.\n"
     "render(#{raises := true}) -> error(undefined_assign);\n"
     "render(#{n := N}) -> {new, N}.\n"
     "'encode!'(Message) -> {encoded, Message}.\n"].

loaded() -> [loaded(S) || S <- [diff() | others()]].

loaded(Source) ->
    {ok, Tokens, _} = erl_scan:string(Source),
    {ok, Module, Binary} = compile:forms(forms(Tokens, [])),
    {module, Module} = code:load_binary(Module, "nofile", Binary),
    Module.

forms([], []) -> [];
forms([{dot, _} = Dot | Rest], Form) ->
    {ok, Parsed} = erl_parse:parse_form(lists:reverse([Dot | Form])),
    [Parsed | forms(Rest, [])];
forms([Token | Rest], Form) -> forms(Rest, [Token | Form]).

unloaded(Modules) -> [code:purge(M) || M <- Modules, code:delete(M)].

rendering_test_() ->
    Tests = [fun all_of_a_page_is_sent/0, fun as_up_to_1_0/0, fun what_has_changed_counts_once/0,
             fun components_in_components/0,
             fun which_assets_the_browser_has/0, fun one_that_raises_changes_nothing/0,
             fun unknown_forms_are_left/0],
    {setup, fun loaded/0, fun unloaded/1, {inorder, Tests}}.

component(Cid, More) ->
    {rendering_view, Cid, maps:merge(#{'__changed__' => #{}, n => Cid}, More), #{}, {7, #{}}}.

state(Components, Other) ->
    Map = maps:from_list([{Cid, component(Cid, More)} || {Cid, More} <- Components]),
    #{socket => #{'__struct__' => 'Elixir.Phoenix.LiveView.Socket', parent_pid => nil, view => rendering_view, transport_pid => self(), private => #{live_temp => old},
                  assigns => #{'__changed__' => #{}, other => Other}},
      components => {Map, #{}, 9}, fingerprints => {nil, #{}},
      topic => <<"lv:1">>, join_ref => <<"4">>, serializer => rendering_view}.

%% The diff that the browser got, and the state.
sent(State) ->
    {rendered, New} = gatling_rendering:render(State, [<<"assets/app-1.css">>]),
    receive
        {encoded, #{topic := <<"lv:1">>, event := <<"diff">>, join_ref := <<"4">>,
                    payload := Diff}} -> {Diff, New}
    after 0 -> error(nothing)
    end.

all_of_a_page_is_sent() ->
    {Diff, New} = sent(state([{1, #{}}, {2, #{}}], [])),
    ?assertEqual(#{s => [new_page], private => true, e => [page, 1, 2],
                   c => #{1 => #{s => [{new, 1}]}, 2 => #{s => [{new, 2}]}}}, Diff),
    #{components := {Map, #{}, 9}, fingerprints := {1, #{}}, socket := Socket} = New,
    ?assertMatch(#{assigns := #{'__changed__' := Nothing}, private := #{live_temp := Nothing}}
                   when Nothing =:= #{}, Socket),
    ?assertMatch(#{1 := {rendering_view, 1, #{n := 1}, #{}, {1, #{id := 1}}},
                   2 := {rendering_view, 2, #{n := 2}, #{}, {1, #{id := 2}}}}, Map).

as_up_to_1_0() ->
    #{socket := Socket} = State = state([{1, #{}}], []),
    Old = (maps:remove(fingerprints, State))#{socket := Socket#{fingerprints => {6, #{}}}},
    {Diff, New} = sent(Old),
    ?assertMatch(#{s := [new_page], c := #{1 := #{s := [{new, 1}]}}}, Diff),
    ?assertMatch(#{socket := #{fingerprints := {1, #{}}}}, New),
    ?assertNot(is_map_key(fingerprints, New)).

what_has_changed_counts_once() ->
    {#{c := Diffs, e := Events}, _} = sent(state([{1, #{}}, {2, #{}}], [2])),
    ?assertEqual(#{1 => #{s => [{new, 1}]}, 2 => #{s => [{new, 2}]}}, Diffs),
    ?assertEqual([page, 1], Events).

%% The one inside is older than the one around it, and is rendered twice.
components_in_components() ->
    {#{c := Diffs}, #{components := {Map, _, _}}} = sent(state([{1, #{}}, {2, #{inner => [1]}}], [])),
    ?assertEqual(#{1 => #{s => [{new, 1}]}, 2 => #{s => [{new, 2}]}}, Diffs),
    ?assertEqual([{1, #{id => 1}}, {1, #{id => 2}}], [element(5, C) || C <- maps:values(Map)]).

%% LiveView drops its own list after the mount; a page of which there is one keeps it.
which_assets_the_browser_has() ->
    Of = fun(#{socket := #{private := Private}}) -> maps:get(connect_params, Private, none) end,
    #{socket := Socket} = State = state([], []),
    With = fun(More) -> {_, New} = sent(State#{socket := maps:merge(Socket, More)}), Of(New) end,
    ?assertEqual(#{<<"_track_static">> => [<<"assets/app-1.css">>]}, With(#{})),
    ?assertEqual(first, With(#{private => #{connect_params => first}})),
    %% a nested page is not asked
    ?assertEqual(none, With(#{parent_pid => self()})).

one_that_raises_changes_nothing() ->
    State = state([{1, #{}}, {2, #{raises => true}}], []),
    {{failed, Why}, State} = gatling_rendering:render(State, []),
    ?assertMatch({0, _}, binary:match(Why, <<"undefined_assign">>)),
    receive {encoded, _} -> error(sent) after 0 -> ok end.

unknown_forms_are_left() ->
    #{socket := Socket} = State = state([], []),
    Known = component(1, #{}),
    Temporary = #{temporary_assigns => #{body => nil}},
    Components = [#{1 => {a, b}}, #{a => Known}, #{1 => setelement(3, Known, none)}, none,
                  #{1 => setelement(5, Known, none)}, #{1 => setelement(4, Known, Temporary)},
                  maps:from_keys(lists:seq(1, 1001), Known)],
    Sockets = [#{}, none, Socket#{assigns := #{}}, Socket#{assigns := none},
               Socket#{private := none}, Socket#{private := Temporary}],
    Unknown = [State#{components := {C, #{}, 9}} || C <- Components]
        ++ [State#{socket := S} || S <- Sockets]
        ++ [none, State#{components := none}, State#{fingerprints := none},
            maps:remove(fingerprints, State)],
    [?assertEqual({left, S}, gatling_rendering:render(S, [])) || S <- Unknown].
