%% Holds processes of the applications still for a moment.
%%
%% All of them, while code is switched that calls children which do not run yet: a request between
%% the switch and their start would exit with noproc. And while code is switched that loses
%% functions which live code calls: a request that enters that code between the last look at it and
%% the switch would fail later.
%%
%% Before the latter, those alone that would begin new requests, so that those under way can leave.
%%
%% A process of its own suspends them, so that the emulator resumes them when it ends, however
%% that comes about: because the children run, because the swap has ended, or because the time is
%% up.
-module(gatling_freeze).

-export([start/3, doors/3, beside/2, thaw/1]).
-export([freezer/5]).
-export_type([frozen/0]).

%% To freeze them may take this long, and then they may stay frozen this long: the start of a child
%% may wait for a frozen process in a way that cannot be seen (see needed/2), and nobody should give
%% up waiting for one.
-define(LIMIT_MS, 1000).
%% A process that is executing stops when its turn is over, but in native code only at its end.
-define(RUNNING_MS, 50).
-define(ROUNDS, 5).

-type frozen() :: pid() | none.
-type pids() :: #{pid() => true}.
%% All processes, for the sake of children at these paths, or the doors of requests.
-type scope() :: {all, [gatling_types:child_path()]} | {doors, gatling_calls:callers()}.
%% The processes on which the start of the children depends, or whose states are converted, with
%% the monitors that each had when it began to count.
-type awake() :: #{pid() => [pid()]}.

%% Freeze all processes of the applications, but for those that are spared, and those that start
%% children at these paths. Those whose states are converted are spared as well, and their
%% code_change may call a frozen one. Gives none when it is not done in time.
-spec start([gatling_types:child_path()], Spared :: [pid()], Converted :: [pid()]) -> frozen().
start(Paths, Spared, Converted) -> start({all, Paths}, Spared, Converted, ?LIMIT_MS).

%% Freeze what begins new requests; those under way in such code go on.
-spec doors(gatling_calls:callers(), Spared :: [pid()], Converted :: [pid()]) -> frozen().
doors(Callers, Spared, Converted) -> start({doors, Callers}, Spared, Converted, ?LIMIT_MS).

-spec start(scope(), Spared :: [pid()], Converted :: [pid()], Limit :: pos_integer()) -> frozen().
start(Scope, Spared, Converted, Limit) ->
    {Freezer, Ref} = spawn_monitor(?MODULE, freezer, [self(), Scope, Spared, Converted, Limit]),
    receive
        {Freezer, frozen} ->
            true = demonitor(Ref, [flush]),
            Freezer;
        {'DOWN', Ref, process, Freezer, _} ->
            none
    after Limit ->
            true = demonitor(Ref, [flush]),
            thaw(Freezer),
            receive {Freezer, frozen} -> none after 0 -> none end
    end.

%% The code has been switched, and this process starts the children: what it waits for is resumed.
-spec beside(frozen(), pid()) -> ok.
beside(none, _) -> ok;
beside(Freezer, Starter) ->
    Freezer ! {beside, Starter},
    ok.

%% Resume all of them.
-spec thaw(frozen()) -> ok.
thaw(none) -> ok;
thaw(Freezer) ->
    Ref = monitor(process, Freezer),
    exit(Freezer, kill),
    receive {'DOWN', Ref, process, Freezer, _} -> ok end.

%% ---------------------------------------------------------------- the freezer

-spec freezer(Swapper :: pid(), scope(), Spared :: [pid()], Converted :: [pid()],
              Limit :: pos_integer()) -> ok.
freezer(Swapper, Scope, Spared, Converted, Limit) ->
    _ = monitor(process, Swapper),
    %% those that are to be frozen want to run as well
    _ = process_flag(priority, high),
    Masters = masters(),
    Exempt = maps:merge(maps:from_keys([self(), Swapper | Spared] ++ Converted, true), Masters),
    case Scope of
        {all, Paths} -> freeze_all(Swapper, Paths, Masters, Exempt, Converted, Limit);
        {doors, Callers} -> freeze_doors(Swapper, Callers, Masters, Exempt, Limit)
    end.

