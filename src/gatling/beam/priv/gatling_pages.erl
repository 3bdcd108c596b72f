%% The open pages of an app: the processes of its connected LiveViews. After an upgrade each one is
%% made to render with the new code, and keeps its connection and its assigns.
%%
%% The channel process of LiveView understands {phoenix_live_reload, Topic, Path}, with which it
%% renders what the assigns lead to. On its own that is not enough. It sends only what LiveView
%% believes has changed, so a function component with equal assigns keeps its old text. And several
%% versions of LiveView crash on it where no code reloader is configured. So the state is prepared
%% first, in the process itself: as if nothing had been sent to the browser yet.
%%
%% A page with LiveComponents is left alone: LiveView renders those only if their assigns change,
%% and mounts them again if the template of the page is another one. Whatever is not exactly as it
%% is known to be stays as it is, too, and renders with its next event.
-module(gatling_pages).

-export([open/0, render/1]).
-export([worker/3]).
-export_type([rendered/0]).

-define(CHANNEL, 'Elixir.Phoenix.LiveView.Channel').
-define(SOCKET, 'Elixir.Phoenix.LiveView.Socket').
%% To render one takes milliseconds. One that does not answer is executing something of its own.
-define(PAGE_MS, 2000).
%% Of so many processes it is looked whether they are pages.
-define(PROCESSES, 1000000).
%% A page that crashes loses its state. When so many have, the others are left alone.
-define(CRASHES, 3).
-define(FRESH, {nil, #{}}).

%% `open`: those that were found · `rendered`: with the new code · `crashed`: while rendering ·
%% `left`: not of a known form, with LiveComponents, or with temporary assigns, which are not there
%% any more · `busy`: did not answer, and render later · `unreached`: their turn did not come. The
%% others were closed before their turn.
-type rendered() :: #{open := non_neg_integer(),
                      rendered := non_neg_integer(),
                      crashed := non_neg_integer(),
                      left := non_neg_integer(),
                      busy := non_neg_integer(),
                      unreached := non_neg_integer()}.
-type request() :: #{statics := [binary()], limit_ms := pos_integer()}.
%% The result for one page. `gone`: it was closed.
-type outcome() :: rendered | crashed | left | busy | gone.
-type active() :: #{reference() => {pid(), Timer :: reference()}}.

%% How many pages are open that understand the message.
-spec open() -> non_neg_integer().
open() -> length(pages()).

%% Let all open pages render, a few at once. `statics` are the scripts and style sheets of the
%% release before, by which a page sees whether they have changed.
-spec render(request()) -> rendered().
render(#{statics := Statics, limit_ms := Limit}) ->
    {Worker, Ref} = spawn_monitor(?MODULE, worker, [pages(), Statics, Limit]),
    receive
        {'DOWN', Ref, process, Worker, {rendered, Rendered}} -> Rendered;
        {'DOWN', Ref, process, Worker, _} -> result(0, [], 0)
    end.

%% ---------------------------------------------------------------- which they are

-spec pages() -> [pid()].
pages() ->
    case understood() of
        true -> [P || P <- lists:sublist(erlang:processes(), ?PROCESSES), is_page(P)];
        false -> []
    end.

%% Whether this LiveView handles the message; older ones would hand it to the app. A version
%% number may be anything, and the code that handles the message must name it.
-spec understood() -> boolean().
understood() ->
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
-spec worker([pid()], Statics :: [binary()], Limit :: pos_integer()) -> no_return().
worker(Pages, Statics, Limit) ->
    Deadline = erlang:start_timer(Limit, self(), deadline),
    {Nobody, Ref} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Ref, process, Nobody, _} -> ok end,
    Start = fun(P) -> prepare(P, Statics, Nobody) end,
    exit({rendered, turns(Pages, #{}, [], Start, Deadline, length(Pages))}).

-spec turns([pid()], active(), [outcome()], fun((pid()) -> active()), Deadline :: reference(),
            Open :: non_neg_integer()) -> rendered().
turns([], Active, Outcomes, _, _, Open) when map_size(Active) =:= 0 ->
    result(Open, Outcomes, 0);
turns(Pages, Active, Outcomes, Start, Deadline, Open) ->
    Room = erlang:system_info(schedulers_online) - map_size(Active),
    Stopped = number(crashed, Outcomes) >= ?CRASHES,
    case Pages of
        [P | Rest] when Room > 0, not Stopped ->
            turns(Rest, maps:merge(Active, Start(P)), Outcomes, Start, Deadline, Open);
        _ when map_size(Active) =:= 0 ->
            result(Open, Outcomes, length(Pages));
        _ ->
            case next(Active, Deadline) of
                {Ref, Outcome} ->
                    turns(Pages, maps:remove(Ref, Active), [Outcome | Outcomes], Start, Deadline,
                          Open);
                over ->
                    Busy = [busy || _ <- maps:keys(Active)],
                    result(Open, Busy ++ Outcomes, length(Pages))
            end
    end.

%% Wait for the end of one turn.
-spec next(active(), Deadline :: reference()) -> {reference(), outcome()} | over.
next(Active, Deadline) ->
    receive
        {Ref, prepared} when is_map_key(Ref, Active) ->
            {P, _} = maps:get(Ref, Active),
            %% it answers this one after it has rendered
            P ! {system, {self(), Ref}, {replace_state, fun(_) -> throw(rendered) end}},
            next(Active, Deadline);
        {Ref, left} when is_map_key(Ref, Active) -> ended(Ref, left, Active);
        {Ref, {error, _}} when is_map_key(Ref, Active) -> ended(Ref, rendered, Active);
        {timeout, _, {busy, Ref}} when is_map_key(Ref, Active) -> ended(Ref, busy, Active);
        {timeout, Deadline, deadline} -> over;
        {'DOWN', Ref, process, _, Reason} when is_map_key(Ref, Active) ->
            ended(Ref, how_ended(Reason), Active)
    end.

-spec ended(reference(), outcome(), active()) -> {reference(), outcome()}.
ended(Ref, Outcome, Active) ->
    {_, Timer} = maps:get(Ref, Active),
    _ = erlang:cancel_timer(Timer),
    true = demonitor(Ref, [flush]),
    {Ref, Outcome}.

-spec how_ended(term()) -> crashed | gone.
how_ended({Error, [_ | _]}) when Error =/= shutdown -> crashed;
how_ended(_) -> gone.

-spec result(Open :: non_neg_integer(), [outcome()], Unreached :: non_neg_integer()) ->
          rendered().
result(Open, Outcomes, Unreached) ->
    maps:from_list([{open, Open}, {unreached, Unreached}
                    | [{O, number(O, Outcomes)} || O <- [rendered, crashed, left, busy]]]).

-spec number(outcome(), [outcome()]) -> non_neg_integer().
number(Outcome, Outcomes) -> length([O || O <- Outcomes, O =:= Outcome]).

%% ---------------------------------------------------------------- in the page's process

%% The answer to the system message would be a copy of the whole state: nobody gets it.
-spec prepare(pid(), Statics :: [binary()], Nobody :: pid()) -> active().
prepare(P, Statics, Nobody) ->
    Asker = self(),
    Ref = monitor(process, P),
    Prepare = fun(State) ->
                      case prepared(State, Statics) of
                          {ok, Prepared} ->
                              self() ! {phoenix_live_reload, <<"gatling">>, <<>>},
                              Asker ! {Ref, prepared},
                              Prepared;
                          left ->
                              Asker ! {Ref, left},
                              State
                      end
              end,
    P ! {system, {Nobody, make_ref()}, {replace_state, Prepare}},
    #{Ref => {P, erlang:start_timer(?PAGE_MS, self(), {busy, Ref})}}.

%% The state of a channel of which nothing has been sent to the browser. LiveView notes what it has
%% sent in the socket up to 1.0, and beside the socket since 1.1.
-spec prepared(term(), Statics :: [binary()]) -> {ok, map()} | left.
prepared(#{socket := #{'__struct__' := ?SOCKET, assigns := Assigns, private := Private,
                       parent_pid := Parent} = Socket,
           components := {Components, _, _}} = State, Statics)
  when map_size(Components) =:= 0 ->
    Known = is_known(Assigns, Private),
    Page = Socket#{assigns := changed(Assigns), private := private(Private, Parent, Statics)},
    case {State, Socket} of
        {#{fingerprints := {_, Sent}}, _} when Known, is_map(Sent) ->
            {ok, State#{socket := Page, fingerprints := ?FRESH}};
        {_, #{fingerprints := {_, Sent}}} when Known, is_map(Sent) ->
            {ok, State#{socket := Page#{fingerprints := ?FRESH}}};
        _ ->
            left
    end;
prepared(_, _) ->
    left.

%% Temporary assigns have been reset since they were rendered: to render them again would empty
%% the page.
-spec is_known(term(), term()) -> boolean().
is_known(#{'__changed__' := Changed}, Private) when is_map(Changed), is_map(Private) ->
    case maps:get(temporary_assigns, Private, #{}) of
        Temporary when is_map(Temporary) -> map_size(Temporary) =:= 0;
        Temporary -> Temporary =:= []
    end;
is_known(_, _) ->
    false.

-spec changed(term()) -> term().
changed(#{'__changed__' := _} = Assigns) ->
    Names = maps:keys(maps:remove('__changed__', Assigns)),
    %% without a single assign something must count as changed, too
    Assigns#{'__changed__' := maps:from_keys([flash | Names], true)};
changed(Assigns) ->
    Assigns.

%% A code reloader that does nothing, since some versions call it without looking for one. And what
%% static_changed?/1 compares: LiveView drops the browser's own list after the mount, and raises in
%% a template that asks for it then.
-spec private(term(), Parent :: term(), Statics :: [binary()]) -> term().
private(Private, Parent, Statics) when is_map(Private) ->
    Reloader = maps:merge(#{phoenix_reloader => {erlang, is_atom, []}}, Private),
    case Parent of
        nil -> maps:merge(#{connect_params => #{<<"_track_static">> => Statics}}, Reloader);
        _ -> Reloader
    end;
private(Private, _, _) ->
    Private.
