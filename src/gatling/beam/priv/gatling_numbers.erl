%% The numbers of a running node: memory, run queues, utilisation of schedulers, processes, ETS.
%% Loaded into the node by Gatling, without its other modules. It looks only, and what is enabled
%% for it ends with the process that calls.
%%
%% A node may have millions of processes. So a list of them is made within a time limit, and says
%% how many processes it is about.
-module(gatling_numbers).

-export([all/1, processes/2, tables/1, sockets/0]).
-export([top/3]).

-define(MOST, 50).
-define(CHARACTERS, 120).
%% Items of a list after which the time is looked at.
-define(CHUNK, 500).

-type numbers() :: #{atom() => term()}.
-type row() :: #{atom() => binary() | integer()}.
-type process_key() :: memory | reductions | message_queue_len.
-type measured() :: {Value :: integer(), Item :: term()}.

%% All numbers of the node. To measure the utilisation takes so many milliseconds; none with 0.
-spec all(non_neg_integer()) -> numbers().
all(Milliseconds) ->
    {Gcs, Words, _} = erlang:statistics(garbage_collection),
    {{input, In}, {output, Out}} = erlang:statistics(io),
    {Switches, _} = erlang:statistics(context_switches),
    {Reductions, _} = erlang:statistics(reductions),
    {Runtime, _} = erlang:statistics(runtime),
    {WallClock, _} = erlang:statistics(wall_clock),
    {Normal, Io} = utilisation(Milliseconds),
    #{otp => list_to_binary(erlang:system_info(otp_release)),
      uptime_ms => WallClock,
      memory => maps:from_list(erlang:memory()),
      wordsize => erlang:system_info(wordsize),
      limits => maps:from_list([counted(K) || K <- [process, port, atom, ets]]),
      run_queues => erlang:statistics(total_run_queue_lengths),
      run_queues_all => erlang:statistics(total_run_queue_lengths_all),
      schedulers => erlang:system_info(schedulers_online),
      utilisation => Normal,
      io_utilisation => Io,
      reductions => Reductions,
      context_switches => Switches,
      runtime_ms => Runtime,
      gcs => Gcs,
      reclaimed_words => Words,
      bytes_in => In,
      bytes_out => Out,
      logger_queue => queue(logger),
      dets => dets()}.

-spec counted(process | port | atom | ets) -> {atom(), {Count :: integer(), Limit :: integer()}}.
counted(process) -> {process, {info(process_count), info(process_limit)}};
counted(port) -> {port, {info(port_count), info(port_limit)}};
counted(atom) -> {atom, {info(atom_count), info(atom_limit)}};
counted(ets) -> {ets, {info(ets_count), info(ets_limit)}}.

%% Open DETS tables, without a start of the server that dets:all() asks.
-spec dets() -> non_neg_integer().
dets() ->
    case ets:info(dets_registry, size) of
        undefined -> 0;
        Size -> Size
    end.

-spec info(atom()) -> integer().
info(Key) -> erlang:system_info(Key).

-spec queue(atom()) -> integer().
queue(Name) ->
    try process_info(whereis(Name), message_queue_len) of
        {message_queue_len, N} -> N;
        undefined -> 0
    catch error:badarg -> 0
    end.

%% The share of time, in thousandths, in which schedulers ran something: those of Erlang's code and
%% of work for the processor, and those of work that waits for files. -1 when it is not measured.
%% The emulator counts while a process exists that asked for it, so it ends with this one.
-spec utilisation(non_neg_integer()) -> {integer(), integer()}.
utilisation(0) ->
    {-1, -1};
