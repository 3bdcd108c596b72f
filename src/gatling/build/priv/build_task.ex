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
  # Modules that each build needs, loaded before its source is there: mix would load them one after
  # the other, and would look for each in every directory of the code path. Those that this Elixir
  # or OTP does not have are not loaded. All are of mix, Elixir, the compiler, stdlib or kernel,
  # which are on the code path of each project: what is loaded is also what a project may call
  # without a warning.
  @erlang ~w(
    beam_a beam_asm beam_block beam_bounds beam_call_types beam_clean beam_core_to_ssa
    beam_dict beam_digraph beam_flatten beam_jump beam_kernel_to_ssa beam_lib beam_opcodes
    beam_ssa beam_ssa_alias beam_ssa_bc_size beam_ssa_bool beam_ssa_bsm beam_ssa_codegen
    beam_ssa_dead beam_ssa_destructive_update beam_ssa_lint beam_ssa_opt beam_ssa_pre_codegen
    beam_ssa_recv beam_ssa_share beam_ssa_ss beam_ssa_throw beam_ssa_type beam_trim beam_types
    beam_utils beam_validator beam_z cerl cerl_clauses cerl_trees compile core_lib core_lint
    digraph digraph_utils disk_log disk_log_1 disk_log_server disk_log_sup elixir_compiler
    elixir_def elixir_erl elixir_expand elixir_import elixir_map elixir_module
    elixir_overridable erl_bifs erl_lint filelib gen_tcp io_lib io_lib_format io_lib_pretty
    otp_internal sys_core_alias sys_core_bsm sys_core_fold v3_core v3_kernel
  )a
  @elixir ~w(
    Code Code.Formatter Code.Identifier Code.Normalizer Collectable.BitString Collectable.Map
    Config Config.Provider Config.Reader Enumerable.Function Enumerable.List Enumerable.MapSet
    Enumerable.Stream File.Error File.Stat Inspect.Algebra Kernel.ErrorHandler
    Kernel.LexicalTracker Kernel.ParallelCompiler Kernel.Typespec Kernel.Utils List.Chars.Atom
    List.Chars.BitString MapSet Mix.CLI Mix.Compilers.ApplicationTracer Mix.Compilers.Elixir
    Mix.Compilers.Erlang Mix.Dep Mix.Dep.Converger Mix.Dep.ElixirSCM Mix.Dep.Loader
    Mix.Dep.Lock Mix.Dep.Umbrella Mix.Hex Mix.Local Mix.Project Mix.Release
    Mix.RemoteConverger Mix.SCM Mix.SCM.Path Mix.Shell Mix.Shell.IO Mix.Shell.Process
    Mix.Shell.Quiet Mix.Task Mix.Task.Compiler Mix.Tasks.Archive.Check Mix.Tasks.Compile
    Mix.Tasks.Compile.All Mix.Tasks.Compile.App Mix.Tasks.Compile.Elixir
    Mix.Tasks.Compile.Erlang Mix.Tasks.Compile.Leex Mix.Tasks.Compile.Protocols
    Mix.Tasks.Compile.Yecc Mix.Tasks.Deps.Loadpaths Mix.Tasks.Loadconfig Mix.Tasks.Loadpaths
    Mix.Tasks.Release Mix.Utils Module Module.LocalsTracker Module.Types Module.Types.Expr
    Module.Types.Helpers Module.Types.Of Module.Types.Pattern Module.Types.Unify OptionParser
    Path.Wildcard Stream String.Chars.Atom String.Chars.Integer String.Chars.List Task
    Task.Supervised Version Version.Parser Version.Requirement
  )

  # The code server prepares those of one call beside each other, on all cores.
  def load do
    directories = directories()

    found =
      for module <- @erlang ++ Enum.map(@elixir, &Module.concat([&1])),
          not :erlang.module_loaded(module),
          file = ~c"#{module}.beam",
          directory = directories[file],
          path = directory ++ ~c"/" ++ file,
          {:ok, beam} <- [:file.read_file(path)],
          do: {module, path, beam}

    with {:ok, prepared} <- :code.prepare_loading(found), do: :code.finish_loading(prepared)
  end

  # The directory of each compiled module: the first one of the code path that has it.
  defp directories do
    for directory <- Enum.reverse(:code.get_path()),
        {:ok, files} <- [:file.list_dir(directory)],
        file <- files,
        into: %{},
        do: {file, directory}
  end
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

    there = step(marker, "mix_deps_get", &get_dependencies/0)

    distillery =
      case Gatling.Distillery.found() do
        {:refused, why} -> refuse(marker, why)
        {:ok, prefix} -> prefix
        nil -> nil
      end

    # a callback may write what it reads
    css = if there == :there and callbacks == [], do: Gatling.EarlyCss.start()

    step(marker, "mix_compile", fn ->
      try do
        compile(git_directory, there)
      catch
        kind, reason ->
          Gatling.EarlyCss.stop(css)
          :erlang.raise(kind, reason, __STACKTRACE__)
      end
    end)

    around("mix_digest", fn ->
      # asked when the callback has run: it may have made the assets
      if digest = Gatling.Assets.digest() do
        npm = Gatling.Assets.npm_directories()
        if npm != [], do: Gatling.EarlyCss.stop(css)

        for directory <- npm do
          if is_nil(Gatling.Assets.npm()), do: fact(marker, "missing", "npm")
          step(marker, "npm_install", fn -> Gatling.Assets.npm_install(directory) end)
        end

        plain_step(marker, "mix_digest", fn ->
          Gatling.Binaries.around(fn -> digest.(if npm == [], do: css) end)
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

    step(marker, "mix_release", fn -> release(distillery, release, path, callbacks) end)

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
      :there
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

  # Does what compiling would do with dependencies first, without their check: that is half of it, and
  # has just been made. This is only for a project of which no dependency is to be compiled.
  defp load_dependencies do
    if Enum.all?(Mix.Dep.load_and_cache(), &compiled?/1) do
      Mix.Task.run("deps.loadpaths", ["--no-deps-check", "--listeners"])
    end
  end

  # A dependency with a path is compiled each time, and an umbrella's apps by its own compilation.
  defp compiled?(dep) do
    Mix.Dep.ok?(dep) and not Mix.Dep.compilable?(dep) and dep.scm.fetchable?()
  end

  defp compile(git_directory, there) do
    # git lists files while the sources are read
    others = fn -> Gatling.Fresh.others(git_directory) end
    before = Task.async(others)
    names = Gatling.Fresh.stale_dependencies()
    stale = Gatling.Fresh.stale()
    before = Task.await(before, :infinity)
    if names != [], do: Mix.Task.run("deps.compile", names ++ ["--force"])
    if names == [] and there == :there, do: load_dependencies()

    case stale do
      nil ->
        Mix.Task.run("compile", [])

      why ->
        Mix.shell().info("Compiling the project from scratch: #{why}")
        Mix.Task.run("compile", ["--force"])
    end

    paths = Gatling.BuildPaths.look()
    # mix writes it again when mix.exs itself has changed, not what mix.exs reads (a file VERSION)
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Quiet)
    Mix.Task.rerun("compile.app", ["--force"])
    Mix.shell(shell)
    # a compiler may have made the first file of a priv
    Gatling.Assets.link()
    Gatling.Fresh.compiled(before, others.())
    Gatling.BuildPaths.warn(paths)
  end

  defp release(nil, name, path, callbacks) do
    names = if name == "", do: [], else: [name]
    Gatling.Ebin.start(callbacks == [])
    Mix.Task.run("release", names ++ ["--path", path, "--overwrite", "--quiet"])
  end

  defp release(distillery, name, path, _callbacks),
    do: Gatling.Distillery.release(distillery, name, path)

  defp refuse(_marker, nil), do: :ok
  defp refuse(marker, why), do: plain_step(marker, "release_tool", fn -> Mix.raise(why) end)

  defp step(marker, name, fun), do: around(name, fn -> plain_step(marker, name, fun) end)

  defp around(name, fun) do
    point("before_" <> name)
    result = fun.()
    point("after_" <> name)
    result
  end

  defp point(name) do
    if Process.get(Gatling.Callbacks), do: Gatling.Callbacks.at(name)
  end

  defp plain_step(marker, name, fun) do
    IO.puts("#{marker} begin #{name}")
    result = fun.()
    IO.puts("#{marker} end #{name}")
    result
  end

  defp fact(marker, name, value), do: IO.puts("#{marker} fact #{name} #{value}")
end
