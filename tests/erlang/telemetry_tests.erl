%% EUnit tests of gatling_telemetry: what each kind of event is counted as.
-module(telemetry_tests).

-include_lib("eunit/include/eunit.hrl").

-define(MS, erlang:convert_time_unit(1, millisecond, native)).

counted_test_() ->
    Tests = [fun a_request_counts_by_its_route/0, fun a_failed_request_fails/0,
             fun an_exception_fails_if_plug_answers_it_with_500/0,
             fun a_callback_of_a_live_view_counts/0, fun a_query_counts_by_its_table/0,
             fun a_job_counts_by_its_worker/0, fun nonsense_is_no_error_and_counts_nowhere/0,
             fun names_are_limited_and_the_rest_is_counted_together/0,
             fun a_long_name_is_not_kept/0, fun nothing_of_a_large_binary_is_kept/0,
             fun each_duration_has_its_range/0, fun many_processes_count_together/0,
             fun a_term_of_another_version_is_replaced/0,
             fun handlers_of_another_version_count_once_they_are_attached_again/0,
             fun without_handlers_nothing_counts/0],
    {foreach, fun() -> _ = gatling_telemetry:state(), ok end,
     fun(_) -> ok = gatling_telemetry:detach() end, Tests}.

handle(Event, Measured, Metadata, Kind) ->
    ok = gatling_telemetry:handle(Event, Measured, Metadata, Kind).

