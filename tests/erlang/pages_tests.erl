%% EUnit tests of gatling_pages, with processes that look like LiveView's channels.
-module(pages_tests).

-include_lib("eunit/include/eunit.hrl").

-define(CHANNEL, 'Elixir.Phoenix.LiveView.Channel').

%% A channel with the shape of LiveView's, which hands what it does not know to the app.
source() ->
    "-module('Elixir.Phoenix.LiveView.Channel').\n"
    "-behaviour(gen_server).\n"
    "-export([init/1, handle_call/3, handle_cast/2, handle_info/2, '__live__'/0]).\n"
    "init(State) ->\n"
    "    is_map(State) andalso put('$initial_call', {?MODULE, mount, 3}),\n"
    "    {ok, State}.\n"
    "'__live__'() -> #{}.\n"
    "handle_call(get, _, S) -> {reply, S, S}.\n"
    "handle_cast({busy, Ms}, S) -> timer:sleep(Ms), {noreply, S};\n"
    "handle_cast(close, S) -> timer:sleep(100), {stop, {shutdown, closed}, S}.\n"
    "handle_info({phoenix_live_reload, _, _}, S) -> {noreply, S};\n"
    "handle_info(_, _) -> error(left_to_the_app).\n".

%% The functions with which LiveView renders and sends: the test is the browser.
others() ->
    ["-module('Elixir.Phoenix.LiveView.Diff').\n-export([render/3, render_private/2]).\n"
     "render(#{view := P, assigns := #{fail := true}}, P, _) -> error(undefined_assign);\n"
     "render(#{assigns := #{slow := Ms}} = S, _, Components) ->\n"
     "    timer:sleep(Ms), {S, #{}, Components};\n"
     "render(S, _, Components) -> {S, #{}, Components}.\n"
     "render_private(_, Diff) -> Diff.\n",
     "-module('Elixir.Phoenix.LiveView.Renderer').\n-export([to_rendered/2]).\n"
     "to_rendered(_, View) -> View.\n",
     "-module('Elixir.Phoenix.LiveView.Lifecycle').\n-export([after_render/1]).\n"
     "after_render(S) -> S.\n",
     "-module('Elixir.Phoenix.LiveView.Utils').\n-export([clear_changed/1, clear_temp/1]).\n"
     "clear_changed(S) -> S.\nclear_temp(S) -> S.\n",
     "-module('Elixir.Phoenix.Socket.Message').\n-export(['__struct__'/1]).\n"
     "'__struct__'(Fields) -> Fields.\n",
     "-module(pages_serializer).\n-export(['encode!'/1]).\n'encode!'(M) -> {sent, M}.\n"].

old_source() ->
    string:replace(source(), "phoenix_live_reload", "other", all).

compiled(Source) ->
    Named = string:replace(Source, "?MODULE", "'Elixir.Phoenix.LiveView.Channel'", all),
    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Named)),
    Forms = forms(Tokens, []),
    {ok, Module, Binary} = compile:forms(Forms),
    {Module, Binary}.

forms([], []) -> [];
forms([{dot, _} = Dot | Rest], Form) ->
    {ok, Parsed} = erl_parse:parse_form(lists:reverse([Dot | Form])),
    [Parsed | forms(Rest, [])];
forms([Token | Rest], Form) -> forms(Rest, [Token | Form]).

%% In a directory of its own, as the module is looked for on the path.
loaded(Source) ->
    {Module, Binary} = compiled(Source),
    Directory = filename:join(["/tmp", "gatling-pages-" ++ os:getpid()]),
    ok = filelib:ensure_path(Directory),
    File = filename:join(Directory, atom_to_list(Module) ++ ".beam"),
    ok = file:write_file(File, Binary),
    true = code:add_patha(Directory),
    code:purge(Module),
    {module, Module} = code:load_abs(filename:rootname(File)),
    Directory.

unloaded(Directory) ->
    code:purge(?CHANNEL),
    code:delete(?CHANNEL),
    code:purge(?CHANNEL),
    code:del_path(Directory),
    file:del_dir_r(Directory).

in_memory(Source) ->
    {Module, Binary} = compiled(Source),
    {module, Module} = code:load_binary(Module, "nofile", Binary),
    Module.

pages_test_() ->
    Tests = [fun nothing_is_open/0, fun all_render/0, fun their_states_are_handed_on/0,
             fun they_are_prepared_for_new_code/0,
             fun others_are_left_alone/0, fun those_that_fail_stop_nothing/0,
             fun the_result_is_kept/0,
             fun one_that_closes_is_none/0, fun a_busy_one_renders_later/0,
             fun the_time_is_limited/0, fun the_rest_renders_after_the_answer/0,
             fun busy_ones_hold_up_no_others/0, fun one_without_a_browser_is_none/0,
             fun others_are_not_asked/0,
             fun those_that_hibernate_are_looked_into/0],
    {setup, fun() -> {loaded(source()), [in_memory(S) || S <- others()]} end,
     fun({Directory, Modules}) ->
             unloaded(Directory),
             [code:purge(M) || M <- Modules, code:delete(M)]
     end,
     {inorder, [{timeout, 30, Test} || Test <- Tests]}}.

