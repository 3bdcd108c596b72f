%% This node's open resources that no second node may open: data on the disk that belongs to one
%% node, and addresses it listens on. Loaded into the running node by Gatling, which asks before
%% it starts a second instance of the app. It only looks: nothing is started, not even the servers
%% of dets and disk_log.
%%
%% In a throw-away node, `forbid/0` makes it impossible to open such data.
-module(gatling_holds).

-export([all/1, forbid/0, refuse/3]).

-define(MOST, 50).

%% Modules through which a node takes possession of files.
-define(OPENERS, [mnesia, mnesia_app, dets, disk_log]).

-type protocol() :: tcp | udp | sctp.
-type listener() :: {protocol(), Address :: binary(), Port :: inet:port_number()}.
-type held() :: #{mnesia := binary(),
                  dets := [binary()],
                  disk_log := [binary()],
                  files := [binary()],
                  listeners := [listener()],
                  sockets := [binary()]}.

%% `mnesia` is the directory of its tables on the disk, or empty; `files` are those with one of
%% the endings that are asked for. At most so many of each kind.
-spec all([binary()]) -> held().
all(Endings) ->
    {Listeners, Sockets} = lists:partition(fun is_tuple/1, lists:usort(ports() ++ sockets())),
    #{mnesia => mnesia(),
      dets => most(dets()),
      disk_log => most(disk_logs()),
      files => most(safely(fun() -> files(Endings) end, [])),
      listeners => most(Listeners),
      sockets => most(Sockets)}.

-spec most([Found]) -> [Found].
most(Found) -> lists:sublist(lists:usort(Found), ?MOST).

%% A socket or a file that is looked at may be closed at that moment.
-spec safely(fun(() -> Result), Default) -> Result | Default.
safely(Fun, Default) ->
    try Fun() catch _:_ -> Default end.

%% ---------------------------------------------------------------- data

%% With tables in memory alone it has no directory in use.
-spec mnesia() -> binary().
mnesia() ->
    case whereis(mnesia_sup) =/= undefined andalso mnesia:system_info(use_dir) of
        true -> path(mnesia:system_info(directory));
        false -> <<>>
    end.

-spec dets() -> [binary()].
dets() ->
    case whereis(dets) of
        undefined -> [];
        _ -> [path(File) || T <- dets:all(), dets:info(T, access) =:= read_write,
                            File <- [dets:info(T, filename)], File =/= undefined]
    end.

-spec disk_logs() -> [binary()].
disk_logs() ->
    case whereis(disk_log_server) of
        undefined -> [];
        _ -> [path(File) || Log <- disk_log:all(), {ok, File} <- [written(disk_log:info(Log))]]
    end.

-spec written(term()) -> {ok, file:filename()} | none.
written(Info) when is_list(Info) ->
    case {proplists:get_value(mode, Info), proplists:get_value(file, Info)} of
        {read_write, File} when File =/= undefined -> {ok, File};
        _ -> none
    end;
written(_) ->
    none.

%% Regular files that this OS process has open for writing, as proc(5) has it: also those that
%% libraries open by themselves.
-spec files([binary()]) -> [binary()].
files(Endings) ->
    {ok, Names} = file:list_dir("/proc/self/fd"),
    Suffixes = [binary_to_list(Ending) || Ending <- Endings],
    [path(File) || Name <- Names,
                   {ok, "/" ++ _ = File} <- [file:read_link("/proc/self/fd/" ++ Name)],
                   lists:any(fun(Suffix) -> lists:suffix(Suffix, File) end, Suffixes),
                   for_writing(Name)].

-spec for_writing(string()) -> boolean().
for_writing(Name) ->
    case file:read_file("/proc/self/fdinfo/" ++ Name) of
        {ok, Info} ->
            case re:run(Info, "flags:\\s*([0-7]+)", [{capture, all_but_first, list}]) of
                {match, [Flags]} -> list_to_integer(Flags, 8) band 3 =/= 0;
                nomatch -> false
            end;
        {error, _} ->
            false
    end.

%% Relative paths are those of this node's working directory.
-spec path(file:name_all()) -> binary().
path(File) ->
    case unicode:characters_to_binary(filename:absname(File)) of
        Path when is_binary(Path) -> Path;
        _ -> <<"a file whose name is not UTF-8">>
    end.

%% ---------------------------------------------------------------- listeners