request(Method, Route, Status, Ms) ->
    handle([phoenix, router_dispatch, stop], #{duration => Ms * ?MS},
           #{route => Route, conn => #{method => Method, status => Status}}, route).

rows() ->
    {Since, Rows} = gatling_telemetry:read(),
    true = Since =< erlang:system_time(second),
    lists:sort([{Name, Count, Failed} || #{name := Name, count := Count, failed := Failed} <- Rows]).

a_request_counts_by_its_route() ->
    [request(<<"GET">>, <<"/posts/:id">>, 200, Ms) || Ms <- [1, 7, 30, 20000]],
    request(<<"POST">>, <<"/posts">>, 302, 3),
    [request(Method, <<"/posts">>, 404, 3) || Method <- [<<"BREW">>, <<"STEEP">>, <<"BREW">>]],
    [{[<<"GET">>, <<"/posts/:id">>], 4, 0}, {[<<"POST">>, <<"/posts">>], 1, 0},
     {[<<"other">>, <<"/posts">>], 3, 0}] = rows(),
    {_, Rows} = gatling_telemetry:read(),
    [#{us := 20038000, queue_us := 0, kind := route, ranges := Ranges}] =
        [Row || #{count := 4} = Row <- Rows],
    [1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1] = Ranges.

%% The bounds are those of nginx's requests, and a duration at a bound is above it.
each_duration_has_its_range() ->
    Bounds = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000],
    [request(<<"GET">>, <<"/">>, 200, Ms) || Bound <- Bounds, Ms <- [Bound - 1, Bound]],
    {_, [#{count := 22, failed := 0, us := Us, ranges := Ranges}]} = gatling_telemetry:read(),
    ?assertEqual([1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1], Ranges),
    ?assertEqual(1000 * (2 * lists:sum(Bounds) - length(Bounds)), Us).

a_failed_request_fails() ->
    request(<<"GET">>, <<"/">>, 500, 1),
    request(<<"GET">>, <<"/">>, 499, 1),
    handle([phoenix, router_dispatch, exception], #{duration => ?MS},
           #{route => <<"/">>, conn => #{method => <<"GET">>, status => nil}, kind => error,
             reason => badarg}, route),
    [{[<<"GET">>, <<"/">>], 3, 2}] = rows().

%% As Plug's protocol says: Ecto.NoResultsError, for example, is a 404.
an_exception_fails_if_plug_answers_it_with_500() ->
    Clause = {clause, 1, [{var, 1, 'E'}], [],
              [{call, 1, {remote, 1, {atom, 1, maps}, {atom, 1, get}},
                [{atom, 1, plug_status}, {var, 1, 'E'}]}]},
    {ok, Module, Binary} = compile:forms(
        [{attribute, 1, module, 'Elixir.Plug.Exception'}, {attribute, 1, export, [{status, 1}]},
         {function, 1, status, 1, [Clause]}]),
    {module, Module} = code:load_binary(Module, "plug", Binary),
    Event = [phoenix, router_dispatch, exception],
    Request = #{route => <<"/">>, conn => #{method => <<"GET">>}, kind => error},
    Wrapped = fun(E) -> #{'__struct__' => 'Elixir.Plug.Conn.WrapperError', reason => E} end,
    [handle(Event, #{duration => 1}, Request#{reason => Reason}, route)
     || Reason <- [#{plug_status => 404}, Wrapped(#{plug_status => 404}),
                   Wrapped(#{plug_status => 503}), Wrapped(badarg)]],
    true = code:delete(Module),
    [{[<<"GET">>, <<"/">>], 4, 2}] = rows().

a_callback_of_a_live_view_counts() ->
    Socket = #{socket => #{view => 'Elixir.ShopWeb.Cart'}},
    Event = [phoenix, live_view, handle_event],
    handle(Event ++ [stop], #{duration => ?MS}, Socket#{event => <<"save">>}, live),
    handle(Event ++ [exception], #{duration => ?MS}, Socket#{event => <<"hostile">>}, live),
    handle([phoenix, live_view, mount, stop], #{duration => ?MS}, Socket, live),
    [{[<<"ShopWeb.Cart">>, <<"handle_event">>, <<"exception">>], 1, 1},
     {[<<"ShopWeb.Cart">>, <<"handle_event">>, <<"save">>], 1, 0},
     {[<<"ShopWeb.Cart">>, <<"mount">>], 1, 0}] = rows().

a_query_counts_by_its_table() ->
    Repo = #{repo => 'Elixir.Shop.Repo'},
    Times = #{total_time => 9 * ?MS, query_time => 2 * ?MS, queue_time => 5 * ?MS},
    handle([shop, repo, query], Times, Repo#{source => <<"items">>, result => {ok, x}}, query),
    handle([shop, repo, query], Times, Repo#{source => nil, result => {error, x}}, query),
    [{[<<"Shop.Repo">>, <<"(no table)">>], 1, 1}, {[<<"Shop.Repo">>, <<"items">>], 1, 0}] = rows(),
    {_, [#{us := 2000, queue_us := 5000} | _]} = gatling_telemetry:read().

a_job_counts_by_its_worker() ->
    Times = #{duration => 100 * ?MS, queue_time => ?MS},
    Job = #{worker => <<"Shop.Mailer">>, queue => <<"mail">>},
    handle([oban, job, stop], Times, Job, job),
    handle([oban, job, exception], Times, #{job => Job}, job),
    [{[<<"Shop.Mailer">>, <<"mail">>], 2, 1}] = rows().

nonsense_is_no_error_and_counts_nowhere() ->
    [handle(Event, Measured, Metadata, Kind)
     || Event <- [[], [x], not_a_list, [phoenix, router_dispatch, stop]],
        Measured <- [#{}, #{duration => x}, none], Metadata <- [#{}, none, #{route => 1, conn => 2}],
        Kind <- [route, live, query, job, unknown]],
    [] = rows(),
    handle([phoenix, router_dispatch, stop], #{duration => -5},
           #{route => <<"/">>, conn => #{method => 7, status => x}}, route),
    [{[<<"other">>, <<"/">>], 1, 0}] = rows().

names_are_limited_and_the_rest_is_counted_together() ->
    Before = erlang:system_info(atom_count),
    [request(<<"GET">>, <<"/", (integer_to_binary(N))/binary>>, 500, 1) || N <- lists:seq(1, 1000)],
    64 = length(rows()),
    [{937, 937}] = [{Count, Failed} || {[<<"other">>], Count, Failed} <- rows()],
    Before = erlang:system_info(atom_count),
    %% of another kind there is still room
    handle([oban, job, stop], #{duration => 1}, #{worker => <<"W">>, queue => <<"q">>}, job),
    true = lists:member({[<<"W">>, <<"q">>], 1, 0}, rows()).

a_long_name_is_not_kept() ->
    request(<<"GET">>, binary:copy(<<"x">>, 100000), 200, 1),
    [{[<<"other">>], 1, 0}] = rows().

nothing_of_a_large_binary_is_kept() ->
    <<Route:3/binary, _/binary>> = binary:copy(<<"/ab">>, 1000000),
    request(<<"GET">>, Route, 200, 1),
    [Bytes] = [binary:referenced_byte_size(R)
               || {{gatling_telemetry, route, [_, R]}, _} <- persistent_term:get()],
    %% OTP 27 counts the words of a small binary's own heap
    true = Bytes < 100.

%% As the jobs of a queue and the requests of a busy app do after a boot.
many_processes_count_together() ->
    Routes = [<<"/", (integer_to_binary(N))/binary>> || N <- lists:seq(1, 60)],
    Begin = make_ref(),
    Run = fun() ->
              receive Begin -> ok end,
              [request(<<"GET">>, Route, 200, 1) || Route <- Routes]
          end,
    Started = [spawn_monitor(Run) || _ <- lists:seq(1, 200)],
    _ = [P ! Begin || {P, _} <- Started],
    [receive {'DOWN', Ref, process, _, normal} -> ok end || {_, Ref} <- Started],
    %% none is lost, and no name takes two slots, of which there are 63
    ?assertEqual(lists:sort([{[<<"GET">>, Route], 200, 0} || Route <- Routes]), rows()).

a_term_of_another_version_is_replaced() ->
    request(<<"GET">>, <<"/">>, 200, 1),
    persistent_term:put({gatling_telemetry, state}, #{version => 0}),
    none = gatling_telemetry:read(),
    request(<<"GET">>, <<"/">>, 200, 1),
    _ = gatling_telemetry:state(),
    [] = rows().

%% A newer Gatling loads this module while the handlers of an older one are attached.
handlers_of_another_version_count_once_they_are_attached_again() ->
    #{counts := Counts} = State = gatling_telemetry:state(),
    persistent_term:put({gatling_telemetry, state}, State#{version => 2}),
    persistent_term:put({gatling_telemetry, route, [<<"GET">>, <<"/">>]}, 5),
    request(<<"GET">>, <<"/">>, 200, 1),
    none = gatling_telemetry:read(),
    #{counts := New} = gatling_telemetry:state(),
    ?assertNotEqual(Counts, New),
    request(<<"GET">>, <<"/">>, 200, 1),
    [{[<<"GET">>, <<"/">>], 1, 0}] = rows().

without_handlers_nothing_counts() ->
    request(<<"GET">>, <<"/">>, 200, 1),
    ok = gatling_telemetry:detach(),
    request(<<"GET">>, <<"/">>, 200, 1),
    none = gatling_telemetry:read(),
    [] = [Key || {Key, _} <- persistent_term:get(), is_tuple(Key),
                 element(1, Key) =:= gatling_telemetry],
    absent = gatling_telemetry:attach().
