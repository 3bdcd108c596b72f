%% Why something failed, in words.
-module(gatling_why).

-export([why/1, why_not_started/1, error_name/1, at/2]).

-type frame() :: {module(), atom(), arity() | [term()], Location :: [{atom(), term()}]}.

-define(is_undefined(Error), (map_get('__struct__', Error) =:= 'Elixir.UndefinedFunctionError')).

%% Why a process ended or could not be converted, and where. Without the terms that came to no
%% match, or arguments: they may be anybody's secrets.
-spec why(term()) -> binary().
why({'EXIT', Reason}) ->
    why(Reason);
why({error, Reason}) ->
    gatling_text:term(Reason); % what code_change/3 says itself
why({Undefined, [{M, F, A, _} | Callers]}) when Undefined =:= undef; ?is_undefined(Undefined) ->
    Function = gatling_text:function({M, F, arity(A)}),
    case Callers of
        [{_, _, _, _} | _] -> at(<<Function/binary, " is undefined">>, Callers);
        [] -> <<Function/binary, " is undefined">>
    end;
why({_, [{_, _, _, _} | _] = Stack} = Reason) ->
    at(error_name(Reason), Stack);
why(Reason) when is_atom(Reason) ->
    gatling_text:term(Reason);
why(Reason) when is_tuple(Reason), is_atom(element(1, Reason)) ->
    gatling_text:term(element(1, Reason));
why(_) ->
    <<"an error">>.

%% Why a supervisor could not start a child.
-spec why_not_started(term()) -> binary().
why_not_started({Reason, Child}) when element(1, Child) =:= child -> why_not_started(Reason);
why_not_started({shutdown, {failed_to_start_child, Id, Reason}}) ->
    <<"its child ", (gatling_text:term(Id))/binary, ": ", (why_not_started(Reason))/binary>>;
why_not_started({already_started, P}) -> <<"its name is taken by ", (gatling_text:term(P))/binary>>;
why_not_started(Reason) -> why(Reason).

-spec error_name({Error :: term(), Stack :: term()}) -> binary().
error_name({#{'__struct__' := 'Elixir.KeyError', key := Key}, _}) when is_atom(Key) ->
    key_error(Key);
error_name({#{'__struct__' := Name, message := Message}, _}) when is_binary(Message) ->
    <<(gatling_text:term(Name))/binary, " (", Message/binary, ")">>;
error_name({#{'__struct__' := Name}, _}) ->
    gatling_text:term(Name);
error_name({{badkey, Key, _}, Stack}) ->
    error_name({{badkey, Key}, Stack});
error_name({{badkey, Key}, _}) when is_atom(Key) ->
    key_error(Key);
error_name({Error, _}) when is_tuple(Error), is_atom(element(1, Error)) ->
    gatling_text:term(element(1, Error));
error_name({Error, _}) when is_atom(Error) ->
    gatling_text:term(Error);
error_name(_) ->
    <<"an error">>.

-spec key_error(atom()) -> binary().
key_error(Key) -> <<"KeyError (key ", (gatling_text:term(Key))/binary, " not found)">>.

-spec at(binary(), [frame() | term(), ...]) -> binary().
at(Error, [{M, F, A, Location} | _]) ->
    Arity = integer_to_binary(arity(A)),
    Function = case atom_to_list(F) of
                   "-" ++ Inner -> hd(string:split(Inner, "-")); % a fun, -render/1-fun-0-
                   Name -> Name ++ "/" ++ binary_to_list(Arity)
               end,
    <<Error/binary, " in ", (gatling_text:term(M))/binary, ".",
      (unicode:characters_to_binary(Function))/binary, (place(Location))/binary>>.

-spec arity(arity() | [term()]) -> arity().
arity(Arguments) when is_list(Arguments) -> length(Arguments);
arity(Arity) -> Arity.

-spec place([{atom(), term()}]) -> binary().
place(Location) ->
    case {proplists:get_value(file, Location), proplists:get_value(line, Location)} of
        {File, Line} when File =/= undefined, is_integer(Line), Line > 0 ->
            unicode:characters_to_binary([" (", File, $:, integer_to_list(Line), ")"]);
        _ -> <<>>
    end.