%% TCP sockets that listen, and all UDP sockets, whose ports may be anybody's.
-spec ports() -> [listener()].
ports() ->
    [Found || P <- erlang:ports(), {name, Name} <- [erlang:port_info(P, name)],
              Protocol <- protocol(Name),
              Found <- safely(fun() -> listener(Protocol, P) end, [])].

-spec protocol(string()) -> [protocol()].
protocol("tcp_inet") -> [tcp];
protocol("udp_inet") -> [udp];
protocol("sctp_inet") -> [sctp];
protocol(_) -> [].

-spec listener(protocol(), port()) -> [listener() | binary()].
listener(Protocol, P) ->
    case Protocol =:= udp orelse lists:member(listen, maps:get(states, inet:info(P))) of
        true -> address(Protocol, inet:sockname(P), shared(Protocol, P));
        false -> []
    end.

%% Several sockets may have the address: SO_REUSEPORT, of level SOL_SOCKET, and for UDP
%% SO_REUSEADDR.
-spec shared(protocol(), port()) -> boolean().
shared(Protocol, P) ->
    is_set(P, 15) orelse Protocol =:= udp andalso is_set(P, 2).

-spec is_set(port(), Option :: non_neg_integer()) -> boolean().
is_set(P, Option) ->
    case inet:getopts(P, [{raw, 1, Option, 4}]) of
        {ok, [{raw, 1, Option, <<N:32/native>>}]} -> N =/= 0;
        _ -> false
    end.

%% Those of the module `socket`, which gen_tcp and gen_udp can be set to use.
-spec sockets() -> [listener() | binary()].
sockets() ->
    case erlang:function_exported(socket, which_sockets, 0) of
        true ->
            [Found || S <- socket:which_sockets(),
                      Found <- safely(fun() -> socket_listener(S) end, [])];
        false ->
            []
    end.

-spec socket_listener(socket:socket()) -> [listener() | binary()].
socket_listener(S) ->
    {ok, Type} = socket:getopt(S, {socket, type}),
    Listens = Type =/= stream orelse socket:getopt(S, {socket, acceptconn}) =:= {ok, true},
    Protocol = case Type of stream -> tcp; dgram -> udp; seqpacket -> sctp end,
    Shared = lists:any(fun(Option) -> socket:getopt(S, {socket, Option}) =:= {ok, true} end,
                       case Protocol of udp -> [reuseport, reuseaddr]; _ -> [reuseport] end),
    case Listens andalso socket:sockname(S) of
        {ok, #{family := local, path := Path}} -> address(Protocol, {ok, {local, Path}}, false);
        {ok, #{addr := Address, port := Port}} -> address(Protocol, {ok, {Address, Port}}, Shared);
        _ -> []
    end.

-spec address(protocol(), {ok, term()} | {error, term()}, Shared :: boolean()) ->
          [listener() | binary()].
address(_, _, true) -> [];
address(tcp, {ok, {local, Path}}, false) when Path =/= <<>>, Path =/= "" -> [path(Path)];
address(Protocol, {ok, {Address, Port}}, false) when is_integer(Port), Port > 0 ->
    [{Protocol, list_to_binary(inet:ntoa(Address)), Port}];
address(_, _, _) -> [].

%% ---------------------------------------------------------------- in a throw-away node

%% From now on nothing can be opened through these modules: a second node would damage what the
%% live one has open. A caller that tries gets an error that names the function.
-spec forbid() -> ok.
forbid() ->
    lists:foreach(fun forbid/1, ?OPENERS).

-spec forbid(module()) -> ok.
forbid(Module) ->
    %% dets and disk_log are the system's own, and this is a node to be thrown away
    _ = [code:unstick_dir(filename:dirname(Path)) || Path <- [code:which(Module)], is_list(Path)],
    L = erl_anno:new(1),
    {ok, Module, Binary} = compile:forms(
        [{attribute, L, module, Module},
         {attribute, L, export, [{'$handle_undefined_function', 2}]},
         {function, L, '$handle_undefined_function', 2,
          [{clause, L, [{var, L, 'F'}, {var, L, 'A'}], [],
            [{call, L, {remote, L, {atom, L, ?MODULE}, {atom, L, refuse}},
              [{atom, L, Module}, {var, L, 'F'}, {var, L, 'A'}]}]}]}], []),
    _ = code:purge(Module),
    {module, Module} = code:load_binary(Module, "gatling", Binary),
    ok.

-spec refuse(module(), atom(), [term()]) -> no_return().
refuse(Module, Function, Arguments) ->
    error({gatling_forbids, {Module, Function, length(Arguments)}}).
