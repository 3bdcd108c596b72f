%% EUnit tests of functions from terms to terms, which need no node of an app.
-module(pure_tests).

-include_lib("eunit/include/eunit.hrl").

%% ---------------------------------------------------------------- gatling_code

walk_finds_local_functions_test() ->
    All = fun(_, _) -> true end,
    Found = fun(Term) -> gatling_code:functions(Term, All) end,
    Local = fun(X) -> X end,
    ?assertEqual([?MODULE], Found(Local)),
    ?assertEqual([?MODULE], Found({1, [#{key => {<<"x">>, Local}}]})),
    ?assertEqual([?MODULE], Found(#{Local => value})),
    ?assertEqual([?MODULE], Found([1 | Local])),
    ?assertEqual([], Found({fun lists:reverse/1, "text", #{}, []})),
    %% what a function holds is looked into as well
    Holds = fun() -> Local end,
    ?assertEqual([?MODULE, ?MODULE], Found(Holds)),
    ?assertEqual([], gatling_code:functions(Local, fun(_, M) -> M =:= other end)).

walk_ends_in_a_large_term_test() ->
    All = fun(_, _) -> true end,
    Large = lists:duplicate(200000, x),
    Local = fun() -> ok end,
    ?assertEqual([?MODULE], gatling_code:functions([Local | Large], All)),
    ?assertEqual([], gatling_code:functions(Large ++ [Local], All)),
    ?assertEqual([], gatling_code:functions([maps:from_keys(lists:seq(1, 100000), x), Local], All)).

paths_move_to_the_other_release_test() ->
    Place = fun(N) ->
                    #{root => "/a/v" ++ N, version => "0." ++ N, consolidated => "", apps => []}
            end,
    Moved = fun(Value) -> gatling_code:elsewhere(Value, Place("1"), Place("2")) end,
    ?assertEqual("/a/v2", Moved("/a/v1")),
    ?assertEqual("/a/v2/bin:/usr/bin", Moved("/a/v1/bin:/usr/bin")),
    ?assertEqual("/a/v2/releases/0.2/vm.args", Moved("/a/v1/releases/0.1/vm.args")),
    ?assertEqual("/a/v10/bin", Moved("/a/v10/bin")),
    ?assertEqual("/a/releases/1", gatling_code:flat("/a/lib/../releases/1")).

%% ---------------------------------------------------------------- gatling_text

text_of_a_term_is_short_test() ->
    ?assertEqual(<<"[ok]">>, gatling_text:term([ok])),
    ?assert(byte_size(gatling_text:term(lists:seq(1, 100000))) < 2100),
    ?assertEqual(<<"lists.map/2">>, gatling_text:function({lists, map, 2})).

text_names_three_of_many_test() ->
    Failed = [{self(), <<"why">>} || _ <- lists:seq(1, 5)],
    [One] = gatling_text:some([hd(Failed)]),
    ?assertEqual([One, One, One, <<"and 2 more">>], gatling_text:some(Failed)),
    ?assertMatch({_, _}, binary:match(One, <<": why">>)).

%% ---------------------------------------------------------------- gatling_why, gatling_errors

reasons_hold_no_values_test() ->
    Stack = [{shop, price, ["secret"], [{file, "lib/shop.ex"}, {line, 7}]}],
    ?assertEqual(<<"badmatch in shop.price/1 (lib/shop.ex:7)">>,
                 gatling_why:why({{badmatch, "secret"}, Stack})),
    ?assertEqual(<<"shop.price/1 is undefined">>, gatling_why:why({undef, Stack})),
    ?assertEqual(<<"KeyError (key price not found) in shop.price/1 (lib/shop.ex:7)">>,
                 gatling_why:why({{badkey, price, #{a => "secret"}}, Stack})),
    ?assertEqual(<<"an error">>, gatling_why:why("secret")),
    ?assertEqual(<<"an error">>, gatling_why:why({"secret", 1})).

errors_are_found_in_what_is_logged_test() ->
    Stack = [{shop, price, 1, []}],
    Found = fun(Message) -> gatling_errors:error_in(#{}, Message) end,
    ?assertEqual({badarg, Stack}, Found({report, #{reason => {wrapped, [{badarg, Stack}]}}})),
    %% Ranch has the reason and the stack side by side
    ?assertEqual({badarg, Stack}, Found({"~p ~p", [badarg, Stack]})),
    ?assertEqual(none, Found({report, #{reason => {{{{{badarg, Stack}}}}}}})),
    ?assertEqual(none, Found({string, "badarg"})).

%% ---------------------------------------------------------------- gatling_tree, gatling_pack

node_with(Children) ->
    #{flags => #{strategy => one_for_one}, children => Children}.

child(Id, Arguments) ->
    #{id => Id, start => {worker, start_link, Arguments}, restart => permanent, modules => [worker]}.

trees_differ_in_children_test() ->
    Old = #{[] => node_with([child(a, [1]), child(b, []), child(c, [])]), [gone] => node_with([])},
    New = #{[] => node_with([child(c, []), child(a, [2]), child(d, [])]), [new] => node_with([])},
    ?assertMatch([#{path := [], flags := same, stop := [b], start := [#{id := d}],
                    reordered := true, changed := [{a, [<<"its arguments">>]}], opaque := []}],
                 gatling_tree:diff(Old, New)),
    ?assertEqual([], gatling_tree:diff(New, New)),
    %% the modules of a child follow from what starts it
    Other = maps:put(modules, [], child(a, [])),
    ?assertEqual([], gatling_tree:diff(#{[] => node_with([child(a, [])])},
                                       #{[] => node_with([Other])})).

differences_name_keys_and_no_values_test() ->
    Before = child(a, [[{url, [{host, "secret"}]}, {port, 1}]]),
    After = child(a, [[{url, [{host, "other"}]}, {port, 2}]]),
    ?assertEqual([<<"its argument port">>, <<"its argument url.host">>],
                 gatling_tree:differences(Before, After)),
    ?assertEqual([<<"restart">>], gatling_tree:differences(Before, Before#{restart => temporary})),
    ?assertEqual([<<"the function that starts it">>],
                 gatling_tree:differences(Before, Before#{start => {worker, other, []}})),
    ?assertEqual([<<"its arguments">>], gatling_tree:differences(child(a, ["x"]), child(a, ["xy"]))).

packed_terms_travel_test() ->
    Term = #{a => [{1, <<"x">>} | improper], "list" => fun lists:map/2},
    ?assertEqual(Term, gatling_pack:unpack(gatling_pack:pack(Term))),
    ?assertNot(gatling_pack:opaque(gatling_pack:pack(Term))),
    [?assert(gatling_pack:opaque(gatling_pack:pack([#{key => {X}}])))
     || X <- [self(), make_ref(), fun() -> ok end]].

%% ---------------------------------------------------------------- gatling_capture

%% One length byte for each atom up to OTP 27; compact lengths and a negative count from OTP 28 on.
atom_tables_are_renamed_test() ->
    Long = binary:copy(<<"a">>, 300),
    ?assertEqual(<<2:32, 1, "x", 3, "new">>,
                 gatling_capture:rename(<<2:32, 1, "x", 3, "old">>, <<"old">>, <<"new">>)),
    Compact = fun(Name) -> <<-2:32, (gatling_capture:compact(Name))/binary, 16#10, "x">> end,
    ?assertEqual(Compact(Long), gatling_capture:rename(Compact(<<"old">>), <<"old">>, Long)),
    ?assertEqual(Compact(<<"new">>), gatling_capture:rename(Compact(Long), Long, <<"new">>)).

%% ---------------------------------------------------------------- others

environments_differ_by_key_test() ->
    Old = [{shop, [{a, 1}, {b, 2}]}, {gone, [{a, 1}]}],
    New = [{shop, [{a, 1}, {c, 3}]}, {new, [{a, 1}]}],
    ?assertEqual({[{shop, c, 3}, {new, a, 1}], [{shop, b}]}, gatling_config:changes({Old, New})).

positions_do_not_count_test() ->
    ?assertEqual([{mfa, x}], gatling_disasm:placeless([{line, 7}, {mfa, x}, {file, "a.ex"}])),
    ?assertEqual({#{mfa => x}}, gatling_disasm:placeless({#{line => 7, file => "a.ex", mfa => x}})),
    ?assertEqual([{line, x}, {file, y}], gatling_disasm:placeless([{line, x}, {file, y}])),
    ?assertEqual([a | b], gatling_disasm:placeless([a | b])).

%% `:shop.config(:a)` is a call and `config :shop, Shop` is none, as Elixir's parser gives them.
runtime_script_calls_test() ->
    Shop = {'__aliases__', [], ['Shop']},
    Called = fun(Quoted) -> gatling_script:targets(Quoted, []) end,
    ?assertEqual([shop], Called({{'.', [], [shop, config]}, [], [a]})),
    ?assertEqual([], Called({config, [], [shop, Shop]})).
