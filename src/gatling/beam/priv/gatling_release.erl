%% The content of a release tree, and how two of them differ.
%%
%% Reads files only: nothing of either release is loaded or run, so it can be asked in a node that
%% serves. Texts are binaries and modules atoms in what it returns; Python makes sentences of
%% them.
-module(gatling_release).

-export([read/1, consolidated/1, compare/3, md5/1, is_runtime/1, exports/1, literals/1,
         text/1]).
-export_type([comparison/0]).

-type apps() :: #{gatling_types:app_name() => gatling_types:app()}.

-type comparison() ::
        #{erts := {Old :: binary(), New :: binary()}}
      | #{erts := same,
          sources := {gatling_types:sources(), gatling_types:sources()},
          changed := [gatling_types:beam()],
          added := [gatling_types:beam()],
          removed := [#{module := module(), app := gatling_types:app_name() | undefined}],
          callers := [{module(), mfa()}],
          broken := [{module(), mfa()}],
          apps := [gatling_types:app()],
          apps_added := [gatling_types:app()],
          apps_removed := [gatling_types:app_name()],
          application_modules := [{gatling_types:app_name(), module()}],
          versions := [{gatling_types:app_name(), binary(), binary(), Runtime :: boolean()}],
          app_files := [gatling_types:app_name()],
          priv := [gatling_types:app_name()],
          atom() => term()}.

%% Applications of OTP and Elixir themselves: their code cannot change under a running node.
-define(RUNTIME, [asn1, common_test, compiler, crypto, debugger, dialyzer, diameter, edoc, eldap,
                  erl_interface, erts, et, eunit, ftp, inets, jinterface, kernel, megaco, mnesia,
                  observer, odbc, os_mon, parsetools, public_key, reltool, runtime_tools, sasl,
                  snmp, ssh, ssl, stdlib, syntax_tools, tftp, tools, wx, xmerl,
                  eex, elixir, ex_unit, iex, logger, mix]).

%% A release: `releases/start_erl.data` says which, the .rel file of which applications.
-spec read(gatling_types:path()) -> gatling_types:release().
read(Root) ->
    {ok, Data} = file:read_file(filename:join([Root, "releases", "start_erl.data"])),
    [Erts, Version] = string:lexemes(binary_to_list(Data), " \r\n"),
    Directory = filename:join([unicode:characters_to_list(Root), "releases", Version]),
    [File | _] = [F || F <- filelib:wildcard(filename:join(Directory, "*.rel")),
                       filename:basename(F) =/= "start.rel"],
    {ok, [{release, {Name, Version}, {erts, Erts}, Listed}]} = file:consult(File),
    Apps = [app(Root, App) || App <- Listed],
    #{root => unicode:characters_to_list(Root), name => Name, version => Version, erts => Erts,
      directory => Directory, apps => Apps}.

-spec app(gatling_types:path(), tuple()) -> gatling_types:app().
app(Root, App) ->
    Name = element(1, App),
    Version = element(2, App),
    Directory = filename:join([unicode:characters_to_list(Root), "lib",
                               atom_to_list(Name) ++ "-" ++ Version]),
    Type = case App of
               {_, _, T} when is_atom(T) -> T;
               {_, _, T, _} when is_atom(T) -> T;
               _ -> permanent
           end,
    #{name => Name, version => Version, directory => Directory, type => Type}.

