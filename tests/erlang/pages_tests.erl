%% EUnit tests of gatling_pages, with processes that look like LiveView's channels.
-module(pages_tests).

-include_lib("eunit/include/eunit.hrl").

-define(CHANNEL, 'Elixir.Phoenix.LiveView.Channel').
-define(FRESH, {nil, #{}}).

%% A channel with the shape of LiveView's: it renders at the message of the live reloader, and hands
%% what it does not know to the app.
source() ->
    "-module('Elixir.Phoenix.LiveView.Channel').\n"
    "-behaviour(gen_server).\n"
    "-export([init/1, handle_call/3, handle_cast/2, handle_info/2, '__live__'/0]).\n"
    "init(State) ->\n"
    "    is_map(State) andalso put('$initial_call', {?MODULE, mount, 3}),\n"
    "    {ok, State}.\n"
    "'__live__'() -> #{}.\n"
    "handle_call(get, _, S) -> {reply, S, S}.\n"
    "handle_cast({busy, Ms}, S) -> timer:sleep(Ms), {noreply, S}.\n"
    "handle_info({phoenix_live_reload, _, _}, #{on := crash}) -> error(undefined_assign);\n"
    "handle_info({phoenix_live_reload, _, _}, #{on := {close, P}} = S) ->\n"
    "    P ! closed, {stop, {shutdown, closed}, S};\n"
    "handle_info({phoenix_live_reload, _, _}, #{on := P} = S) -> P ! {rendered, S}, {noreply, S};\n"
    "handle_info(_, _) -> error(left_to_the_app).\n".

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

pages_test_() ->
    Tests = [fun nothing_is_open/0, fun all_render/0, fun as_if_nothing_had_been_sent/0,
             fun as_of_1_1/0, fun what_is_there_stays/0, fun a_child_knows_no_assets/0,
             fun temporary_assigns_and_components_are_left_alone/0, fun unknown_forms_stay/0,
             fun crashes_end_it/0, fun one_that_closes_is_none/0, fun a_busy_one_renders_later/0,
             fun the_time_is_limited/0, fun others_are_not_asked/0,
             fun those_that_hibernate_are_looked_into/0],
    {setup, fun() -> loaded(source()) end, fun unloaded/1,
     {inorder, [{timeout, 30, Test} || Test <- Tests]}}.

%% Before 0.18.4 the message would reach handle_info/2 of the app.
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
                 assigns => #{'__changed__' => #{}, name => <<"typed">>},
                 private => #{live_temp => #{}}, fingerprints => {1, #{0 => {2, #{}}}}}, More).

state(More) ->
    maps:merge(#{socket => socket(#{}), topic => <<"lv:1">>, on => self(),
                 components => {#{}, #{}, 1}}, More).

page(More) ->
    {ok, P} = gen_server:start(?CHANNEL, state(More), []),
    P.

stop(Pages) -> [catch gen_server:stop(P) || P <- Pages].

render() -> render(10000).

render(Limit) ->
    gatling_pages:render(#{statics => [<<"assets/app-1.css">>], limit_ms => Limit}).

%% The state in which the only page rendered.
seen(More) ->
    Page = page(More),
    ?assertMatch(#{open := 1, rendered := 1, left := 0}, render()),
    stop([Page]),
    receive {rendered, State} -> State after 0 -> error(not_rendered) end.

nothing_is_open() ->
    ?assertEqual(#{open => 0, rendered => 0, crashed => 0, left => 0, busy => 0, unreached => 0},
                 render()),
    ?assertEqual(0, gatling_pages:open()).

all_render() ->
    Pages = [page(#{}) || _ <- lists:seq(1, 300)],
    ?assertEqual(300, gatling_pages:open()),
    ?assertMatch(#{open := 300, rendered := 300, unreached := 0}, render()),
    [receive {rendered, _} -> ok after 0 -> error(none) end || _ <- Pages],
    stop(Pages).

as_if_nothing_had_been_sent() ->
    #{socket := Socket} = seen(#{}),
    #{fingerprints := ?FRESH, assigns := Assigns, private := Private} = Socket,
    ?assertMatch(#{'__changed__' := #{name := true}, name := <<"typed">>}, Assigns),
    ?assertMatch(#{phoenix_reloader := {erlang, is_atom, []}, live_temp := #{},
                   connect_params := #{<<"_track_static">> := [<<"assets/app-1.css">>]}}, Private).

as_of_1_1() ->
    Socket = maps:remove(fingerprints, socket(#{})),
    State = seen(#{socket => Socket, fingerprints => {1, #{}}}),
    ?assertMatch(#{fingerprints := ?FRESH}, State),
    ?assertNot(is_map_key(fingerprints, maps:get(socket, State))).

%% The assets of the first release whose page it is, and a code reloader of the app's own.
what_is_there_stays() ->
    Private = #{connect_params => #{<<"_track_static">> => [<<"older">>]},
                phoenix_reloader => {erlang, is_list, []}},
    #{socket := #{private := Seen}} = seen(#{socket => socket(#{private => Private})}),
    ?assertEqual(Private, Seen).

%% Only of a page itself is it asked.
a_child_knows_no_assets() ->
    #{socket := #{private := Seen}} = seen(#{socket => socket(#{parent_pid => self()})}),
    ?assertNot(is_map_key(connect_params, Seen)).

temporary_assigns_and_components_are_left_alone() ->
    Private = #{temporary_assigns => #{body => nil}},
    Component = {'Elixir.C', <<"c">>, #{'__changed__' => #{}, n => 3}, #{}, {7, #{}}},
    Pages = [page(#{socket => socket(#{private => Private})}),
             page(#{components => {#{1 => Component}, #{'Elixir.C' => #{<<"c">> => 1}}, 2}})],
    States = [sys:get_state(P) || P <- Pages],
    ?assertMatch(#{open := 2, rendered := 0, left := 2}, render()),
    ?assertEqual(States, [sys:get_state(P) || P <- Pages]),
    stop(Pages).

unknown_forms_stay() ->
    Forms = [#{socket => #{}}, #{socket => none}, #{components => none},
             #{components => {#{1 => {a, b}}, #{}, 2}}, #{components => {none, #{}, 2}},
             #{socket => socket(#{assigns => #{}})}, #{socket => socket(#{assigns => none})},
             #{socket => socket(#{private => none})},
             #{socket => socket(#{fingerprints => none})},
             #{socket => maps:remove(fingerprints, socket(#{}))}],
    {ok, Unmounted} = gen_server:start(?CHANNEL, make_ref(), []),
    Pages = [Unmounted | [page(F) || F <- Forms]],
    ?assertMatch(#{open := 11, rendered := 0, crashed := 0, left := 11}, render()),
    ?assert(lists:all(fun is_process_alive/1, Pages)),
    stop(Pages).

%% Those that are there at the third crash had their turn already.
crashes_end_it() ->
    error_logger:tty(false),
    Pages = [page(#{on => crash}) || _ <- lists:seq(1, 100)],
    #{open := 100, rendered := 0, crashed := Crashed, unreached := Left} = render(),
    ?assert(Crashed >= 3),
    ?assert(Crashed < 3 + erlang:system_info(schedulers_online)),
    ?assertEqual(100, Crashed + Left),
    error_logger:tty(true),
    stop(Pages).

one_that_closes_is_none() ->
    _ = page(#{on => {close, self()}}),
    ?assertMatch(#{open := 1, rendered := 0, crashed := 0}, render()),
    receive closed -> ok after 0 -> error(open) end.

a_busy_one_renders_later() ->
    Page = page(#{}),
    gen_server:cast(Page, {busy, 3000}),
    ?assertMatch(#{open := 1, rendered := 0, busy := 1}, render()),
    receive {rendered, _} -> ok after 5000 -> error(never) end,
    stop([Page]).

the_time_is_limited() ->
    Pages = [page(#{}) || _ <- lists:seq(1, 50)],
    [gen_server:cast(P, {busy, 1000}) || P <- Pages],
    #{open := 50, busy := Busy, unreached := Left} = render(100),
    ?assertEqual(50, Busy + Left),
    stop(Pages).

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
