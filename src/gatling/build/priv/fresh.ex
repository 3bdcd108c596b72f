# Makes an incremental build come to what a build from a fresh checkout would: decides when the
# project must be compiled from scratch, and records what the next build has to know for that.

defmodule Gatling.Fresh do
  @moduledoc false

  @notes "_build/gatling"
  @variables Path.join(@notes, "variables")
  @compiled Path.join(@notes, "compiled")
  @force Path.join(@notes, "force")

  @sources "**/*.{ex,exs,erl,hrl,eex,heex,leex,xrl,yrl}"

  # Set by Gatling for the commit that is built; other values each time.
  @commit ~w(GATLING_COMMIT SOURCE_VERSION)

  # Why everything of the project must be compiled again; nil when mix may decide.
  def stale do
    if File.exists?(@force) do
      "files that an earlier build has generated were removed"
    else
      case read() do
        # the first build
        nil -> nil
        before -> stale(before, directories())
      end
    end
  end

  defp stale(before, directories) do
    now = digests(before.salt)
    changed = for name <- names(before.values, now), before.values[name] != now[name], do: name

    if changed != [] do
      texts = for file <- files(directories), {:ok, text} <- [File.read(file)], do: {file, text}

      case for {file, text} <- texts, name <- changed, mentions?(text, name), do: {name, file} do
        [{name, file} | _] -> "#{name} has changed, which #{file} may read while it is compiled"
        [] -> if changed -- @commit != [], do: by_computed_name(texts)
      end
    end
  end

  defp by_computed_name(texts) do
    case Enum.find(texts, fn {_, text} -> reads_computed_names?(text) end) do
      nil -> nil
      {file, _} -> "config has changed, which #{file} may read while it is compiled"
    end
  end

  defp names(before, now), do: Enum.uniq(Map.keys(before) ++ Map.keys(now))

  defp mentions?(text, name), do: :binary.match(text, name) != :nomatch

  # The environment, read as a whole or by a name that the source does not spell out.
  @reads ~r/(System\.(get_env|fetch_env!?)|os[.:]getenv|os[.:]env)\b\s*(\(\s*\)|\(?\s*[^"'(\s])/
  defp reads_computed_names?(text), do: Regex.match?(@reads, text)

  # The project's compiled files. runtime.exs is evaluated at boot, and mix.exs and the rest of
  # config/ with each build, where mix itself compares the values that are compiled in.
  defp files(directories) do
    for directory <- directories,
        below <- ~w(lib src web c_src native),
        file <- Path.wildcard(Path.join([directory, below, @sources])),
        do: file
  end

  defp directories, do: ["." | Map.values(Mix.Project.apps_paths() || %{})]

  # Dependencies that may read a changed variable while they are compiled.
  def stale_dependencies do
    case read() do
      nil ->
        []

      before ->
        now = digests(before.salt)
        changed = for n <- names(before.values, now), before.values[n] != now[n], do: n
        if changed -- @commit == [], do: [], else: mentioning(changed -- @commit)
    end
  end

  defp mentioning(names) do
    for {app, path} <- Mix.Project.deps_paths(),
        # a path dependency or an app of the umbrella is compiled with the project
        String.starts_with?(Path.expand(path), Path.expand(Mix.Project.deps_path()) <> "/"),
        Enum.any?(files([path]), &mentions_any?(&1, names)),
        do: to_string(app)
  end

  defp mentions_any?(file, names) do
    with {:ok, text} <- File.read(file),
         do: Enum.any?(names, &mentions?(text, &1)),
         else: (_ -> false)
  end

  # To be called when everything has been compiled; `others` are the files that are neither
  # tracked by git nor below _build or deps, before and after it.
  def compiled(before, later) do
    known = list()
    # a file that a callback had written before is none of the compilation's
    earlier = before -- known
    generated = later -- earlier
    File.mkdir_p!(@notes)
    File.write!(@compiled, Enum.map(generated, &[&1, 0]))
    salt = :rand.bytes(16)
    File.write!(@variables, :erlang.term_to_binary(%{salt: salt, values: digests(salt)}))
    File.chmod!(@variables, 0o600)
    File.rm(@force)
  end

  # Files of the work tree that git does not track.
  def others(git_directory) do
    work_tree = Path.join(Path.dirname(git_directory), "source")
    below = Path.relative_to(File.cwd!(), Path.expand(work_tree))
    below = if below == File.cwd!() or below == ".", do: "", else: "/" <> below
    kept = Enum.uniq(["/deps", "/_build", below <> "/deps", below <> "/_build", "node_modules"])

    {text, 0} =
      System.cmd(
        "git",
        ["--git-dir=#{git_directory}", "--work-tree=#{work_tree}", "-c", "core.bare=false"] ++
          ["ls-files", "--others", "-z"] ++ Enum.map(kept, &"--exclude=#{&1}"),
        cd: work_tree
      )

    String.split(text, <<0>>, trim: true)
  end

  defp list do
    case File.read(@compiled) do
      {:ok, text} -> String.split(text, <<0>>, trim: true)
      {:error, _} -> []
    end
  end

  defp read do
    with {:ok, binary} <- File.read(@variables),
         %{salt: _, values: %{}} = found <- :erlang.binary_to_term(binary, [:safe]) do
      found
    else
      _ -> nil
    end
  end

  # Digests of the app's config and the commit: enough to see that a value has changed. (crypto may
  # not be on the code path of the project.)
  defp digests(salt) do
    names = String.split(System.get_env("GATLING_CONFIG", "")) ++ @commit

    for name <- names, value = System.get_env(name), into: %{} do
      {name, :erlang.md5([salt, value])}
    end
  end
end