%% The file of each module: #{Module => {App, File}}. The consolidated protocols precede
%% the applications' own in the code path of a release.
-spec modules(gatling_types:release()) -> gatling_types:sources().
modules(#{apps := Apps} = Release) ->
    Own = lists:foldl(
            fun(#{name := App, directory := D}, Found) ->
                    lists:foldl(fun({M, F}, Acc) -> Acc#{M => {App, F}} end, Found,
                                beams(filename:join(D, "ebin")))
            end, #{}, Apps),
    lists:foldl(
      fun({M, F}, Acc) ->
              App = case Acc of
                        #{M := {A, _}} -> A;
                        _ -> undefined
                    end,
              Acc#{M => {App, F}}
      end, Own, beams(consolidated(Release))).

%% The directory of consolidated protocols; Distillery has them in the application that is named
%% like the release.
-spec consolidated(gatling_types:release()) -> string().
consolidated(#{root := Root, name := Name, version := Version, directory := Directory}) ->
    Distillery = filename:join([Root, "lib", Name ++ "-" ++ Version, "consolidated"]),
    case filelib:is_dir(Distillery) of
        true -> Distillery;
        false -> filename:join(Directory, "consolidated")
    end.

-spec beams(string()) -> [{module(), string()}].
beams(Directory) ->
    case file:list_dir(Directory) of
        {ok, Files} ->
            [{list_to_atom(lists:reverse(Name)), Directory ++ "/" ++ F}
             || F <- Files, "maeb." ++ Name <- [lists:reverse(F)]];
        {error, _} ->
            []
    end.

%% How the release in NewRoot differs from the one in OldRoot. `Files` are the paths, relative to
%% NewRoot, of all files that are not the same inode in both: releases share what is equal as hard
%% links, so only these need to be read. `changed` and its like hold modules whose code differs,
%% whatever else differs in their files (debug information, paths).
-spec compare(gatling_types:path(), gatling_types:path(), [gatling_types:path()]) -> comparison().
compare(OldRoot, NewRoot, Files) ->
    Old = read(OldRoot),
    New = read(NewRoot),
    case maps:get(erts, Old) =:= maps:get(erts, New) of
        true ->
            Differing = maps:from_keys([filename:join(maps:get(root, New),
                                                      unicode:characters_to_list(F)) || F <- Files],
                                       true),
            compare_code(Old, New, Differing);
        false ->
            %% beams of another OTP may not even be readable here
            #{erts => {text(maps:get(erts, Old)), text(maps:get(erts, New))}}
    end.

-spec compare_code(gatling_types:release(), gatling_types:release(), gatling_types:files()) ->
          comparison().
compare_code(Old, New, Differing) ->
    OldModules = modules(Old),
    NewModules = modules(New),
    Changed = lists:sort(
                [{M, A, FO, FN} || {M, {A, FN}} <- maps:to_list(NewModules),
                                   {_, FO} <- [maps:get(M, OldModules, none)],
                                   is_map_key(FN, Differing)
                                       orelse not corresponds(FO, FN, Old, New),
                                   md5(FO) =/= md5(FN)]),
    Added = lists:sort([{M, A, F} || {M, {A, F}} <- maps:to_list(NewModules),
                                     not is_map_key(M, OldModules)]),
    Removed = lists:sort([{M, A} || {M, {A, _}} <- maps:to_list(OldModules),
                                    not is_map_key(M, NewModules)]),
    OldApps = by_name(Old),
    NewApps = by_name(New),
    Names = [maps:get(name, A) || A <- maps:get(apps, New)],
    Common = [A || A <- Names, is_map_key(A, OldApps)],
    Specs = gatling_application:pairs([{maps:get(A, OldApps), maps:get(A, NewApps)} || A <- Common],
                                      Differing),
    Pairs = [{M, A, FN, pair(FO, FN)} || {M, A, FO, FN} <- Changed],
    Gone = gone(Pairs, Removed, OldModules),
    Calling = [{M, F} || {M, _, _, F} <- Changed]
        ++ [{M, F} || {M, A, F} <- Added, is_map_key(A, OldApps)],
    Callable = [{M, FO} || {M, _, FO, _} <- Changed]
        ++ [{M, F} || {M, _} <- Removed, #{M := {_, F}} <- [OldModules]],
    Priv = gatling_files:priv([{maps:get(A, OldApps), maps:get(A, NewApps)} || A <- Common],
                              Differing),
    OwnPriv = [Change || #{name := A} = Change <- Priv, not is_runtime(A)],
    NewOnes = [App || #{name := A} = App <- maps:get(apps, New), not is_map_key(A, OldApps)],
    #{erts => same,
      sources => {OldModules, NewModules},
      changed => [(without_exports(Pair))#{app => A, runtime => own_of_runtime(A, FN, NewApps)}
                  || {_, A, FN, Pair} <- Pairs],
      callers => gatling_calls:of_gone(Gone, Callable),
      broken => gatling_calls:broken(Gone, Calling, OldModules, NewModules),
      added => [(without_exports(beam(F)))#{app => A} || {_, A, F} <- Added],
      removed => [#{module => M, app => A} || {M, A} <- Removed],
      apps => [maps:get(A, NewApps) || A <- Common],
      apps_added => [(maps:get(A, NewApps))#{runtime => is_runtime(A)}
                     || #{name := A} <- gatling_application:ordered(NewOnes)],
      apps_removed => [A || #{name := A} <- maps:get(apps, Old), not is_map_key(A, NewApps)],
      versions => [{A, text(VO), text(VN), is_runtime(A)}
                   || A <- Common, VO <- [version(A, OldApps)], VN <- [version(A, NewApps)],
                      VO =/= VN],
      callbacks => gatling_application:callbacks(Specs),
      application_modules => [{A, M}
                              || {A, _, {mod, {M, _}}} <- gatling_application:key(mod, Specs),
                                 not is_runtime(A)],
      boot_keys => gatling_application:boot_keys(Specs)
          ++ gatling_application:types(OldApps, NewApps),
      app_env => gatling_application:differing(env, Specs),
      app_files => [A || {A, Before, After} <- Specs, Before =/= After],
      boot_files => [text(F) || F <- ["vm.args", "env.sh" | lists:usort(hooks(Old) ++ hooks(New))],
                                content(Old, F) =/= content(New, F)],
      config_files => [text(F) || {F, Read} <- [{"sys.config", fun configured/2},
                                                {"runtime.exs", fun content/2}],
                                  content(Old, F) =/= content(New, F),
                                  Read(Old, F) =/= Read(New, F)],
      config_modules => case Changed ++ Added ++ Removed of
                            [] -> [];
                            _ -> gatling_script:called(content(New, "runtime.exs"), NewModules)
                        end,
      providers => providers(New),
      native => gatling_files:native(Priv),
      overlays => gatling_files:overlays(Old, New, Differing),
      data => gatling_files:data(OwnPriv),
      priv => [A || #{name := A} <- OwnPriv],
      assets => gatling_files:assets(OwnPriv)}.

%% Whether two files have the same place in their releases, and so are covered by `Differing`.
-spec corresponds(string(), string(), gatling_types:release(), gatling_types:release()) ->
          boolean().
corresponds(FO, FN, #{root := RO}, #{root := RN}) ->
    within(RO, FO) =:= within(RN, FN).

-spec within(Root :: string(), File :: string()) -> string().
within([C | Root], [C | File]) -> within(Root, File);
within([], File) -> File.

%% A consolidated protocol of Elixir's is the project's to change, the module itself is not.
-spec own_of_runtime(gatling_types:app_name() | undefined, string(), apps()) -> boolean().
own_of_runtime(App, File, Apps) ->
    is_runtime(App) andalso lists:prefix(dir(App, Apps), File).

-spec is_runtime(gatling_types:app_name() | undefined) -> boolean().
is_runtime(App) -> lists:member(App, ?RUNTIME).

-spec by_name(gatling_types:release()) -> apps().
by_name(#{apps := Apps}) -> maps:from_list([{maps:get(name, A), A} || A <- Apps]).

-spec version(gatling_types:app_name(), apps()) -> string().
version(App, Apps) -> maps:get(version, maps:get(App, Apps)).

-spec dir(gatling_types:app_name() | undefined, apps()) -> string().
dir(App, Apps) ->
    case Apps of
        #{App := #{directory := D}} -> D;
        _ -> "/nowhere"
    end.

-spec content(gatling_types:release(), string()) -> binary().
content(#{directory := D}, File) ->
    case file:read_file(filename:join(D, File)) of
        {ok, Content} -> Content;
        {error, _} -> <<>>
    end.

%% The content of sys.config, whatever its order: the keys of a map have another one with each node
%% that wrote them, and `mix release` lists the values to compare with the time of compilation by
%% applications as it happened to meet them.
-spec configured(gatling_types:release(), string()) -> {ok, [term()]} | binary().
configured(#{directory := D} = Release, File) ->
    case file:consult(filename:join(D, File)) of
        {ok, [Config]} when is_list(Config) -> {ok, [sorted(App) || App <- Config]};
        {ok, _} = Terms -> Terms;
        {error, _} -> content(Release, File)
    end.

-spec sorted(term()) -> term().
sorted({elixir, Config}) when is_list(Config) -> {elixir, [sorted(Value) || Value <- Config]};
sorted({config_provider_init, #{validate_compile_env := Compiled} = Init}) when is_list(Compiled) ->
    {config_provider_init, Init#{validate_compile_env := lists:sort(Compiled)}};
sorted(Other) -> Other.

%% The hooks that Distillery's script runs before it starts the node, and that may set variables.
-spec hooks(gatling_types:release()) -> [string()].
hooks(#{directory := D}) ->
    filelib:wildcard("hooks/{pre_configure,post_configure,pre_start}.d/*", D).

%% The modules that resolve the configuration at boot, as `mix release` or Distillery wrote them
%% to sys.config.
-spec providers(gatling_types:release()) -> [term()].
providers(Release) ->
    case file:consult(filename:join(maps:get(directory, Release), "sys.config")) of
        {ok, [Config]} ->
            Distillery = proplists:get_value(config_providers,
                                             proplists:get_value(distillery, Config, []), []),
            Elixir = proplists:get_value(elixir, Config, []),
            case proplists:get_value(config_provider_init, Elixir) of
                #{providers := Providers} -> [element(1, P) || P <- Providers];
                _ -> [provider(P) || P <- Distillery]
            end;
        _ ->
            []
    end.

-spec provider(term()) -> term().
provider({Module, _}) -> Module;
provider(Module) -> Module.

-spec pair(string(), string()) -> gatling_types:beam().
pair(OldFile, NewFile) ->
    (beam(NewFile))#{old => beam(OldFile)}.

%% Functions that other modules can call, and that are not there any more.
-spec gone([{module(), term(), term(), gatling_types:beam()}], [{module(), term()}],
           gatling_types:sources()) ->
          [mfa()].
gone(Pairs, Removed, OldModules) ->
    [{M, F, A} || {M, _, _, #{exports := After, old := #{exports := Before}}} <- Pairs,
                  {F, A} <- Before -- After]
        ++ [{M, F, A} || {M, _} <- Removed, #{M := {_, File}} <- [OldModules],
                         #{exports := Exports} <- [beam(File)],
                         {F, A} <- Exports, F =/= module_info].

-spec without_exports(gatling_types:beam()) -> gatling_types:beam().
without_exports(#{old := Old} = Beam) ->
    maps:remove(exports, Beam#{old := maps:remove(exports, Old)});
without_exports(Beam) ->
    maps:remove(exports, Beam).

%% The properties of a compiled module that are visible from outside.
-spec beam(string()) -> gatling_types:beam().
beam(File) ->
    {ok, Binary} = file:read_file(File),
    {ok, {Module, [{exports, Exports}, {attributes, Attributes}]}} =
        beam_lib:chunks(Binary, [exports, attributes]),
    Has = fun(Function, Arity) -> lists:member({Function, Arity}, Exports) end,
    #{module => Module,
      file => text(File),
      exports => Exports,
      behaviours => lists:append([V || {K, V} <- Attributes,
                                       K =:= behaviour orelse K =:= behavior]),
      version => case lists:keyfind(vsn, 1, Attributes) of
                     {vsn, [V]} -> V;
                     {vsn, V} -> V;
                     false -> undefined
                 end,
      on_load => on_load(Module, Binary),
      code_change => Has(code_change, 3) orelse Has(code_change, 4),
      child_spec => Has(child_spec, 1),
      schema => Has('__schema__', 1) andalso Has('__schema__', 2),
      struct => case Has('__struct__', 0) of
                    true -> struct_keys(Module, Binary);
                    false -> none
                end}.

-spec on_load(module(), binary()) -> boolean().
on_load(Module, Binary) ->
    case erlang:prepare_loading(Module, Binary) of
        {error, _} -> true;
        Prepared -> erlang:has_prepared_code_on_load(Prepared)
    end.

%% A module that defines a struct has it among its literals, with all its keys. If the struct is
%% computed (a default that is no literal), the answer is `unknown`.
-spec struct_keys(module(), binary()) -> [atom()] | unknown.
struct_keys(Module, Binary) ->
    case beam_lib:chunks(Binary, ["LitT"], [allow_missing_chunks]) of
        {ok, {_, [{"LitT", Chunk}]}} when is_binary(Chunk) ->
            case [lists:sort(maps:keys(L)) || #{'__struct__' := S} = L <- literals(Chunk),
                                              S =:= Module] of
                [Keys | _] -> Keys -- ['__struct__'];
                [] -> unknown
            end;
        _ ->
            unknown
    end.

-spec exports(gatling_types:path()) -> [{atom(), arity()}].
exports(File) ->
    {ok, {_, [{exports, Exports}]}} = beam_lib:chunks(File, [exports]),
    Exports.

%% The literal table; not compressed when its size is given as 0 (OTP 28 and later).
-spec literals(binary()) -> [term()].
literals(<<0:32, Table/binary>>) -> literal_table(Table);
literals(<<_Size:32, Compressed/binary>>) -> literal_table(zlib:uncompress(Compressed)).

-spec literal_table(binary()) -> [term()].
literal_table(<<_Count:32, Items/binary>>) ->
    [binary_to_term(Term) || <<Size:32, Term:Size/binary>> <= Items].

-spec md5(gatling_types:path()) -> binary().
md5(File) ->
    {ok, {_, Md5}} = beam_lib:md5(File),
    Md5.

-spec text(unicode:chardata()) -> binary().
text(Text) -> unicode:characters_to_binary(Text).