utilisation(Milliseconds) ->
    _ = erlang:system_flag(scheduler_wall_time, true),
    Before = walls(),
    receive after Milliseconds -> ok end,
    After = walls(),
    Last = erlang:system_info(schedulers) + erlang:system_info(dirty_cpu_schedulers),
    Online = erlang:system_info(schedulers_online),
    Used = [{N, A1 - A0, T1 - T0} || {{N, A0, T0}, {N, A1, T1}} <- lists:zip(Before, After)],
    %% those of the processor share its cores
    {min(1000, share([{A, T} || {N, A, T} <- Used, N =< Last], Online)),
     share([{A, T} || {N, A, T} <- Used, N > Last], erlang:system_info(dirty_io_schedulers))}.

-spec walls() -> [{pos_integer(), non_neg_integer(), non_neg_integer()}].
walls() ->
    case erlang:statistics(scheduler_wall_time_all) of
        undefined -> [];
        Walls -> lists:sort(Walls)
    end.

-spec share([{integer(), integer()}], pos_integer()) -> integer().
share([], _) -> -1;
share(Times, Number) ->
    Total = lists:max([T || {_, T} <- Times]),
    case Total > 0 of
        true -> 1000 * lists:sum([A || {A, _} <- Times]) div (Total * Number);
        false -> -1
    end.

%% ---------------------------------------------------------------- processes

%% The first so many processes by a number, the highest first; and how many were looked at.
-spec processes(process_key(), pos_integer()) -> {[row()], non_neg_integer()}.
processes(Key, Most) ->
    Value = fun(P) ->
                case process_info(P, Key) of
                    {_, V} -> V;
                    undefined -> 0
                end
            end,
    Own = self(),
    {Found, Seen} = top([P || P <- erlang:processes(), P =/= Own], Value, min(Most, ?MOST)),
    {[Row || {_, P} <- Found, Row <- process(P)], Seen}.

-spec process(pid()) -> [row()].
process(P) ->
    Keys = [memory, reductions, message_queue_len, current_function],
    case process_info(P, Keys) of
        undefined ->
            [];
        Info ->
            [#{pid => list_to_binary(pid_to_list(P)),
               name => called(P),
               memory => proplists:get_value(memory, Info),
               reductions => proplists:get_value(reductions, Info),
               queue => proplists:get_value(message_queue_len, Info),
               current => function(proplists:get_value(current_function, Info))}]
    end.

%% The name of a process for people: its label, its name, or what it was started as.
-spec called(pid()) -> binary().
called(P) ->
    Ways = [fun() -> label(P) end, fun() -> registered(P) end, fun() -> initial(P) end],
    first(Ways).

-spec first([fun(() -> binary())]) -> binary().
first([]) -> <<>>;
first([Way | Ways]) ->
    try Way() of
        <<>> -> first(Ways);
        Found -> Found
    catch _:_ -> first(Ways)
    end.

%% OTP 27 and later.
-spec label(pid()) -> binary().
label(P) ->
    case optional(proc_lib, get_label, [P], undefined) of
        undefined -> <<>>;
        Label -> text(Label)
    end.

%% The value of a function that older versions of OTP do not have.
-spec optional(module(), atom(), [term()], Otherwise :: term()) -> term().
optional(Module, Function, Arguments, Otherwise) ->
    case erlang:function_exported(Module, Function, length(Arguments)) of
        true -> apply(Module, Function, Arguments);
        false -> Otherwise
    end.

-spec registered(pid()) -> binary().
registered(P) ->
    case process_info(P, registered_name) of
        {registered_name, Name} -> text(Name);
        _ -> <<>>
    end.

%% Its whole dictionary is copied for that, so it is not for large processes.
-spec initial(pid()) -> binary().
initial(P) ->
    {memory, Memory} = process_info(P, memory),
    case Memory < 16 * 1024 * 1024 of
        true ->
            function(proc_lib:translate_initial_call(P));
        false ->
            {initial_call, MFA} = process_info(P, initial_call),
            function(MFA)
    end.

%% ---------------------------------------------------------------- tables and sockets

