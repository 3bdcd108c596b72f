# Callbacks of the project: deploy.exs and upgrade.exs, and the executables in .gatling/hooks.
#
# They are called in the VM that builds, which then stays until the deployment's end. Gatling leads:
# the VM reports each point of the build that has callbacks, and Gatling answers with those to call.
# Each answer is a line with a term in Base64 (`receive_line/0`). This VM exits when Gatling does.

defmodule Gatling.Env do
  @moduledoc """
  The facts about the deployment at the time of a call, which a callback receives to read them.

  docs/callbacks.md says what each field means. The last lines have the fields of Gatling 1 for which
  there is nothing here; they are nil.
  """

  defstruct [
    :app,
    :available_port,
    :available_tasks,
    :build_dir,
    :built_release_path,
    :callback,
    :commit,
    :deploy_callback_module,
    :deploy_dir,
    :deploy_path,
    :domains,
    :port,
    :previous,
    :project,
    :release,
    :release_config_path,
    :release_dir,
    :releases,
    :step,
    :strategy,
    :task,
    :upgrade_callback_module,
    :upgrade_dir,
    :upgrade_path,
    :version,
    # Gatling 1
    :etc_dir,
    :etc_path,
    :git_hook_path,
    :nginx_available_path,
    :nginx_dir,
    :nginx_enabled_path,
    :nginx_template,
    :script_template
  ]
end

defmodule Gatling.Output do
  @moduledoc false
  # A device that prints whole lines. A program's output may be cut off within a character, or be no
  # text, and IO takes neither. Not an implementation of Collectable: once the project is compiled
  # that protocol is consolidated, and knows of none but the project's.

  @doc "Call a function with something to collect a program's output into, which prints it."
  def printing(fun) do
    device = spawn(fn -> print("") end)

    try do
      fun.(IO.binstream(device, :line))
    after
      send(device, {:over, self()})

      receive do
        {:over, ^device} -> :ok
      end
    end
  end

  # Erlang's I/O protocol, as far as writing needs it
  defp print(rest) do
    receive do
      {:io_request, from, tag, {:put_chars, _encoding, data}} ->
        [last | lines] =
          (rest <> IO.iodata_to_binary(data)) |> String.split("\n") |> Enum.reverse()

        lines |> Enum.reverse() |> Enum.each(&line/1)
        send(from, {:io_reply, tag, :ok})
        print(last)

      {:over, from} ->
        if rest != "", do: line(rest)
        send(from, {:over, self()})
    end
  end

  defp line(text) do
    IO.puts(if String.valid?(text), do: text, else: :unicode.characters_to_binary(text, :latin1))
  end
end

defmodule Gatling.Bash do
  @moduledoc "The functions that callbacks import: `log/1`, `bash/2` and `bash/3`."

  @doc "Print a message to the user who deploys; returns the message."
  def log(message) do
    Mix.shell().info(message)
    message
  end

  @doc """
  Run a command as `System.cmd/3` does, and print it and its output, line by line.

  Raises when it ends with a status other than 0, unless the options have `check: false`.
  """
  def bash(command, args, opts \\ []) do
    {check, opts} = Keyword.pop(opts, :check, true)
    place = if opts[:cd], do: ["(#{opts[:cd]})"], else: []
    log(Enum.join(["$", command | args] ++ place, " "))

    {output, status} =
      Gatling.Output.printing(fn output ->
        options = Keyword.merge([stderr_to_stdout: true, into: output], opts)
        System.cmd(command, args, options)
      end)

    if check and status != 0, do: raise("#{command} exited with status #{status}")
    {output, status}
  end
end

