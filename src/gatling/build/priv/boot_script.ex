# Keeps the boot scripts of a release from one build to the next. systools looks at the file of each
# module, and mix writes and parses the script as text: for an app of Phoenix that is a third of the time
# in which the release is assembled, while a change of code leaves the scripts as they are.

defmodule Gatling.BootScript do
  @moduledoc false

  alias Gatling.Ebin

  @kept "_build/gatling/boot"
  @endings ~w(.rel .script .boot)

  # As `Mix.Release.make_boot_script/4`, which is `mix`. The files are written again as they were, if all
  # that they are made from is as it was: the release as mix knows it, the code path, and in each
  # directory of an application its .app file and the names of its modules.
  def make(release, path, modes, prepended, mix) do
    kept = Path.join(@kept, Path.basename(path))
    key = Ebin.places() && key(release, {modes, prepended})

    case key && read(kept, key) do
      [_ | _] = files ->
        for {ending, binary} <- files, do: File.write!(path <> ending, binary)
        :ok

      _ ->
        result = mix.(release, path, modes, prepended)
        if key && result == :ok, do: keep(kept, key, path)
        result
    end
  end

  # The place of the release does not matter, nor do its steps. (crypto may not be on the code path of
  # the project.)
  defp key(release, others) do
    paths = :code.get_path()
    directories = for {_, properties} <- release.applications, do: ebin(properties)
    options = Keyword.drop(release.options, [:path])
    same = %{Map.drop(release, [:path, :version_path, :steps]) | options: options}

    with found when is_list(found) <- all(Enum.uniq(directories ++ paths), &listed/1) do
      versions = {System.version(), :erlang.system_info(:otp_release)}
      :erlang.md5(:erlang.term_to_binary({same, others, paths, found, versions}))
    end
  end

  defp ebin(properties),
    do: properties |> Keyword.fetch!(:path) |> Path.join("ebin") |> to_charlist()

  # Its files of applications with their contents, and the names of the others.
  defp listed(directory) do
    case :file.list_dir(directory) do
      {:ok, names} ->
        names = Enum.sort(names)
        apps = Enum.filter(names, &(:filename.extension(&1) == ~c".app"))

        with texts when is_list(texts) <- all(apps, &read_app(directory, &1)),
             do: {directory, names, texts}

      # a code path may have directories that are not there
      {:error, :enoent} ->
        {directory, nil}

      _ ->
        nil
    end
  end

  defp read_app(directory, name) do
    with {:ok, text} <- :file.read_file(:filename.join(directory, name)), do: text
  end

  # The results of all, or nil if one of them is none.
  defp all(list, fun) do
    results = Enum.map(list, fun)
    if Enum.any?(results, &(is_nil(&1) or match?({:error, _}, &1))), do: nil, else: results
  end

  defp read(kept, key) do
    with {:ok, binary} <- File.read(kept),
         {^key, files} <- :erlang.binary_to_term(binary) do
      files
    else
      _ -> nil
    end
  rescue
    # not a term: the disk was full, or the machine went down
    ArgumentError -> nil
  end

  defp keep(kept, key, path) do
    files =
      for ending <- @endings, {:ok, binary} <- [File.read(path <> ending)], do: {ending, binary}

    making = "#{kept}.#{System.pid()}"

    with true <- length(files) == length(@endings),
         :ok <- File.mkdir_p(@kept),
         :ok <- File.write(making, :erlang.term_to_binary({key, files})) do
      File.rename(making, kept)
    end
  end
end