%% Before 0.18.4 it is not known how pages render.
old_one_test_() ->
    {setup, fun() -> loaded(old_source()) end, fun unloaded/1,
     [fun() ->
              Page = page(#{}),
              ?assertMatch(#{open := 0}, render()),
              ?assert(is_process_alive(Page)),
              stop([Page])
      end]}.

socket(More) ->
    maps:merge(#{'__struct__' => 'Elixir.Phoenix.LiveView.Socket', parent_pid => nil,
                 view => self(), transport_pid => self(),
                 assigns => #{'__changed__' => #{}, name => <<"typed">>},
                 private => #{live_temp => #{}}, fingerprints => {1, #{0 => {2, #{}}}}}, More).

state(More) ->
    maps:merge(#{socket => socket(#{}), topic => <<"lv:1">>, join_ref => <<"4">>,
                 serializer => pages_serializer, components => {#{}, #{}, 1}}, More).

failing() -> #{socket => socket(#{assigns => #{'__changed__' => #{}, fail => true}})}.

page(More) ->
    {ok, P} = gen_server:start(?CHANNEL, state(More), []),
    P.

stop(Pages) -> [catch gen_server:stop(P) || P <- Pages].

render() -> render(10000).

render(Limit) ->
    gatling_pages:await(gatling_pages:start([<<"assets/app-1.css">>]), Limit).

%% How many messages the browsers got.
received() -> receive {sent, _} -> 1 + received() after 0 -> 0 end.

nothing_is_open() ->
    ?assertEqual(#{open => 0, rendered => 0, failed => 0, left => 0, busy => 0, unreached => 0,
                   why => <<>>}, render()),
    ?assertEqual(0, gatling_pages:open()).

all_render() ->
    Pages = [page(#{}) || _ <- lists:seq(1, 300)],
    ?assertEqual(300, gatling_pages:open()),
    ?assertMatch(#{open := 300, rendered := 300, unreached := 0}, render()),
    ?assertEqual(300, received()),
    stop(Pages).

their_states_are_handed_on() ->
    Page = page(#{}),
    ?assertMatch(#{rendered := 1}, render()),
    ?assertMatch(#{socket := #{assigns := #{name := <<"typed">>},
                               private := #{connect_params := _}}}, sys:get_state(Page)),
    ?assertEqual(1, received()),
    stop([Page]).

%% A click after the switch renders a page before its turn: static_changed?/1 must not raise then.
they_are_prepared_for_new_code() ->
    Private = #{temporary_assigns => #{body => nil}},
    Pages = [page(#{}), page(#{socket => socket(#{private => Private})})],
    {ok, Unmounted} = gen_server:start(?CHANNEL, make_ref(), []),
    Child = page(#{socket => socket(#{parent_pid => self()})}),
    States = [sys:get_state(P) || P <- [Unmounted, Child]],
    ok = gatling_pages:prepare([<<"assets/app-1.css">>]),
    Params = #{<<"_track_static">> => [<<"assets/app-1.css">>]},
    [?assertMatch(#{socket := #{private := #{connect_params := Params}}}, sys:get_state(P))
     || P <- Pages],
    ?assertEqual(States, [sys:get_state(P) || P <- [Unmounted, Child]]),
    %% those with which it was loaded, also after another upgrade
    ok = gatling_pages:prepare([<<"assets/app-2.css">>]),
    [?assertMatch(#{socket := #{private := #{connect_params := Params}}}, sys:get_state(P))
     || P <- Pages],
    ?assertEqual(0, received()),
    stop([Unmounted, Child | Pages]).

%% Whatever the state is, the process goes on with it.
others_are_left_alone() ->
    Private = #{temporary_assigns => #{body => nil}},
    {ok, Unmounted} = gen_server:start(?CHANNEL, make_ref(), []),
    Pages = [Unmounted, page(#{socket => socket(#{private => Private})}), page(#{socket => none})],
    States = [sys:get_state(P) || P <- Pages],
    ?assertMatch(#{open := 3, rendered := 0, left := 3}, render()),
    ?assertEqual(States, [sys:get_state(P) || P <- Pages]),
    ?assertEqual(0, received()),
    stop(Pages).

%% They are as they were, and are still there.
those_that_fail_stop_nothing() ->
    Pages = [page(failing()) || _ <- lists:seq(1, 20)] ++ [page(#{})],
    States = [sys:get_state(P) || P <- lists:droplast(Pages)],
    #{open := 21, rendered := 1, failed := 20, unreached := 0, why := Why} = render(),
    ?assertMatch({0, _}, binary:match(Why, <<"undefined_assign">>)),
    ?assertEqual(States, [sys:get_state(P) || P <- lists:droplast(Pages)]),
    ?assertEqual(1, received()),
    stop(Pages).

%% A deployment does something else while they render.
the_result_is_kept() ->
    Page = page(#{}),
    Worker = gatling_pages:start([]),
    receive {sent, _} -> ok end,
    timer:sleep(50),
    ?assertMatch(#{open := 1, rendered := 1}, gatling_pages:await(Worker, 0)),
    ?assertMatch(#{open := 0}, gatling_pages:await(Worker, 0)),
    stop([Page]).

one_that_closes_is_none() ->
    Page = page(#{}),
    gen_server:cast(Page, close),
    ?assertMatch(#{open := 1, rendered := 0, failed := 0, left := 0, busy := 0, unreached := 0},
                 render()).

a_busy_one_renders_later() ->
    Page = page(#{}),
    gen_server:cast(Page, {busy, 3000}),
    ?assertMatch(#{open := 1, rendered := 0, busy := 1}, render()),
    receive {sent, _} -> ok after 5000 -> error(never) end,
    stop([Page]).

the_time_is_limited() ->
    Pages = [page(#{}) || _ <- lists:seq(1, 50)],
    [gen_server:cast(P, {busy, 1000}) || P <- Pages],
    #{open := 50, busy := Busy, unreached := Left} = render(100),
    ?assertEqual(50, Busy + Left),
    stop(Pages),
    received().

%% Those whose turn has not come within the time render nevertheless.
the_rest_renders_after_the_answer() ->
    Number = 20 * erlang:system_info(schedulers_online),
    Slow = #{socket => socket(#{assigns => #{'__changed__' => #{}, slow => 30}})},
    Pages = [page(Slow) || _ <- lists:seq(1, Number)],
    #{open := Number, unreached := Left} = render(60),
    ?assert(Left > 0),
    [receive {sent, _} -> ok after 10000 -> error({missing, N}) end
     || N <- lists:seq(1, Number)],
    ?assertEqual(0, received()),
    stop(Pages).

%% A page that waits for something else delays the others by a fraction of a second, not by the
%% time that it gets itself.
busy_ones_hold_up_no_others() ->
    Busy = [page(#{}) || _ <- lists:seq(1, 20)],
    [gen_server:cast(P, {busy, 4000}) || P <- Busy],
    Pages = [page(#{}) || _ <- lists:seq(1, 200)],
    ?assertMatch(#{open := 220, rendered := 200, busy := 20, unreached := 0}, render(15000)),
    ?assertEqual(200, received()),
    stop(Pages),
    [exit(P, kill) || P <- Busy].

%% The page has not noticed yet that its browser has gone, or does so while it renders.
one_without_a_browser_is_none() ->
    Browser = spawn(fun() -> ok end),
    Gone = page(#{socket => socket(#{transport_pid => Browser})}),
    Ends = page(#{}),
    gen_server:cast(Ends, close),
    ?assertMatch(#{open := 2, rendered := 1, failed := 0, busy := 0, unreached := 0}, render()),
    ?assert(is_process_alive(Gone)),
    ?assertEqual(0, received()),
    stop([Gone]).

%% A process that claims to be a page, and pages of another kind.
others_are_not_asked() ->
    Test = self(),
    Claim = fun(What) ->
                    fun() ->
                            put('$initial_call', What),
                            Test ! claimed,
                            receive Message -> Test ! {got, Message} end
                    end
            end,
    Claims = [spawn(Claim({?CHANNEL, init, 1})), spawn(Claim({?CHANNEL, mount, 3})),
              proc_lib:spawn(Claim({lists, mount, 3})), proc_lib:spawn(Claim({1, mount, 3})),
              proc_lib:spawn(Claim(nothing))],
    [receive claimed -> ok end || _ <- Claims],
    ?assertMatch(#{open := 0}, render()),
    receive {got, _} -> error(asked) after 0 -> ok end,
    [exit(P, kill) || P <- Claims].

%% A LiveView without events hibernates, and nothing of its stack shows any more that it answers.
those_that_hibernate_are_looked_into() ->
    {ok, Page} = gen_server:start(?CHANNEL, state(#{}), [{hibernate_after, 1}]),
    asleep(Page, 200),
    ?assert(gatling_processes:is_generic(Page)),
    ?assertMatch(#{rendered := 1}, render()),
    stop([Page]).

asleep(Page, Tries) when Tries > 0 ->
    case process_info(Page, current_function) of
        {current_function, {erlang, hibernate, 3}} -> ok;
        {current_function, {gen_server, loop_hibernate, _}} -> ok;
        _ -> timer:sleep(10), asleep(Page, Tries - 1)
    end.