defmodule Gatling.Callbacks do
  @moduledoc false

  @kept __MODULE__

  @doc "Load the project's file, if any; report its functions, and read which points to report."
  def start(marker, file) do
    # mix takes from the code path what it does not know
    :ok = :code.ensure_modules_loaded([Gatling.Env, Gatling.Bash, Gatling.Output])

    own = %{marker: marker, module: nil, file: file, directory: File.cwd!(), points: []}
    own = if file == "", do: own, else: load(own)
    functions = if own.module, do: functions(own.module), else: []
    IO.puts("#{marker} fact version #{Mix.Project.config()[:version]}")
    IO.puts(Enum.join([marker, "callbacks" | functions], " "))
    {:points, points} = heard()
    Process.put(@kept, %{own | points: points})
  end

  @doc "The build is at a point, `before_mix_compile` say; goes on when Gatling says so."
  def at(point) do
    own = Process.get(@kept)

    if point in own.points do
      IO.puts("#{own.marker} at #{point}")
      serve(own)
    end
  end

  @doc "The build has ended: from now on there is nothing to do but calls."
  def built do
    own = Process.get(@kept)
    IO.puts("#{own.marker} built")
    serve(own)
  end

  defp serve(own) do
    case heard() do
      {:go} ->
        :ok

      {:call, point, facts} ->
        answer(own, fn ->
          apply(own.module, String.to_atom(point), [env(own, facts)])
          "ok"
        end)

        serve(own)

      {:hook, path, variables} ->
        answer(own, fn -> hook(path, variables) end)
        serve(own)
    end
  end

  defp heard do
    case IO.read(:stdio, :line) do
      line when is_binary(line) ->
        line |> String.trim() |> Base.decode64!() |> :erlang.binary_to_term()

      # nobody is there any more
      _ ->
        System.halt(0)
    end
  end

  defp answer(own, fun) do
    IO.puts("#{own.marker} #{fun.()}")
  catch
    kind, reason -> failed(own, kind, reason, __STACKTRACE__)
  after
    File.cd!(own.directory)
  end

  defp failed(own, kind, reason, stacktrace) do
    # from here on it is this module's calls
    theirs = Enum.take_while(stacktrace, fn {module, _, _, _} -> module != __MODULE__ end)
    reason = Exception.normalize(kind, reason, stacktrace)
    IO.puts(Exception.format(kind, reason, theirs))
    "** " <> banner = Exception.format_banner(kind, reason)
    [first | _] = banner |> String.trim() |> String.split("\n")
    IO.puts("#{own.marker} failed #{String.trim_trailing(first, ".")}")
  end

  # As in Gatling 1: the file's first module, whatever its name; here of those that have callbacks.
  defp load(own) do
    modules = for {module, _} <- Code.compile_file(own.file), do: module
    %{own | module: Enum.find(modules, List.first(modules), &(functions(&1) != []))}
  catch
    kind, reason ->
      failed(own, kind, reason, __STACKTRACE__)
      # Gatling says no more than that it is over
      heard()
  end

  defp functions(module) do
    for {name, 1} <- module.__info__(:functions),
        name = Atom.to_string(name),
        String.starts_with?(name, ["before_", "after_"]),
        do: name
  end

  # The shell is there for the standard input: a hook must not read what is said to this VM.
  defp hook(path, variables) do
    {_, status} =
      Gatling.Output.printing(fn output ->
        options = [env: Map.to_list(variables), stderr_to_stdout: true, into: output]
        System.cmd("/bin/sh", ["-c", ~S(exec "$0" < /dev/null), path], options)
      end)

    if status == 0, do: "ok", else: "failed it exited with status #{status}"
  end

  defp env(own, facts) do
    known =
      for {key, value} <- facts, do: {String.to_atom(key), if(value != :undefined, do: value)}

    env = struct!(Gatling.Env, known)
    module = if env.task == "upgrade", do: :upgrade_callback_module, else: :deploy_callback_module

    Map.merge(env, %{
      module => own.module,
      project: env.app,
      available_port: env.port,
      available_tasks: tasks(),
      release_config_path: Path.join(env.build_dir, "rel/config.exs"),
      deploy_dir: env.release_dir,
      deploy_path: env.release_dir,
      upgrade_dir: env.release_dir,
      upgrade_path: env.release_dir
    })
  end

  # By the files' names: loading them all, as `mix help` does, takes long.
  defp tasks do
    found =
      for directory <- :code.get_path(),
          {:ok, files} <- [File.ls(directory)],
          "Elixir.Mix.Tasks." <> rest <- files,
          String.ends_with?(rest, ".beam"),
          do: rest |> Path.rootname() |> Mix.Utils.module_name_to_command(0)

    aliases = for {name, _} <- Mix.Project.config()[:aliases] || [], do: Atom.to_string(name)
    (found ++ aliases) |> Enum.uniq() |> Enum.sort()
  end
end
