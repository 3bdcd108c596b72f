# The makers of releases before `mix release`: Distillery, and Exrm, which is no longer maintained.

defmodule Gatling.Distillery do
  @moduledoc false

  @config "rel/config.exs"
  # vm.args: the node's name is the same in either slot, and the cookie is the config's
  @gatlings ~w(-name -sname -setcookie)

  @doc "Why the project cannot be built, with the line to change; nil when it has no Exrm."
  def exrm do
    projects = [Mix.Project.config() | for({app, path} <- apps(), do: config(app, path))]

    if Enum.any?(projects, fn project -> List.keymember?(project[:deps] || [], :exrm, 0) end) do
      """
      #{place(:exrm)}
      Exrm does not run on Elixir #{System.version()}; Distillery has been its successor since 2016. \
      Delete that line: releases are a part of mix since Elixir 1.9. Or put {:distillery, "~> 2.1"} \
      in its place.
      """
    end
  end

  @doc """
  `{:ok, prefix}` of the names of Distillery's tasks, `{:refused, why}`, or nil: mix makes the release.

  A project that has both, `releases:` in mix.exs and #{@config}, has not moved to mix yet.
  """
  def found do
    with %{distillery: path} <- Mix.Project.deps_paths() do
      version = config(:distillery, path)[:version]

      case prefix(version, System.version()) do
        nil -> {:refused, too_old(version)}
        prefix -> if uses?(), do: {:ok, prefix}
      end
    else
      _ -> nil
    end
  end

  @doc "The prefix for a version of Distillery on one of Elixir; nil when they do not go together."
  def prefix(distillery, elixir) do
    cond do
      Version.match?(distillery, ">= 2.1.0-0") -> "distillery."
      Version.match?(elixir, "< 1.9.0-0") -> ""
      true -> nil
    end
  end

  @doc "A function that prepares the project for its first release; nil when that is done."
  def init(prefix) do
    unless File.regular?(@config) do
      fn -> Mix.Task.run(prefix <> "init", ["--no-doc"]) end
    end
  end

  @doc "Make the release, and move it to a directory."
  def release(prefix, name, path) do
    output = Path.join(Mix.Project.build_path(), "rel")
    # else what earlier ones have left there would be in it
    File.rm_rf!(output)
    names = if name == "", do: [], else: ["--name=" <> name]
    tell_of_what_is_not_used()
    find_everything()

    keeping_out_of_otp(fn ->
      Mix.Task.run(prefix <> "release", ["--env=prod", "--no-tar", "--quiet" | names])
    end)

    case Path.wildcard(Path.join(output, "*/releases/start_erl.data")) do
      [file] ->
        tree = file |> Path.dirname() |> Path.dirname()
        settle(tree)
        File.rename!(tree, path)

      _ ->
        Mix.raise("Distillery has left no release in #{output}: is output_dir set in #{@config}?")
    end
  end

  # As an instance under Gatling needs it.
  defp settle(tree) do
    for library <- Path.wildcard(Path.join(tree, "lib/*")),
        match?({:ok, %{type: :symlink}}, File.lstat(library)) do
      Mix.raise("#{@config} sets dev_mode for the environment prod: the release is made of links")
    end

    for file <- Path.wildcard(Path.join(tree, "releases/*/vm.args")) do
      own = file |> File.read!() |> String.split("\n") |> Enum.reject(&gatlings?/1)
      File.write!(file, Enum.join(own ++ ["-name #{Path.basename(tree)}@127.0.0.1\n"], "\n"))
    end

    # without a BEAM of its own it has the host's, whose version is not in there
    data = Path.join(tree, "releases/start_erl.data")
    erts = List.to_string(:erlang.system_info(:version))
    File.write!(data, String.replace(File.read!(data), "ERTS_VSN", erts))

    # Distillery starts this daemon with each `rpc`; Gatling's nodes have no use for it
    for file <- Path.wildcard(Path.join(tree, "erts-*/bin/epmd")) do
      File.rm!(file)
      File.write!(file, "#!/bin/sh\nexit 0\n")
      File.chmod!(file, 0o755)
    end
  end

  defp gatlings?(line), do: List.first(String.split(line)) in @gatlings

  defp uses?, do: File.regular?(@config) or not Keyword.has_key?(Mix.Project.config(), :releases)

  defp tell_of_what_is_not_used do
    if File.regular?("config/runtime.exs") and not (File.read!(@config) =~ "runtime.exs") do
      Mix.shell().info(
        "config/runtime.exs is not read: #{@config} has no config provider for it, and Distillery " <>
          "does not know it by itself"
      )
    end

    if Path.wildcard("rel/appups/**/*.appup") != [] do
      Mix.shell().info(
        "rel/appups is not used: Gatling computes an upgrade from the releases themselves"
      )
    end
  end

  # Since Elixir 1.15 mix takes from the code path what the project does not name, such as sasl, of which
  # Distillery does not know.
  defp find_everything do
    for libraries <- [:code.lib_dir(), Path.dirname(:code.lib_dir(:elixir))],
        path <- Path.wildcard(Path.join(libraries, "*/ebin")),
        do: :code.add_pathz(String.to_charlist(path))
  end

  # Since OTP 25 `release_handler` writes below OTP's own directory when it is given a relative one, as
  # Distillery does: over the host's file, if it may. During the call another one writes as before.
  defp keeping_out_of_otp(fun) do
    arguments = for n <- 1..4, do: {:var, 1, :"V#{n}"}
    own = {:remote, 1, {:atom, 1, __MODULE__}, {:atom, 1, :create_releases}}

    {:ok, module, beam} =
      :compile.forms([
        {:attribute, 1, :module, :release_handler},
        {:attribute, 1, :export, [create_RELEASES: 4]},
        {:function, 1, :create_RELEASES, 4,
         [{:clause, 1, arguments, [], [{:call, 1, own, arguments}]}]}
      ])

    forget = fn ->
      :code.purge(module)
      :code.delete(module)
      :code.purge(module)
    end

    forget.()
    {:module, _} = :code.load_binary(module, ~c"gatling", beam)

    try do
      fun.()
    after
      forget.()
    end
  end

  @doc false
  def create_releases(root, directory, rel_file, _directories) do
    {:ok, [{:release, {name, version}, {:erts, erts}, applications}]} = :file.consult(rel_file)

    libraries =
      for application <- applications do
        [app, version | _] = Tuple.to_list(application)
        {app, version, :filename.join([root, ~c"lib", ~c"#{app}-#{version}"])}
      end

    releases = [{:release, name, version, erts, libraries, :permanent}]
    text = :io_lib.format(~c"%% coding: utf-8~n~tp.~n", [releases])
    :file.write_file(:filename.join(directory, ~c"RELEASES"), :unicode.characters_to_binary(text))
  end

  defp too_old(version) do
    """
    #{place(:distillery)}
    Distillery #{version} does not go together with Elixir #{System.version()}: both have a task \
    `release`. Put {:distillery, "~> 2.1"} in that line's place, or delete it: releases are a part \
    of mix since Elixir 1.9.
    """
  end

  # The place in mix.exs that lists it: deps are a term by now, so this is a search in the text.
  defp place(dependency) do
    files = ["mix.exs" | for({_, path} <- apps(), do: Path.join(path, "mix.exs"))]
    wanted = Regex.compile!("^[^#]*\\{\\s*:#{dependency}\\b")

    found =
      for file <- files,
          {line, number} <- file |> File.read!() |> String.split("\n") |> Enum.with_index(1),
          line =~ wanted,
          do: "#{file}, line #{number}: #{String.trim(line)}"

    List.first(found) || "mix.exs asks for #{dependency}."
  end

  defp apps, do: Enum.sort(Mix.Project.apps_paths() || %{})

  defp config(app, path) do
    Mix.Project.in_project(app, path, fn _ -> Mix.Project.config() end)
  end
end