%% The largest ETS tables; and how many were looked at.
-spec tables(pos_integer()) -> {[row()], non_neg_integer()}.
tables(Most) ->
    Word = erlang:system_info(wordsize),
    Value = fun(T) ->
                case ets:info(T, memory) of
                    undefined -> 0;
                    Words -> Words * Word
                end
            end,
    {Found, Seen} = top(ets:all(), Value, min(Most, ?MOST)),
    {[#{name => text(ets:info(T, name)), memory => Bytes, size => Size}
      || {Bytes, T} <- Found, Size <- [ets:info(T, size)], is_integer(Size)], Seen}.

%% How many sockets are open: those of the module `socket`, and those of ports, TCP and UDP.
-spec sockets() -> non_neg_integer().
sockets() ->
    Names = [erlang:port_info(P, name) || P <- erlang:ports()],
    Ports = length([Name || {name, Name} <- Names,
                            lists:member(Name, ["tcp_inet", "udp_inet", "sctp_inet"])]),
    case optional(socket, number_of, [], 0) of
        Others when is_integer(Others), Others >= 0 -> Ports + Others
    end.

%% ---------------------------------------------------------------- lists within a time limit

%% Those of a list with the highest values; how many were measured before the time was up.
-spec top([Item], fun((Item) -> integer()), pos_integer()) ->
          {[{integer(), Item}], non_neg_integer()}.
top(Items, Value, Most) ->
    Deadline = erlang:monotonic_time(millisecond) + 400,
    _ = process_flag(priority, low),
    top(Items, Value, Most, Deadline, [], 0).

-spec top([term()], fun((term()) -> integer()), pos_integer(), integer(), [measured()],
          non_neg_integer()) -> {[measured()], non_neg_integer()}.
top([], _, Most, _, Best, Seen) ->
    {highest(Best, Most), Seen};
top(Items, Value, Most, Deadline, Best, Seen) ->
    case erlang:monotonic_time(millisecond) > Deadline of
        true ->
            {highest(Best, Most), Seen};
        false ->
            {Now, Later} = cut(Items, ?CHUNK, []),
            New = [{Value(I), I} || I <- Now],
            top(Later, Value, Most, Deadline, highest(New ++ Best, Most), Seen + length(Now))
    end.

-spec cut([term()], non_neg_integer(), [term()]) -> {[term()], [term()]}.
cut(Rest, 0, Taken) -> {Taken, Rest};
cut([], _, Taken) -> {Taken, []};
cut([Item | Rest], N, Taken) -> cut(Rest, N - 1, [Item | Taken]).

-spec highest([measured()], pos_integer()) -> [measured()].
highest(Measured, Most) ->
    lists:sublist(lists:sort(fun({A, _}, {B, _}) -> A >= B end, Measured), Most).

%% ---------------------------------------------------------------- text

-spec function(term()) -> binary().
function({M, F, A}) when is_atom(M), is_atom(F), is_integer(A) ->
    cut_off(iolist_to_binary([plain(M), $., atom_to_binary(F), $/, integer_to_binary(A)]));
function(_) ->
    <<>>.

-spec plain(module()) -> binary().
plain(M) ->
    case atom_to_binary(M) of
        <<"Elixir.", Name/binary>> -> Name;
        Name -> <<$:, Name/binary>>
    end.

-spec text(term()) -> binary().
text(Name) when is_atom(Name) ->
    case atom_to_binary(Name) of
        <<"Elixir.", Module/binary>> -> cut_off(Module);
        Other -> cut_off(Other)
    end;
text(Binary) when is_binary(Binary) ->
    case unicode:characters_to_binary(Binary) of
        Text when is_binary(Text) -> cut_off(Text);
        _ -> <<"?">>
    end;
text(Term) ->
    Written = io_lib:format("~0tp", [Term], [{chars_limit, ?CHARACTERS}]),
    cut_off(unicode:characters_to_binary(Written)).

-spec cut_off(binary()) -> binary().
cut_off(Text) ->
    unicode:characters_to_binary(string:slice(Text, 0, ?CHARACTERS)).