-spec freeze_all(Swapper :: pid(), [gatling_types:child_path()], Masters :: pids(),
                 Exempt :: pids(), Converted :: [pid()], Limit :: pos_integer()) -> ok.
freeze_all(Swapper, Paths, Masters, Exempt, Converted, Limit) ->
    Supervisors = lists:usort(lists:append([gatling_children:supervisors(P) || P <- Paths])),
    Spared = maps:merge(Exempt, maps:from_keys(Supervisors, true)),
    {Known, Frozen} = frozen(Masters, Spared, #{}, ?ROUNDS),
    Awake = maps:from_list([{P, monitored(P)} || P <- Supervisors ++ Converted]),
    Swapper ! {self(), frozen},
    hold(now_ms() + Limit, Known, Frozen, Awake).

-spec freeze_doors(Swapper :: pid(), gatling_calls:callers(), Masters :: pids(),
                   Exempt :: pids(), Limit :: pos_integer()) -> ok.
freeze_doors(Swapper, Callers, Masters, Exempt, Limit) ->
    Round = fun(Before) -> doors(Callers, Masters, Exempt, Before) end,
    Frozen = Round(#{}),
    Swapper ! {self(), frozen},
    hold_doors(now_ms() + Limit, Round, Frozen).

%% A connection whose request has ended must not begin another one.
-spec hold_doors(Until :: integer(), fun((pids()) -> pids()), Frozen :: pids()) -> ok.
hold_doors(Until, Round, Frozen) ->
    Begun = now_ms(),
    Now = Round(Frozen),
    %% most of the time is left to the requests under way
    Pause = max(2, 4 * (now_ms() - Begun)),
    receive
        {'DOWN', _, process, _, _} -> ok
    after min(Pause, max(0, Until - now_ms())) ->
            now_ms() >= Until orelse hold_doors(Until, Round, Now),
            ok
    end.

%% The doors that wait are frozen, too.
-spec doors(gatling_calls:callers(), Leaders :: pids(), Exempt :: pids(), pids()) -> pids().
doors(Callers, Leaders, Exempt, Frozen) ->
    Found = [{P, waiting} || {P, waiting} <- candidates(gatling_doors:closable(Callers), Leaders,
                                                        maps:merge(Exempt, Frozen))],
    freeze(Found),
    maps:merge(Frozen, maps:from_keys([P || {P, _} <- Found], true)).

%% The group leaders of the processes of the applications that are not Erlang's or Elixir's own:
%% those must go on, since loading code and starting children depend on them.
-spec masters() -> pids().
masters() ->
    maps:from_keys([M || {App, _, _} <- application:loaded_applications(),
                         not gatling_release:is_runtime(App),
                         M <- [application_controller:get_master(App)], is_pid(M)], true).

%% Again until no new ones have been started. Gives all processes that there are, and the frozen
%% ones.
-spec frozen(Leaders :: pids(), Exempt :: pids(), pids(), Rounds :: non_neg_integer()) ->
          {Known :: pids(), Frozen :: pids()}.
frozen(Leaders, Exempt, Frozen, Rounds) ->
    All = erlang:processes(),
    case candidates(All, Leaders, maps:merge(Exempt, Frozen)) of
        Found when Found =:= []; Rounds =:= 0 ->
            {maps:from_keys(All, true), Frozen};
        Found ->
            freeze(Found),
            Now = maps:from_keys([P || {P, _} <- Found], true),
            frozen(Leaders, Exempt, maps:merge(Frozen, Now), Rounds - 1)
    end.

-spec candidates([pid()], Leaders :: pids(), Exempt :: pids()) -> [{pid(), Status :: atom()}].
candidates(Pids, Leaders, Exempt) ->
    [{P, Status} || P <- Pids, not is_map_key(P, Exempt),
                    {L, Status} <- [leader_and_status(P)], is_map_key(L, Leaders)].

%% The master of an application asks a process of its own for the top supervisor.
-spec leader_and_status(pid()) -> {pid(), atom()} | none.
leader_and_status(P) ->
    case process_info(P, [group_leader, status, initial_call]) of
        [_, _, {initial_call, {application_master, _, _}}] -> none;
        [{group_leader, Leader}, {status, Status}, _] -> {Leader, Status};
        undefined -> none
    end.

%% To suspend a process that waits takes a microsecond. Another one gets a signal: it may be in
%% native code for long, or about to be, and up to OTP 27 there is an error at the end of that wait.
-spec freeze([{pid(), Status :: atom()}]) -> ok.
freeze(Found) ->
    Tag = make_ref(),
    Asked = length([ok || {P, Status} <- Found, freeze(P, Status, Tag) =:= asked]),
    Timer = erlang:start_timer(?RUNNING_MS, self(), running),
    stopped(Asked, Tag, Timer),
    _ = erlang:cancel_timer(Timer),
    ok.

-spec freeze(pid(), Status :: atom(), reference()) -> frozen | asked | gone.
freeze(P, Status, Tag) ->
    try
        case Status of
            waiting ->
                true = erlang:suspend_process(P),
                frozen;
            _ ->
                true = erlang:suspend_process(P, [{asynchronous, Tag}]),
                asked
        end
    catch
        error:_ -> gone
    end.

-spec stopped(non_neg_integer(), reference(), Timer :: reference()) -> ok.
stopped(0, _, _) -> ok;
stopped(Asked, Tag, Timer) ->
    receive
        {Tag, _} -> stopped(Asked - 1, Tag, Timer);
        {timeout, Timer, running} -> ok
    end.

-spec hold(Until :: integer(), Known :: pids(), Frozen :: pids(), awake()) -> ok.
hold(Until, Known, Frozen, Awake) ->
    Begun = now_ms(),
    {StillFrozen, NowAwake} = resumed(Known, Frozen, Awake),
    %% no more than half of the time is spent with looking
    Pause = max(1, now_ms() - Begun),
    receive
        {beside, Starter} ->
            _ = monitor(process, Starter),
            hold(Until, Known, StillFrozen, NowAwake#{Starter => []});
        {'DOWN', _, process, _, _} ->
            ok
    after min(Pause, max(0, Until - now_ms())) ->
            now_ms() >= Until orelse hold(Until, Known, StillFrozen, NowAwake),
            ok
    end.

%% Resume the frozen processes that a starting child waits for.
-spec resumed(Known :: pids(), Frozen :: pids(), awake()) -> {Frozen :: pids(), awake()}.
resumed(Known, Frozen, Awake) ->
    Fresh = maps:from_list([{P, []} || P <- erlang:processes(), not is_map_key(P, Known)]),
    NowAwake = maps:merge(Fresh, Awake),
    Needed = needed(Frozen, NowAwake),
    Before = [{P, monitored(P)} || P <- Needed],
    _ = [resume(P) || P <- Needed],
    {maps:without(Needed, Frozen), maps:merge(NowAwake, maps:from_list(Before))}.

%% A process monitors another one while it calls it. A monitor from before is not of a call that
%% the start of the children has caused.
-spec needed(Frozen :: pids(), awake()) -> [pid()].
needed(Frozen, Awake) ->
    lists:usort([P || {Waiting, Before} <- maps:to_list(Awake),
                      P <- monitored(Waiting) -- Before, is_map_key(P, Frozen)]).

-spec monitored(pid()) -> [pid()].
monitored(P) ->
    case process_info(P, monitors) of
        {monitors, Monitors} -> [M || {process, Item} <- Monitors, M <- [there(Item)], is_pid(M)];
        undefined -> []
    end.

-spec there(pid() | atom() | {atom(), node()}) -> pid() | port() | undefined.
there({Name, Node}) when Node =:= node() -> whereis(Name);
there(Name) when is_atom(Name) -> whereis(Name);
there(P) when is_pid(P) -> P;
there(_) -> undefined.

-spec resume(pid()) -> true.
resume(P) ->
    try erlang:resume_process(P)
    catch error:badarg -> true
    end.

-spec now_ms() -> integer().
now_ms() -> erlang:monotonic_time(millisecond).
