%% Renders an open page with the new code, in the process of the page, and sends it to the browser.
%%
%% LiveView itself would render only what it believes has changed: not a function component with
%% equal assigns, nor a LiveComponent. And it drops all LiveComponents if the template of the page
%% is another one. So the page and each of its components are rendered here, with the functions with
%% which LiveView does that, as if nothing had been sent to the browser, and the browser gets all of
%% it in one message. Nothing is sent before all has been rendered: if the new code raises, the page
%% stays as it is. So does one whose state is not exactly as it is known to be.
-module(gatling_rendering).

-export([render/2, prepare/2]).
-export_type([outcome/0]).

-define(SOCKET, 'Elixir.Phoenix.LiveView.Socket').
-define(DIFF, 'Elixir.Phoenix.LiveView.Diff').
-define(UTILS, 'Elixir.Phoenix.LiveView.Utils').
-define(FRESH, {nil, #{}}).
%% Each component is rendered on its own, and a page with so many takes a while.
-define(COMPONENTS, 1000).

%% `failed`: the new code raises, and why · `left`: not of a known form, or with temporary assigns.
-type outcome() :: rendered | {failed, binary()} | left.
-type cid() :: integer().
%% The module, the id, the assigns, the private part of the socket, and what has been sent.
-type component() :: {module(), Id :: term(), map(), map(), Prints :: tuple()}.
-type components() :: {#{cid() => component()}, Ids :: map(), Next :: cid()}.
%% `diffs` by component, all of them whole · `events` for the browser · `prints`: what it will
%% have of each component.
-type work() :: #{socket := map(), components := components(), diffs := map(), events := list(),
                  prints := #{cid() => tuple()}}.

%% `Statics` are the scripts and style sheets of the release before, by which a page sees whether
%% they have changed.
-spec render(term(), Statics :: [binary()]) -> {outcome(), State :: term()}.
render(State, Statics) ->
    case is_known(State) of
        true ->
            try {rendered, sent(rendered(prepared(State, Statics)))}
            catch _:Reason:Stack -> {{failed, gatling_why:why({Reason, Stack})}, State}
            end;
        false ->
            {left, State}
    end.

%% The page with what a new template of it may ask for, see private/3; nothing else changes.
-spec prepare(term(), Statics :: [binary()]) -> State :: term().
prepare(#{socket := #{'__struct__' := ?SOCKET, private := #{} = Private, parent_pid := Parent}
          = Socket} = State, Statics) ->
    State#{socket := Socket#{private := private(Private, Parent, Statics)}};
prepare(State, _) ->
    State.

%% ---------------------------------------------------------------- which can be rendered

-spec is_known(term()) -> boolean().
is_known(#{socket := #{'__struct__' := ?SOCKET, assigns := #{'__changed__' := #{}},
                       private := Private, parent_pid := _} = Socket,
           components := {#{} = Components, _, _}} = State) ->
    has_prints(State, Socket)
        andalso is_permanent(Private)
        andalso map_size(Components) =< ?COMPONENTS
        andalso lists:all(fun is_component/1, maps:to_list(Components));
is_known(_) ->
    false.

%% LiveView notes what it has sent in the socket up to 1.0, and beside the socket since 1.1.
-spec has_prints(map(), map()) -> boolean().
has_prints(#{fingerprints := {_, #{}}}, _) -> true;
has_prints(_, #{fingerprints := {_, #{}}}) -> true;
has_prints(_, _) -> false.

-spec is_component({term(), term()}) -> boolean().
is_component({Cid, {Module, _, #{}, Private, {_, _}}}) when is_integer(Cid), is_atom(Module) ->
    is_permanent(Private);
is_component(_) ->
    false.

%% Temporary assigns have been reset since they were rendered: to render them again would empty
%% parts of the page.
-spec is_permanent(term()) -> boolean().
is_permanent(#{} = Private) ->
    case maps:get(temporary_assigns, Private, #{}) of
        Temporary when is_map(Temporary) -> map_size(Temporary) =:= 0;
        Temporary -> Temporary =:= []
    end;
is_permanent(_) ->
    false.

-spec prepared(map(), Statics :: [binary()]) -> map().
prepared(#{socket := #{assigns := Assigns, private := Private, parent_pid := Parent} = Socket}
         = State, Statics) ->
    State#{socket := Socket#{assigns := changed(Assigns),
                             private := private(Private, Parent, Statics)}}.

%% The assigns as if all had changed.
-spec changed(map()) -> map().
changed(#{'__changed__' := _} = Assigns) ->
    Names = maps:keys(maps:remove('__changed__', Assigns)),
    %% without a single assign something must count as changed, too
    Assigns#{'__changed__' := maps:from_keys([flash | Names], true)};
changed(Assigns) ->
    Assigns.

%% What static_changed?/1 compares: LiveView drops the browser's own list after the mount, and
%% raises in a template that asks for it then.
-spec private(map(), Parent :: term(), Statics :: [binary()]) -> map().
private(Private, nil, Statics) ->
    maps:merge(#{connect_params => #{<<"_track_static">> => Statics}}, Private);
private(Private, _, _) ->
    Private.

%% ---------------------------------------------------------------- the page, then its components

-spec rendered(map()) -> {Diff :: map(), State :: map()}.
rendered(#{socket := Socket, components := {Before, _, _} = Components} = State) ->
    {Diff, Rendered} = page(State#{components := fresh(maps:keys(Before), Components)}),
    #{socket := After} = Rendered,
    First = noted(Diff, maps:get(components, Rendered),
                  #{socket => Socket, diffs => #{}, events => [], prints => #{}}),
    #{components := {Map, Ids, Next}, diffs := Diffs, events := Events, prints := Prints} =
        lists:foldl(fun component/2, First, lists:sort(maps:keys(Before))),
    Sent = maps:map(fun(Cid, C) -> setelement(5, C, maps:get(Cid, Prints, ?FRESH)) end, Map),
    {with(e, Events, with(c, Diffs, maps:without([c, e], Diff))),
     Rendered#{socket := After, components := {Sent, Ids, Next}}}.

-spec page(map()) -> {Diff :: map(), State :: map()}.
page(#{fingerprints := _, socket := Socket, components := Components} = State) ->
    {Diff, Prints, After} = ?DIFF:render(Socket, template(Socket), ?FRESH, Components),
    {Diff, State#{fingerprints := Prints, components := After}};
page(#{socket := #{fingerprints := _} = Socket, components := Components} = State) ->
    Fresh = Socket#{fingerprints := ?FRESH},
    {After, Diff, Rendered} = ?DIFF:render(Fresh, template(Fresh), Components),
    {Diff, State#{socket := After, components := Rendered}}.

%% The function has been in another module up to 0.20.1.
-spec template(map()) -> term().
template(#{view := View} = Socket) ->
    case erlang:function_exported(?UTILS, to_rendered, 2) of
        true -> ?UTILS:to_rendered(Socket, View);
        false -> 'Elixir.Phoenix.LiveView.Renderer':to_rendered(Socket, View)
    end.

%% One that has been rendered with the page or with another component, since its assigns have
%% changed there, is rendered whole already.
-spec component(cid(), work()) -> work().
component(Cid, #{diffs := Diffs} = Work) when is_map_key(Cid, Diffs) ->
    Work;
component(Cid, #{socket := Socket, components := Components} = Work) ->
    case ?DIFF:write_component(Socket, Cid, Components, fun forced/2) of
        {Diff, After, ok} -> noted(Diff, After, Work);
        error -> Work
    end.

-spec forced(map(), module()) -> {map(), ok}.
forced(#{assigns := Assigns} = Socket, _) ->
    {Socket#{assigns := changed(Assigns)}, ok}.

%% In the next step, nothing of these counts as sent again: so its diffs are whole, too, and refer
%% to no component but those of the same step. Of the diffs of a component the last one is sent.
-spec noted(Diff :: map(), components(), map()) -> work().
noted(Diff, {Map, _, _} = Components,
      #{diffs := Diffs, events := Events, prints := Prints} = Work) ->
    New = maps:get(c, Diff, #{}),
    Cids = maps:keys(New),
    Work#{components => fresh(Cids, Components),
          diffs := maps:merge(Diffs, New),
          events := Events ++ maps:get(e, Diff, []),
          prints := maps:merge(Prints, maps:map(fun(_, C) -> element(5, C) end,
                                                maps:with(Cids, Map)))}.

-spec fresh([cid()], components()) -> components().
fresh(Cids, {Map, Ids, Next}) ->
    Reset = maps:map(fun(_, C) -> setelement(5, C, ?FRESH) end, maps:with(Cids, Map)),
    {maps:merge(Map, Reset), Ids, Next}.

-spec with(c | e, map() | list(), map()) -> map().
with(_, Nothing, Diff) when Nothing =:= []; Nothing =:= #{} -> Diff;
with(Key, Value, Diff) -> Diff#{Key => Value}.

%% ---------------------------------------------------------------- to the browser

-spec sent({Diff :: map(), State :: map()}) -> map().
sent({Diff, #{socket := Socket, topic := Topic, join_ref := JoinRef, serializer := Serializer}
      = State}) ->
    Ended = 'Elixir.Phoenix.LiveView.Lifecycle':after_render(Socket),
    Payload = ?DIFF:render_private(Ended, Diff),
    Clean = #{transport_pid := Transport} = ?UTILS:clear_temp(?UTILS:clear_changed(Ended)),
    Message = 'Elixir.Phoenix.Socket.Message':'__struct__'(
                #{topic => Topic, event => <<"diff">>, payload => Payload, join_ref => JoinRef}),
    Transport ! Serializer:'encode!'(Message),
    State#{socket := Clean}.
