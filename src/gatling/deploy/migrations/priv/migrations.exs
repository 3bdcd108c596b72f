# Checks migrations for changes that running code may not work with. They are parsed and
# never run: evaluated by a release (`bin/NAME eval`), in a VM that is thrown away.
#
# GATLING_MIGRATIONS has a marker, and the files in the order in which they are run, each in base 64.
# Findings are printed after the marker: file, line, kind, table, column, new name.

defmodule Gatling.Migrations do
  @moduledoc false

  @max_bytes 131_072
  @max_words 32_000_000
  @max_milliseconds 2_000
  @max_found 100
  @harmless "index|constraint|not\\s+null|default|trigger|policy|expression|identity|primary|foreign"
  def main([marker | files]) do
    {_, found} =
      for {file, number} <- Enum.with_index(files), reduce: {MapSet.new(), []} do
        {created, found} ->
          {created, own} = look(Base.decode64!(file), created)
          {created, Enum.map(own, &[number | &1]) ++ found}
      end

    for words <- found |> Enum.reverse() |> Enum.take(@max_found) do
      IO.puts(Enum.join([marker | Enum.map(words, &word/1)], " "))
    end
  end

  # In a process of its own, with an end to its time and memory: what a parser needs for a hostile
  # file can grow with the square of its size.
  defp look(file, created) do
    {pid, monitor} =
      spawn_monitor(fn ->
        Process.flag(:max_heap_size, %{size: @max_words, kill: true, error_logger: false})
        exit({:shutdown, {:found, parsed(file, created)}})
      end)

    receive do
      {:DOWN, ^monitor, _, _, {:shutdown, {:found, found}}} -> found
      {:DOWN, ^monitor, _, _, _} -> unread(created)
    after
      @max_milliseconds ->
        Process.exit(pid, :kill)
        unread(created)
    end
  end

  defp parsed(file, created) do
    with {:ok, %{type: :regular, size: size}} when size <= @max_bytes <- File.stat(file),
         {:ok, text} <- File.read(file),
         {:ok, tree} <- Code.string_to_quoted(text, static_atoms_encoder: &encode/2) do
      walk(tree, nil, {created, []})
    else
      _ -> unread(created)
    end
  rescue
    # the parser knows no trees without atoms
    _ -> unread(created)
  end

  defp unread(created), do: {created, [[1, "unread", "", "", ""]]}

  # A file must not make atoms, of which a VM has a limited number. All that are looked for exist.
  defp encode(text, _) do
    {:ok, String.to_existing_atom(text)}
  rescue
    ArgumentError -> {:ok, text}
  end

  defp walk({:|>, _, [left, {name, meta, rest}]}, table, all) when is_list(rest),
    do: walk({name, meta, [left | rest]}, table, all)

  # the way back is not gone
  defp walk({:def, _, [{:down, _, _} | _]}, _, all), do: all
  defp walk({kind, _, [_ | body]}, _, all) when kind in [:def, :defp], do: walk(body, nil, all)

  defp walk({:create, _, [{:table, _, [name | _]} | _]}, _, {created, found}),
    do: {MapSet.put(created, text(name)), found}

  defp walk({:create_if_not_exists, _, [{:table, _, _} | _]}, _, all), do: all

  defp walk({create, meta, [{index, _, [name | rest]} | _]}, _, all)
       when create in [:create, :create_if_not_exists] and index in [:index, :unique_index] do
    if option(rest, :concurrently) == {:ok, true}, do: all, else: add(all, meta, "index", name)
  end

  defp walk({drop, meta, [{:table, _, [name | _]} | _]}, _, all)
       when drop in [:drop, :drop_if_exists],
       do: add(all, meta, "drop", name)

  defp walk({:rename, meta, [{:table, _, [name | _]} | rest]}, _, all) do
    case {rest, option(rest, :to)} do
      {[_], {:ok, {:table, _, [new | _]}}} -> add(all, meta, "rename_table", name, "", new)
      {[column, _], {:ok, new}} -> add(all, meta, "rename_column", name, column, new)
      _ -> all
    end
  end

  defp walk({:alter, _, [{:table, _, [name | _]} | body]}, _, all), do: walk(body, {name}, all)

  defp walk({remove, meta, [column | _]}, table, all)
       when remove in [:remove, :remove_if_exists],
       do: add(all, meta, "remove", table, column)

  defp walk({:modify, meta, [column, _ | rest]}, table, all) do
    if option(rest, :null) == {:ok, false},
      do: add(all, meta, "not_null", table, column),
      else: all
  end

  defp walk({kind, meta, [column, _ | rest]}, {_} = table, all)
       when kind in [:add, :add_if_not_exists] do
    without_default = option(rest, :default) in [:error, {:ok, nil}]

    if option(rest, :null) == {:ok, false} and without_default,
      do: add(all, meta, "add_not_null", table, column),
      else: all
  end

  # in Ecto these are not null by default
  defp walk({:timestamps, meta, rest}, {_} = table, all) do
    rest = if is_list(rest), do: rest, else: []

    if option(rest, :null) == {:ok, true} or option(rest, :default) != :error,
      do: all,
      else: add(all, meta, "add_not_null", table, "inserted_at")
  end

  defp walk({:execute, meta, [there | _back]}, _, all), do: sql(there, meta, all)

  defp walk({{:., _, [_, query]}, meta, words}, _, all) when query in [:query, :query!],
    do: sql(words, meta, all)

  defp walk({head, _, below}, table, all), do: walk(below, table, walk(head, table, all))
  defp walk({left, right}, table, all), do: walk(right, table, walk(left, table, all))
  defp walk([first | rest], table, all), do: walk(rest, table, walk(first, table, all))
  defp walk(_, _, all), do: all

  defp sql(tree, meta, all) do
    said = tree |> texts([]) |> Enum.reverse() |> Enum.join(" ")

    for {word, pattern} <- words(), said =~ pattern, reduce: all do
      all -> add(all, meta, "sql", word)
    end
  end

  # no attribute: since OTP 28 a compiled pattern cannot be part of one
  defp words do
    [
      {"DROP", ~r/\bdrop\s+(?!(#{@harmless})\b)/i},
      {"RENAME", ~r/\brename\s+(?!(constraint|index)\b)/i},
      {"SET NOT NULL", ~r/\bset\s+not\s+null\b/i}
    ]
  end

  defp texts(tree, found) when is_binary(tree), do: [tree | found]
  defp texts([first | rest], found), do: texts(rest, texts(first, found))
  defp texts(tree, found) when is_tuple(tree), do: texts(Tuple.to_list(tree), found)
  defp texts(_, found), do: found

  # Of a table that these migrations have made themselves no running code knows.
  defp add({created, found}, meta, kind, table, column \\ "", new \\ "") do
    name = text(table)

    if MapSet.member?(created, name),
      do: {created, found},
      else: {created, [[meta[:line] || 1, kind, name, text(column), text(new)] | found]}
  end

  defp option(rest, key) do
    case List.last(rest) do
      options when is_list(options) ->
        Enum.find_value(options, :error, fn
          {^key, value} -> {:ok, value}
          _ -> nil
        end)

      _ ->
        :error
    end
  end

  defp text({table}), do: text(table)
  defp text(nil), do: ""
  defp text(name) when is_atom(name) or is_binary(name), do: String.slice(to_string(name), 0, 64)
  defp text({:@, _, [{name, _, _}]}), do: "@" <> text(name)
  defp text(_), do: "…"

  defp word(number) when is_integer(number), do: number
  defp word(text), do: "=" <> Base.encode64(text)
end

System.fetch_env!("GATLING_MIGRATIONS") |> String.split(" ") |> Gatling.Migrations.main()
