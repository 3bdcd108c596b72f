%% EUnit tests of how the files of two releases are compared. Equal files are hard links of each
%% other, and only those that are not are named.
-module(files_tests).

-include_lib("eunit/include/eunit.hrl").

-define(ELF, <<16#7f, "ELF">>).

files_test_() ->
    {foreach, fun directory/0, fun file:del_dir_r/1,
     [fun(Top) -> {Name, fun() -> Test(Top) end} end || {Name, Test} <- tests()]}.

tests() ->
    [{"the same", fun the_same/1},
     {"changed", fun changed/1},
     {"come and gone", fun come_and_gone/1},
     {"native", fun native/1},
     {"manifest of a digest", fun manifest/1},
     {"behind links", fun behind_links/1},
     {"another version", fun another_version/1},
     {"overlays", fun overlays/1},
     {"resource files", fun resource_files/1},
     {"resource files that are the same", fun same_resource_files/1}].

the_same(Top) ->
    both(Top, "priv/deep/a", <<"1">>),
    %% another inode, the same content
    put_in(Top, old, "priv/b", <<"2">>),
    put_in(Top, new, "priv/b", <<"2">>),
    ?assertEqual([], compared(Top, ["priv/b"])).

changed(Top) ->
    both(Top, "priv/same", <<"1">>),
    put_in(Top, old, "priv/repo/migrations/1.exs", <<"1">>),
    put_in(Top, new, "priv/repo/migrations/1.exs", <<"2">>),
    put_in(Top, old, "priv/.rates", <<"1">>),
    put_in(Top, new, "priv/.rates", <<"22">>),
    Changes = compared(Top, ["priv/repo/migrations/1.exs", "priv/.rates", "ebin/shop.app"]),
    ?assertMatch([#{name := shop, files := [{".rates", changed},
                                            {"repo/migrations/1.exs", changed}]}], Changes),
    ?assertEqual([{shop, <<".rates">>}], gatling_files:data(Changes)),
    ?assertEqual([], gatling_files:native(Changes)),
    ?assertEqual([shop], gatling_files:assets(Changes)).

