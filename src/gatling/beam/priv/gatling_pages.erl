%% The open pages of an app: the processes of its connected LiveViews. After an upgrade each one
%% renders with the new code, as gatling_rendering has it, and keeps its connection and its assigns.
-module(gatling_pages).

-export([open/0, prepare/1, start/1, await/2]).
-export([worker/2]).
-export_type([rendered/0]).

-define(CHANNEL, 'Elixir.Phoenix.LiveView.Channel').
%% To render one takes milliseconds. One that does not answer is executing something of its own.
-define(PAGE_MS, 2000).
%% After this time it is looked whether a page waits, and the next one may begin.
-define(TURN_MS, 50).
%% So long the result is kept for the deployment, which may check whether its release boots.
-define(KEPT_MS, 600000).
%% Of so many processes it is looked whether they are pages.
-define(PROCESSES, 1000000).

%% `open`: those that were found · `rendered`: with the new code · `failed`: the new code raised,
%% and the page is as it was · `left`: not of a known form, or with temporary assigns · `busy`: did
%% not answer, and render later · `unreached`: their turn comes later · `why`: of the first that
%% failed. The others have closed.
-type rendered() :: #{open := non_neg_integer(),
                      rendered := non_neg_integer(),
                      failed := non_neg_integer(),
                      left := non_neg_integer(),
                      busy := non_neg_integer(),
                      unreached := non_neg_integer(),
                      why := binary()}.
%% The result for one page. `gone`: it was closed.
-type outcome() :: gatling_rendering:outcome() | busy | gone.
%% The pages that have been asked. `turn`: whether no other page may begin for this one.
-type active() :: #{reference() => #{page := pid(), turn := on | over}}.
%% `pages`: those whose turn has not come · `asker`: who waits for the result.
-type work() :: #{pages := [pid()], active := active(), outcomes := [outcome()],
                  asker := none | answered | {pid(), reference()},
                  start := fun((pid()) -> active()), open := non_neg_integer()}.

%% How many pages are open, of a LiveView whose versions are known.
-spec open() -> non_neg_integer().
open() -> length(pages()).

%% Have all open pages ready for new code. If somebody clicks before a page has its turn, LiveView
%% renders a changed template whole, and static_changed?/1 in it would raise after the mount. Nobody
%% waits for the pages: each one comes to this before it comes to a later event.
-spec prepare(Statics :: [binary()]) -> ok.
prepare(Statics) ->
    Nobody = nobody(),
    Prepare = fun(State) -> gatling_rendering:prepare(State, Statics) end,
    _ = [replace(P, Prepare, Nobody) || P <- pages()],
    ok.

%% Let all open pages render, a few at once, while the caller does something else. `Statics` are the
%% scripts and style sheets of the release before, by which a page sees whether they have changed.
-spec start(Statics :: [binary()]) -> Worker :: pid().
start(Statics) -> spawn(?MODULE, worker, [pages(), Statics]).

%% The results of the pages, at the latest after so many milliseconds. The pages that remain then
%% render nevertheless, without anybody waiting for them.
-spec await(Worker :: pid(), Milliseconds :: non_neg_integer()) -> rendered().
await(Worker, Milliseconds) ->
    Ref = monitor(process, Worker),
    Worker ! {await, self(), Ref, Milliseconds},
    receive
        {rendered, Ref, Rendered} ->
            true = demonitor(Ref, [flush]),
            Rendered;
        {'DOWN', Ref, process, Worker, _} ->
            result(0, [], 0)
    end.

%% ---------------------------------------------------------------- which they are

-spec pages() -> [pid()].
pages() ->
    case is_known() of
        true -> [P || P <- lists:sublist(erlang:processes(), ?PROCESSES), is_page(P)];
        false -> []
    end.

%% Whether this is LiveView 0.18.4 or newer. A version number may be anything, but those handle a
%% message of the live reloader, which their code names.
-spec is_known() -> boolean().
is_known() ->
    erlang:module_loaded(?CHANNEL) andalso names(code:get_object_code(?CHANNEL)).

-spec names({module(), binary(), file:filename()} | error) -> boolean().
names({_, Binary, _}) ->
    case beam_lib:chunks(Binary, [atoms]) of
        {ok, {_, [{atoms, Atoms}]}} -> lists:keymember(phoenix_live_reload, 2, Atoms);
        {error, _, _} -> false
    end;
names(error) ->
    false.

%% LiveView notes the view as what a process began with, from its mount on. The dictionary is the
%% app's, but the first function is not: proc_lib has started the process.
-spec is_page(pid()) -> boolean().
is_page(P) ->
    case process_info(P, [initial_call, dictionary]) of
        [{initial_call, {proc_lib, init_p, _}}, {dictionary, Dictionary}] ->
            case lists:keyfind('$initial_call', 1, Dictionary) of
                {_, {View, mount, 3}} -> is_view(View);
                {_, {?CHANNEL, init, 1}} -> true;
                _ -> false
            end;
        _ ->
            false
    end.

-spec is_view(term()) -> boolean().
is_view(View) -> is_atom(View) andalso erlang:function_exported(View, '__live__', 0).

%% ---------------------------------------------------------------- one after the other

