# The whole build as one mix task: each step is a standard task, run as `mix do` would. Lines that
# begin with the marker report which step the output belongs to, and at the end the release.

defmodule Gatling.Shell do
  @moduledoc false
  # Mix asks before it installs Hex or rebar3; a push has nobody to ask.
  @behaviour Mix.Shell

  defdelegate info(message), to: Mix.Shell.IO
  defdelegate error(message), to: Mix.Shell.IO
  defdelegate print_app(), to: Mix.Shell.IO
  defdelegate cmd(command, options \\ []), to: Mix.Shell.IO
  def prompt(_message), do: ""

  # "… Shall I install Hex? (if running non-interactively, use "mix local.hex --force")"; of rebar3
  # alike. Any other question is a task's own: ecto.drop asks before it drops a database.
  def yes?(message, _options \\ []), do: IO.iodata_to_binary(message) =~ "mix local."
end

defmodule Gatling.Waiting do
  @moduledoc false
  # Modules that each build needs, loaded while the VM waits for its source. Those that this Elixir
  # or OTP does not have are not loaded. All are of mix, Elixir or the compiler, which are on the code
  # path of each project: what is loaded is also what a project may call without a warning.
  @needed [
    :beam_asm,
    :beam_lib,
    :cerl,
    :compile,
    :core_lint,
    :elixir_compiler,
    :elixir_erl,
    :elixir_expand,
    :elixir_module,
    :erl_lint,
    :filelib,
    :v3_core,
    :v3_kernel,
    Code,
    Config,
    Config.Reader,
    Kernel.LexicalTracker,
    Kernel.ParallelCompiler,
    Mix.CLI,
    Mix.Compilers.Elixir,
    Mix.Compilers.Erlang,
    Mix.Dep,
    Mix.Dep.Converger,
    Mix.Dep.Loader,
    Mix.Project,
    Mix.Release,
    Mix.SCM,
    Mix.SCM.Path,
    Mix.Tasks.Compile,
    Mix.Tasks.Compile.All,
    Mix.Tasks.Compile.App,
    Mix.Tasks.Compile.Elixir,
    Mix.Tasks.Compile.Protocols,
    Mix.Tasks.Deps.Loadpaths,
    Mix.Tasks.Loadconfig,
    Mix.Tasks.Loadpaths,
    Mix.Tasks.Release
  ]

  def load, do: Enum.each(@needed, &:code.ensure_loaded/1)
end

defmodule Mix.Tasks.Gatling.Build do
  @moduledoc false
  use Mix.Task

  def run([marker, path, release, git_directory | callbacks]) do
    if Gatling.Toolchain.asked?() or not Gatling.Toolchain.allowed?() do
      step(marker, "toolchain", fn -> Gatling.Toolchain.check(marker) end)
    end

    if File.regular?("Procfile") and not File.regular?("gatling.toml") do
      Mix.shell().info("Procfile is not read: `gatling init` writes a gatling.toml for workers")
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

    step(marker, "mix_compile", fn -> compile(git_directory) end)

    around("mix_digest", fn ->
      # asked when the callback has run: it may have made the assets
      if digest = Gatling.Assets.digest() do
        for directory <- Gatling.Assets.npm_directories() do
          if is_nil(Gatling.Assets.npm()), do: fact(marker, "missing", "npm")
          step(marker, "npm_install", fn -> Gatling.Assets.npm_install(directory) end)
        end

        plain_step(marker, "mix_digest", fn ->
          Gatling.Binaries.restore()
          digest.()
          Gatling.Binaries.keep()
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
    fact(marker, "otp", Gatling.Toolchain.otp_version())
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

  # As mix itself checks it before it compiles; deps.get reports or fixes what is wrong. The
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

  defp compile(git_directory) do
    before = Gatling.Fresh.others(git_directory)

    case Gatling.Fresh.stale_dependencies() do
      [] -> :ok
      names -> Mix.Task.run("deps.compile", names ++ ["--force"])
    end

    case Gatling.Fresh.stale() do
      nil ->
        Mix.Task.run("compile", [])

      why ->
        Mix.shell().info("Compiling the project from scratch: #{why}")
        Mix.Task.run("compile", ["--force"])
    end

    # mix writes it again when mix.exs itself has changed, not what mix.exs reads (a file VERSION)
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Quiet)
    Mix.Task.rerun("compile.app", ["--force"])
    Mix.shell(shell)
    # a compiler may have made the first file of a priv
    Gatling.Assets.link()
    Gatling.Fresh.compiled(before, Gatling.Fresh.others(git_directory))
    Gatling.BuildPaths.warn()
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

  defp fact(marker, name, value), do: IO.puts("#{marker} fact #{name} #{value}")
end
