%% EUnit tests of gatling_freeze, with the processes of an application.
-module(freeze_tests).
-behaviour(application).
-behaviour(supervisor).

-include_lib("eunit/include/eunit.hrl").

-export([start/2, stop/1, init/1]).

start(_, Loops) ->
    supervisor:start_link({local, shop}, ?MODULE, Loops).

stop(_) -> ok.

init(Loops) ->
    {ok, {#{}, [#{id => Id, start => started(Id, fun() -> loop() end)} || Id <- Loops]}}.

%% The start of a process that is registered once it runs.
started(Name, Run) -> {erlang, apply, [fun() -> registered(Name, Run) end, []]}.

registered(Name, Run) ->
    P = spawn_link(Run),
    register(Name, P),
    {ok, P}.

loop() ->
    receive
        {'$gen_call', From, _} -> gen:reply(From, answer);
        {ask, From} -> From ! answer;
        {run, Run} -> Run()
    end,
    loop().

frozen_test_() ->
    Tests = [fun everything_else_goes_on/0, fun those_that_start_processes_are_frozen/0,
             fun the_time_is_limited/0, fun they_run_when_the_swap_is_killed/0,
             fun what_a_child_calls_is_resumed/0, fun what_a_code_change_calls_is_resumed/0, fun a_start_may_wait_in_another_way/0,
             fun one_in_native_code_is_not_waited_for/0],
    {setup, fun started/0, fun stopped/1,
     {inorder, [{timeout, 20, Test} || Test <- Tests]}}.

started() ->
    ok = application:load({application, shop, [{mod, {?MODULE, [one, two, three]}},
                                               {applications, [kernel, stdlib]}]}),
    ok = application:start(shop).

stopped(_) -> application:stop(shop).

%% Whether a process answers without delay.
runs(Name) ->
    Name ! {ask, self()},
    receive answer -> true after 40 -> false end.

%% The answer that did not come while the process was frozen.
late() -> receive answer -> ok after 5000 -> error(late) end.

frozen(Spared) -> frozen(Spared, 20000).

frozen(Spared, Limit) -> frozen(Spared, [], Limit).

frozen(Spared, Converted, Limit) ->
    Frozen = gatling_freeze:start({all, [{shop, []}]}, Spared, Converted, Limit),
    ?assert(is_pid(Frozen)),
    Frozen.

everything_else_goes_on() ->
    Frozen = frozen([whereis(two)]),
    ?assertNot(runs(one)),
    ?assert(runs(two)),
    %% the supervisors above a new child, and all that loads code
    ?assertMatch([_, _, _], supervisor:which_children(shop)),
    ?assertMatch({module, _}, code:load_file(gatling_pack)),
    gatling_freeze:thaw(Frozen),
    late(),
    ?assert(runs(one)).

%% With the processes that were started while the others were being frozen.
those_that_start_processes_are_frozen() ->
    Test = self(),
    Short = fun() -> receive after 1 -> Test ! done end end,
    Spawner = fun Spawner() -> spawn(Short), receive stop -> ok after 1 -> Spawner() end end,
    one ! {run, Spawner},
    Frozen = frozen([]),
    Done = process_info(self(), message_queue_len),
    timer:sleep(30),
    ?assertEqual(Done, process_info(self(), message_queue_len)),
    gatling_freeze:thaw(Frozen),
    one ! stop,
    timer:sleep(10),
    flush().

flush() -> receive done -> flush() after 10 -> ok end.

the_time_is_limited() ->
    _ = frozen([], 1000),
    {Microseconds, ok} = timer:tc(fun() -> one ! {ask, self()}, late() end),
    ?assert(Microseconds > 500000).

they_run_when_the_swap_is_killed() ->
    Test = self(),
    Swap = spawn(fun() -> Test ! frozen([]), receive after infinity -> ok end end),
    receive Frozen when is_pid(Frozen) -> ok end,
    ?assertNot(runs(one)),
    Ref = monitor(process, Frozen),
    exit(Swap, kill),
    receive {'DOWN', Ref, _, _, _} -> late() end.

%% `one` calls another process for its answer.
what_a_child_calls_is_resumed() ->
    Nested = fun() ->
                     receive {'$gen_call', From, _} ->
                             {ok, Answer} = gen:call(two, '$gen_call', ask),
                             gen:reply(From, Answer)
                     end
             end,
    one ! {run, Nested},
    Frozen = child(fun() -> {ok, answer} = gen:call(one, '$gen_call', ask), ok end),
    %% so it was not the time that was up
    ?assertNot(runs(three)),
    gatling_freeze:thaw(Frozen),
    late().

%% The process whose state is converted has monitored `two` for long, which is no call.
what_a_code_change_calls_is_resumed() ->
    Test = self(),
    Change = fun() ->
                     _ = monitor(process, two),
                     Test ! ready,
                     receive convert -> Test ! gen:call(one, '$gen_call', ask) end,
                     receive stop -> ok end
             end,
    Converted = spawn(Change),
    receive ready -> ok end,
    Frozen = frozen([], [Converted], 20000),
    Converted ! convert,
    receive {ok, answer} -> ok after 5000 -> error(late) end,
    ?assertNot(runs(two)),
    ?assertNot(runs(three)),
    gatling_freeze:thaw(Frozen),
    late(),
    late(),
    Converted ! stop.

a_start_may_wait_in_another_way() ->
    _ = child(fun() -> one ! {ask, self()}, late() end, 1000),
    ?assert(runs(three)).

%% Start a child whose start does this.
child(Do) -> child(Do, 20000).

child(Do, Limit) ->
    Frozen = frozen([], Limit),
    Child = #{id => child, restart => temporary,
              start => {erlang, apply, [fun() -> Do(), registered(child, fun() -> loop() end) end, []]}},
    gatling_freeze:beside(Frozen, self()),
    ?assertEqual([], gatling_children:change({{shop, []}, [Child], []})),
    ok = supervisor:terminate_child(shop, child),
    Frozen.

one_in_native_code_is_not_waited_for() ->
    Test = self(),
    two ! {run, fun() -> Test ! begun, erts_debug:dirty_cpu(wait, 3000) end},
    receive begun -> timer:sleep(20) end,
    Frozen = frozen([]),
    ?assertNot(runs(one)),
    gatling_freeze:thaw(Frozen),
    late(),
    ?assertNot(runs(two)),
    %% the request to suspend it is gone with the one that made it
    late(),
    ?assert(runs(two)).
