%% The guard of a swap: a process with a name, so that there is one swap at a time and everybody
%% can see it. It says from which release to which, it notices when the process that asked for the
%% swap is gone, and it resumes the suspended processes when the process that carries out the swap
%% is killed.
%%
%% A guard stays for as long as the node must be replaced: after a swap that was cut off, or that
%% could be neither finished nor undone.
-module(gatling_guard).

-export([announce/1, current/0, touching/0, suspending/1, asked/0, commit/0, done/1]).
-export([guard/3, stay/0]).

-define(NAME, gatling_swap).
-define(ANNOUNCED, '$gatling_announced').
-define(GUARD, '$gatling_guard').

-type announcement() :: #{from := binary(), to := binary(),
                          phase := checking | touching | committed | broken | unknown}.
-export_type([announcement/0]).

%% The monitors of the processes that carry out and that asked for the swap.
-type watched() :: #{swapper := reference(), asker := reference() | gone}.

%% Announce a swap of the calling process, unless there is one.
-spec announce(#{from := binary(),
                 label := binary(),
                 asker := pid(),
                 _ => _}) -> ok | {busy, announcement()}.
announce(#{from := From, label := To, asker := Asker} = Request) ->
    Announced = #{from => From, to => To, phase => checking},
    {Guard, Ref} = spawn_monitor(?MODULE, guard, [self(), Asker, Announced]),
    receive
        {Guard, announced} ->
            true = demonitor(Ref, [flush]),
            put(?GUARD, Guard),
            ok;
        {'DOWN', Ref, process, Guard, _} ->
            case current() of
                none -> announce(Request);
                Busy -> {busy, Busy}
            end
    end.

%% The swap that is under way, or that was cut off.
-spec current() -> none | announcement().
current() ->
    case whereis(?NAME) of
        Guard when is_pid(Guard) ->
            case process_info(Guard, dictionary) of
                {dictionary, Dictionary} ->
                    case lists:keyfind(?ANNOUNCED, 1, Dictionary) of
                        {_, Announced} -> Announced;
                        false -> #{from => <<>>, to => <<>>, phase => unknown}
                    end;
                undefined ->
                    none
            end;
        _ ->
            none
    end.

%% From here on the swap changes the node.
-spec touching() -> ok.
touching() -> tell(touching).

%% These processes are about to be suspended.
-spec suspending([pid()]) -> ok.
suspending(Pids) -> tell({suspending, Pids}).

%% Throws {gone, Text} when the process that asked for the swap is gone.
-spec asked() -> ok.
asked() -> question(asked).

%% The point of no return; throws as asked/0 does.
-spec commit() -> ok.
commit() -> question(commit).

-spec question(asked | commit) -> ok.
question(What) ->
    case call(What) of
        ok -> ok;
        gone -> throw({gone, <<"Gatling has disconnected">>})
    end.

%% The swap has ended; a broken one stays announced.
-spec done(ok | untouched | restored | broken) -> ok.
done(State) ->
    _ = call({done, State}),
    ok.

-spec tell(touching | {suspending, [pid()]}) -> ok.
tell(What) ->
    _ = case get(?GUARD) of
            undefined -> ok; % a step on its own, outside of a swap
            Guard -> Guard ! What
        end,
    ok.

-spec call(asked | commit | {done, ok | untouched | restored | broken}) -> ok | gone.
call(What) ->
    case get(?GUARD) of
        undefined ->
            gone;
        Guard ->
            Ref = monitor(process, Guard),
            Guard ! {What, self(), Ref},
            receive
                {Ref, Answer} -> true = demonitor(Ref, [flush]), Answer;
                {'DOWN', Ref, process, Guard, _} -> gone
            end
    end.

%% ---------------------------------------------------------------- the guard

-spec guard(Swapper :: pid(), Asker :: pid(), announcement()) -> boolean().
guard(Swapper, Asker, Announced) ->
    true = register(?NAME, self()),
    put(?ANNOUNCED, Announced),
    Watched = #{swapper => monitor(process, Swapper), asker => monitor(process, Asker)},
    Swapper ! {self(), announced},
    guarding(Watched, []).

-spec guarding(watched(), Suspended :: [pid()]) -> boolean().
guarding(#{swapper := Swapper, asker := Asker} = Watched, Suspended) ->
    receive
        touching ->
            phase(touching),
            guarding(Watched, Suspended);
        {suspending, Pids} ->
            guarding(Watched, Pids ++ Suspended);
        {What, From, Ref} when Asker =:= gone, What =:= asked orelse What =:= commit ->
            From ! {Ref, gone},
            guarding(Watched, Suspended);
        {asked, From, Ref} ->
            From ! {Ref, ok},
            guarding(Watched, Suspended);
        {commit, From, Ref} ->
            phase(committed),
            From ! {Ref, ok},
            guarding(Watched, Suspended);
        {{done, State}, From, Ref} ->
            true = demonitor(Swapper, [flush]),
            State =:= broken orelse unregister(?NAME),
            From ! {Ref, ok},
            State =:= broken andalso broken();
        {'DOWN', Asker, process, _, _} ->
            guarding(Watched#{asker := gone}, Suspended);
        {'DOWN', Swapper, process, _, _} ->
            gatling_sys:resume([{P, []} || P <- Suspended]),
            #{phase := Phase} = get(?ANNOUNCED),
            Phase =:= checking orelse broken();
        _ ->
            guarding(Watched, Suspended)
    end.

-spec phase(touching | committed | broken) -> ok.
phase(Phase) ->
    _ = put(?ANNOUNCED, (get(?ANNOUNCED))#{phase := Phase}),
    ok.

%% By its name, so that it survives another version of this module.
-spec broken() -> no_return().
broken() ->
    phase(broken),
    erlang:hibernate(?MODULE, stay, []).

-spec stay() -> no_return().
stay() ->
    receive _ -> ok end,
    erlang:hibernate(?MODULE, stay, []).