come_and_gone(Top) ->
    put_in(Top, old, "priv/gone/a", <<"1">>),
    put_in(Top, new, "priv/come", <<"1">>),
    ?assertMatch([#{files := [{"gone/a", removed}, {"come", added}]}],
                 compared(Top, ["priv/come"])).

native(Top) ->
    both(Top, "priv/same.so", ?ELF),
    put_in(Top, old, "priv/gone.so", ?ELF),
    put_in(Top, old, "priv/a.so", <<?ELF/binary, "1">>),
    put_in(Top, new, "priv/a.so", <<?ELF/binary, "2">>),
    put_in(Top, new, "priv/come.so", ?ELF),
    Changes = compared(Top, ["priv/a.so", "priv/come.so"]),
    ?assertEqual([{shop, <<"a.so">>}, {shop, <<"come.so">>}, {shop, <<"gone.so">>}],
                 gatling_files:native(Changes)).

manifest(Top) ->
    put_in(Top, old, "priv/static/cache_manifest.json", <<"1">>),
    put_in(Top, new, "priv/static/cache_manifest.json", <<"2">>),
    Changes = compared(Top, ["priv/static/cache_manifest.json"]),
    ?assertMatch([_], Changes),
    ?assertEqual([], gatling_files:assets(Changes)),
    ok = file:delete(path(Top, old, "priv/static/cache_manifest.json")),
    ?assertEqual([shop], gatling_files:assets(compared(Top, []))).

%% The link is the same inode, and leads to what is not.
behind_links(Top) ->
    [ok = filelib:ensure_dir(path(Top, Side, "priv/x")) || Side <- [old, new]],
    put_in(Top, old, "native/a.so", ?ELF),
    put_in(Top, new, "native/a.so", <<?ELF/binary, "2">>),
    [begin
         ok = file:make_symlink(To, path(Top, old, Link)),
         ok = file:make_link(path(Top, old, Link), path(Top, new, Link))
     end || {To, Link} <- [{"../native/a.so", "priv/a.so"}, {"../native", "priv/all"}]],
    ?assertEqual([{shop, <<"a.so">>}, {shop, <<"all/a.so">>}],
                 gatling_files:native(compared(Top, ["native/a.so"]))).

another_version(Top) ->
    put_in(Top, old, "priv/a", <<"1">>),
    put_in(Top, old, "priv/b", <<"1">>),
    Other = Top ++ "/new/lib/shop-0.2.0",
    [begin
         ok = filelib:ensure_dir(Other ++ "/priv/x"),
         ok = file:write_file(Other ++ "/priv/" ++ Name, Content)
     end || {Name, Content} <- [{"a", <<"1">>}, {"b", <<"2">>}]],
    Differing = maps:from_keys([Other ++ "/priv/a", Other ++ "/priv/b"], true),
    ?assertMatch([#{files := [{"b", changed}]}],
                 gatling_files:priv([{app(Top, old), (app(Top, new))#{directory := Other}}],
                                    Differing)).

overlays(Top) ->
    [begin
         ok = filelib:ensure_dir(Top ++ Side ++ "/extra/x"),
         ok = file:write_file(Top ++ Side ++ "/extra/same", <<"1">>),
         ok = file:write_file(Top ++ Side ++ "/extra/other", Side),
         ok = file:write_file(Top ++ Side ++ "/LICENSE", Side)
     end || Side <- ["/old", "/new"]],
    Differing = maps:from_keys([Top ++ "/new" ++ F
                                || F <- ["/extra/same", "/extra/other", "/LICENSE"]], true),
    ?assertEqual([<<"LICENSE">>, <<"extra/other">>],
                 gatling_files:overlays(#{root => Top ++ "/old"}, #{root => Top ++ "/new"},
                                        Differing)).

resource_files(Top) ->
    Spec = {application, shop, [{description, "Caf\x{e9}"}, {mod, {shop, []}}]},
    Plain = {application, shop, [{description, "Shop"}, {mod, {shop, []}}]},
    [begin
         put_in(Top, old, "ebin/shop.app", unicode:characters_to_binary(Text, unicode, In)),
         ?assertEqual(Wanted, gatling_application:spec(app(Top, old)))
     end || {Wanted, Text, In} <- [{Plain, io_lib:format("%% ~p~n~p.~n", [x, Plain]), utf8},
                                   {Spec, io_lib:format("~tp.~n", [Spec]), utf8},
                                   {Spec, io_lib:format("%% coding: latin-1~n~p.~n", [Spec]),
                                    latin1},
                                   {none, "{application, shop", utf8},
                                   {none, "", utf8}]],
    ?assertEqual(none, gatling_application:spec(app(Top, new))).

same_resource_files(Top) ->
    both(Top, "ebin/shop.app", <<"{application, shop, [{mod, {shop, []}}]}.">>),
    Pairs = [{app(Top, old), app(Top, new)}],
    Keys = [{mod, {shop, []}}],
    ?assertEqual([{shop, Keys, Keys}], gatling_application:pairs(Pairs, #{})),
    ok = file:delete(path(Top, new, "ebin/shop.app")),
    put_in(Top, new, "ebin/shop.app", <<"{application, shop, []}.">>),
    Differing = #{path(Top, new, "ebin/shop.app") => true},
    ?assertEqual([{shop, Keys, []}], gatling_application:pairs(Pairs, Differing)).

%% ---------------------------------------------------------------- two releases

directory() ->
    Name = "gatling-files-" ++ integer_to_list(erlang:unique_integer([positive])),
    Top = filename:join(["/tmp", Name ++ "-" ++ os:getpid()]),
    ok = filelib:ensure_dir(Top ++ "/x"),
    Top.

app(Top, Side) ->
    #{name => shop, version => "0.1.0", type => permanent,
      directory => filename:join([Top, Side, "lib/shop-0.1.0"])}.

path(Top, Side, File) ->
    #{directory := Directory} = app(Top, Side),
    filename:join(Directory, File).

put_in(Top, Side, File, Content) ->
    ok = filelib:ensure_dir(path(Top, Side, File)),
    ok = file:write_file(path(Top, Side, File), Content).

both(Top, File, Content) ->
    put_in(Top, old, File, Content),
    ok = filelib:ensure_dir(path(Top, new, File)),
    ok = file:make_link(path(Top, old, File), path(Top, new, File)).

compared(Top, Differing) ->
    gatling_files:priv([{app(Top, old), app(Top, new)}],
                       maps:from_keys([path(Top, new, F) || F <- Differing], true)).
