# The whole build as one mix task: each step is a standard task, run as `mix do` would. Lines that
# begin with the marker tell Gatling which step the output belongs to, and at the end what was built.

defmodule Gatling.Shell do
  @moduledoc false
  # Mix asks before it installs Hex or rebar3; a push has nobody to ask.
  @behaviour Mix.Shell

  defdelegate info(message), to: Mix.Shell.IO
  defdelegate error(message), to: Mix.Shell.IO
  defdelegate print_app(), to: Mix.Shell.IO
  defdelegate cmd(command, options \\ []), to: Mix.Shell.IO
  def prompt(_message), do: ""
  def yes?(_message, _options \\ []), do: true
end

defmodule Mix.Tasks.Gatling.Build do
  @moduledoc false
  use Mix.Task

  def run([marker, path, release | callbacks]) do
    if File.regular?(".tool-versions") do
      step(marker, "toolchain", fn -> check_toolchain(File.read!(".tool-versions")) end)
    end

    # a word more when the project has any; nothing of it is loaded otherwise
    for file <- callbacks, do: Gatling.Callbacks.start(marker, file)

    refuse(marker, Gatling.Distillery.exrm())

    step(marker, "mix_deps_get", &get_dependencies/0)

    distillery =
      case Gatling.Distillery.found() do
        {:refused, why} -> refuse(marker, why)
        {:ok, prefix} -> prefix
        nil -> nil
      end

    step(marker, "mix_compile", fn -> Mix.Task.run("compile", []) end)

    around("mix_digest", fn ->
      # asked when the callback has run: it may have made the assets
      if digest = Gatling.Assets.digest() do
        for directory <- Gatling.Assets.npm_directories() do
          step(marker, "npm_install", fn -> Gatling.Assets.npm_install(directory) end)
        end

        plain_step(marker, "mix_digest", fn ->
          digest.()
          Gatling.Assets.link()
        end)
      end
    end)

    around("mix_release_init", fn ->
      # looked for when the callback has run: it may have written the file
      if init = distillery && Gatling.Distillery.init(distillery) do
        plain_step(marker, "mix_release_init", init)
      end
    end)

    step(marker, "mix_release", fn -> release(distillery, release, path) end)

    fact(marker, "elixir", System.version())
    fact(marker, "otp", otp_version())
    if callbacks != [], do: Gatling.Callbacks.built()
  end

  # Hex asks its registry even when nothing is missing: a push would wait for a network that hangs.
  # A project's own deps.get may do more than get.
  defp get_dependencies do
    own = Keyword.has_key?(Mix.Project.config()[:aliases], :"deps.get")

    if not own and dependencies_there?() do
      Mix.shell().info("All dependencies are up to date")
    else
      Mix.Task.run("deps.get", ["--only", to_string(Mix.env())])
    end
  end

  # As mix itself checks it before it compiles; what is wrong is for deps.get to say, or to mend. The
  # rest of what mix looks at there is for the compilation to say (a listener may not be built yet).
  @only_dependencies ~w(--no-compile --no-elixir-version-check --no-archives-check --no-listeners)

  defp dependencies_there? do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)

    try do
      Mix.Task.run("deps.loadpaths", @only_dependencies)
      true
    rescue
      _ -> false
    after
      Mix.Shell.Process.flush()
      Mix.shell(shell)
      # compiling does it again, and in earnest
      Mix.Task.reenable("deps.loadpaths")
    end
  end

  defp release(nil, name, path) do
    names = if name == "", do: [], else: [name]
    Mix.Task.run("release", names ++ ["--path", path, "--overwrite", "--quiet"])
  end

  defp release(distillery, name, path), do: Gatling.Distillery.release(distillery, name, path)

  defp refuse(_marker, nil), do: :ok
  defp refuse(marker, why), do: plain_step(marker, "release_tool", fn -> Mix.raise(why) end)

  defp step(marker, name, fun), do: around(name, fn -> plain_step(marker, name, fun) end)

  defp around(name, fun) do
    point("before_" <> name)
    fun.()
    point("after_" <> name)
  end

  defp point(name) do
    if Process.get(Gatling.Callbacks), do: Gatling.Callbacks.at(name)
  end

  defp plain_step(marker, name, fun) do
    IO.puts("#{marker} begin #{name}")
    fun.()
    IO.puts("#{marker} end #{name}")
  end

  # What the project is written for, as asdf and mise read it. mix.exs' own `elixir:` is mix' to check.
  # A newer toolchain is told, an older one refused: the code may use what it does not have.
  defp check_toolchain(text) do
    for line <- String.split(text, "\n"),
        [tool, asked | _] <- [String.split(hd(String.split(line, "#")))],
        {name, have, depth} <- known(tool),
        {:ok, wanted} <- [numbers(asked)] do
      {:ok, present} = numbers(have)

      case {Enum.take(wanted, depth), Enum.take(present, depth)} do
        {same, same} ->
          :ok

        {older, newer} when older < newer ->
          Mix.shell().info("#{name} #{have} is newer than the #{asked} of .tool-versions")

        _ ->
          Mix.raise(
            "The project asks for #{name} #{asked} (.tool-versions), and this host has #{have}. " <>
              "Install that version, or one that is newer."
          )
      end
    end
  end

  defp known("elixir"), do: [{"Elixir", System.version(), 2}]
  defp known("erlang"), do: [{"OTP", otp_version(), 1}]
  defp known(_), do: []

  # 1.18.1-otp-27 → [1, 18, 1]; `latest`, `ref:…` and their like say nothing that could be compared.
  defp numbers(version) do
    case Regex.run(~r/^v?(\d+(\.\d+)*)/, version) do
      [_, found | _] -> {:ok, found |> String.split(".") |> Enum.map(&String.to_integer/1)}
      nil -> :error
    end
  end

  defp fact(marker, name, value), do: IO.puts("#{marker} fact #{name} #{value}")

  # System.otp_release/0 is the major number only.
  defp otp_version do
    major = System.otp_release()

    case File.read(Path.join([:code.root_dir(), "releases", major, "OTP_VERSION"])) do
      {:ok, version} -> String.trim(version)
      {:error, _} -> major
    end
  end
end
