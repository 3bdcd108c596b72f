%% Supervision trees as releases would start them, and the differences between two.
-module(gatling_tree).

-export([diff/2]).
-export_type([path/0, flags/0, supervisor/0, tree/0, difference/0]).

%% The ids of the children on the way from the top.
-type path() :: [Id :: term()].
-type flags() :: #{strategy := atom(), _ => _}.
-type supervisor() :: #{flags := flags(), children := [gatling_types:child()]}.
-type tree() :: #{path() => supervisor()}.
-type difference() :: #{path := path(),
                        strategy := atom(),
                        flags := same | changed,
                        start := [gatling_types:child()],
                        stop := [Id :: term()],
                        changed := [{Id :: term(), [binary()]}],
                        reordered := boolean(),
                        opaque := [Id :: term()]}.

%% The supervisors of which something differs. A supervisor that only one of the releases has is
%% left out, since it is itself a child that comes or goes.
-spec diff(tree(), tree()) -> [difference()].
diff(Old, New) ->
    [D || {Path, NewNode} <- lists:sort(maps:to_list(New)),
          OldNode <- [maps:get(Path, Old, none)], OldNode =/= none,
          D <- [diff(Path, OldNode, NewNode)], is_change(D)].

-spec diff(path(), supervisor(), supervisor()) -> difference().
diff(Path, #{flags := FO, children := CO}, #{flags := FN, children := CN}) ->
    Ids = fun(Children) -> [Id || #{id := Id} <- Children] end,
    Start = [C || #{id := Id} = C <- CN, not lists:member(Id, Ids(CO))],
    #{path => Path,
      strategy => maps:get(strategy, FO),
      flags => case FO =:= FN of true -> same; false -> changed end,
      start => Start,
      stop => Ids(CO) -- Ids(CN),
      changed => [{Id, differences(C2, C)} || #{id := Id} = C <- CN, #{id := Id2} = C2 <- CO,
                      Id =:= Id2, maps:remove(modules, C) =/= maps:remove(modules, C2)],
      reordered => [I || I <- Ids(CO), lists:member(I, Ids(CN))]
          =/= [I || I <- Ids(CN), lists:member(I, Ids(CO))],
      opaque => [Id || #{id := Id} = C <- Start, gatling_pack:opaque(C)]}.

-spec is_change(difference()) -> boolean().
is_change(#{flags := same, start := [], stop := [], changed := [], reordered := false}) -> false;
is_change(_) -> true.

%% The differences of a child's specification, in words, without the values: those may be secret.
-spec differences(gatling_types:child(), gatling_types:child()) -> [binary()].
differences(CO, CN) ->
    Other = [atom_to_binary(K) || K <- lists:usort(maps:keys(CO) ++ maps:keys(CN)),
             K =/= modules, K =/= start, maps:find(K, CO) =/= maps:find(K, CN)],
    case Other ++ started(maps:get(start, CO), maps:get(start, CN)) of
        [] -> [<<"the order of its arguments">>];
        Words -> lists:sublist(Words, 5)
    end.

-spec started(Old :: term(), New :: term()) -> [binary()].
started({M, F, Old}, {M, F, New}) -> lists:usort(where(Old, New, []));
started(_, _) -> [<<"the function that starts it">>].

-spec where(Old :: term(), New :: term(), Keys :: [term()]) -> [binary()].
where(Same, Same, _) -> [];
where({'$gatling_opaque', _, _, _, _}, {'$gatling_opaque', _, _, _, _}, Keys) ->
    [place(<<"a function in ">>, Keys)];
where(Old, New, Keys) when is_map(Old), is_map(New) -> each(Old, New, Keys);
where(Old, New, Keys) when is_tuple(Old), tuple_size(Old) =:= tuple_size(New) ->
    where(tuple_to_list(Old), tuple_to_list(New), Keys);
where(Old, New, Keys) when length(Old) >= 0, length(New) >= 0 ->
    case {lists:all(fun is_option/1, Old ++ New), length(Old) =:= length(New)} of
        {true, _} -> each(maps:from_list(Old), maps:from_list(New), Keys);
        {false, true} -> [P || {O, N} <- lists:zip(Old, New), P <- where(O, N, Keys)];
        {false, false} -> [place(<<>>, Keys)]
    end;
where(_, _, Keys) -> [place(<<>>, Keys)].

-spec is_option(term()) -> boolean().
is_option({Key, _}) -> is_atom(Key);
is_option(_) -> false.

-spec each(map(), map(), Keys :: [term()]) -> [binary()].
each(Old, New, Keys) ->
    lists:append([case {Old, New} of
                      {#{K := O}, #{K := N}} -> where(O, N, [K | Keys]);
                      _ -> [place(<<>>, [K | Keys])]
                  end
                  || K <- maps:keys(maps:merge(Old, New)),
                     maps:find(K, Old) =/= maps:find(K, New)]).

%% Keys that are not atoms are values, as it were.
-spec place(binary(), Keys :: [term()]) -> binary().
place(What, Keys) ->
    case lists:takewhile(fun is_atom/1, lists:reverse(Keys)) of
        [] -> <<What/binary, "its arguments">>;
        Named -> unicode:characters_to_binary(
                   [What, "its argument ", lists:join($., [key(K) || K <- Named])])
    end.

-spec key(atom()) -> unicode:chardata().
key(Key) ->
    case atom_to_list(Key) of
        "Elixir." ++ Module -> Module;
        _ -> io_lib:format("~0tp", [Key])
    end.