%% As many at once as there are schedulers: so requests wait for one page at most.
-spec worker([pid()], Statics :: [binary()]) -> ok.
worker(Pages, Statics) ->
    Nobody = nobody(),
    turns(#{pages => Pages, active => #{}, outcomes => [], asker => none, open => length(Pages),
            start => fun(P) -> start(P, Statics, Nobody) end}).

%% Until all have had their turn.
-spec turns(work()) -> ok.
turns(#{pages := [], active := Active} = Work) when map_size(Active) =:= 0 ->
    over(Work);
turns(#{pages := Pages, active := Active, start := Start} = Work) ->
    Turns = length([on || #{turn := on} <- maps:values(Active)]),
    case Pages of
        [P | Rest] ->
            case Turns < erlang:system_info(schedulers_online) of
                true -> turns(Work#{pages := Rest, active := maps:merge(Active, Start(P))});
                false -> turns(event(Work))
            end;
        [] ->
            turns(event(Work))
    end.

%% The result is kept for a while for somebody who asks.
-spec over(work()) -> ok.
over(#{asker := none} = Work) ->
    receive {await, Asker, Ref, _} -> over(Work#{asker := {Asker, Ref}})
    after ?KEPT_MS -> ok
    end;
over(Work) ->
    _ = answered(Work),
    ok.

%% Wait until something happens.
-spec event(work()) -> work().
event(#{active := Active} = Work) ->
    receive
        {Ref, Outcome} when is_map_key(Ref, Active) -> ended(Ref, Outcome, Work);
        {timeout, _, {turn, Ref}} when is_map_key(Ref, Active) -> turn(Ref, Work);
        {timeout, _, {busy, Ref}} when is_map_key(Ref, Active) -> ended(Ref, busy, Work);
        {'DOWN', Ref, process, _, _} when is_map_key(Ref, Active) -> ended(Ref, gone, Work);
        {await, Asker, Ref, Milliseconds} ->
            _ = erlang:start_timer(Milliseconds, self(), answer),
            Work#{asker := {Asker, Ref}};
        {timeout, _, answer} -> answered(Work);
        _ -> Work  %% of a page that was busy, or of a timer of a page that has ended
    end.

%% A page that waits for something else, such as a database, takes no time from requests: the
%% next one may begin.
-spec turn(reference(), work()) -> work().
turn(Ref, #{active := Active} = Work) ->
    #{page := P} = Page = maps:get(Ref, Active),
    case process_info(P, status) of
        {status, waiting} ->
            Work#{active := Active#{Ref := Page#{turn := over}}};
        _ ->
            _ = erlang:start_timer(?TURN_MS, self(), {turn, Ref}),
            Work
    end.

-spec ended(reference(), outcome(), work()) -> work().
ended(Ref, Outcome, #{active := Active, outcomes := Outcomes} = Work) ->
    true = demonitor(Ref, [flush]),
    Work#{active := maps:remove(Ref, Active), outcomes := [Outcome | Outcomes]}.

%% The asker has got the result, and nobody else asks.
-spec answered(work()) -> work().
answered(#{asker := {Asker, Ref}, pages := Pages, active := Active, outcomes := Outcomes,
           open := Open} = Work) ->
    Busy = [busy || _ <- maps:keys(Active)],
    Asker ! {rendered, Ref, result(Open, Busy ++ Outcomes, length(Pages))},
    Work#{asker := answered};
answered(Work) ->
    Work.

-spec result(Open :: non_neg_integer(), [outcome()], Unreached :: non_neg_integer()) ->
          rendered().
result(Open, Outcomes, Unreached) ->
    Reasons = [Why || {failed, Why} <- Outcomes],
    Numbers = maps:from_list([{O, number(O, Outcomes)} || O <- [rendered, left, busy]]),
    Numbers#{open => Open, unreached => Unreached, failed => length(Reasons),
             why => lists:last([<<>> | Reasons])}.

-spec number(rendered | left | busy, [outcome()]) -> non_neg_integer().
number(Outcome, Outcomes) -> length([O || O <- Outcomes, O =:= Outcome]).

%% The page renders in its own process.
-spec start(pid(), Statics :: [binary()], Nobody :: pid()) -> active().
start(P, Statics, Nobody) ->
    Asker = self(),
    Ref = monitor(process, P),
    Render = fun(State) ->
                     {Outcome, New} = gatling_rendering:render(State, Statics),
                     Asker ! {Ref, Outcome},
                     New
             end,
    _ = replace(P, Render, Nobody),
    _ = erlang:start_timer(?TURN_MS, self(), {turn, Ref}),
    _ = erlang:start_timer(?PAGE_MS, self(), {busy, Ref}),
    #{Ref => #{page => P, turn => on}}.

%% The answer to the system message would be a copy of the whole state: nobody gets it.
-spec replace(pid(), fun((term()) -> term()), Nobody :: pid()) -> term().
replace(P, Fun, Nobody) -> P ! {system, {Nobody, make_ref()}, {replace_state, Fun}}.

%% A process that has ended.
-spec nobody() -> pid().
nobody() ->
    {Nobody, Ref} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Ref, process, Nobody, _} -> Nobody end.
