# Runs tailwind beside the compilation, where the project's own alias begins with it. Nothing of that
# is seen before the alias gets there: what tailwind writes is put into place then, if nothing that it
# may read has changed since it was started. Otherwise tailwind is run again, as the alias says.

defmodule Gatling.EarlyCss do
  @moduledoc false

  @alias :"assets.deploy"
  @directory "_build/gatling/css"
  # Directories that no compilation of the project writes: dependencies are there before it.
  @left ~w(deps node_modules .git _build)
  # A file that was changed less than this many seconds ago may change again without a trace.
  @settled 2
  # More files or deeper directories than these are not looked at: it would take longer than tailwind.
  @most 4000
  @deepest 30

  # Starts what the alias begins with; nil if nothing can be known of it. To be called when the
  # dependencies are there and before anything is compiled.
  def start do
    with nil <- Mix.Project.apps_paths(),
         [_ | _] = commands <- commands(),
         last = System.os_time(:second) - @settled,
         %{} = before <- files(last),
         {:ok, directory} <- new_directory() do
      jobs =
        for {command, n} <- Enum.with_index(commands),
            do: {command, staged(directory, command, n)}

      running = Task.async(fn -> Enum.map(jobs, &run/1) end)
      %{last: last, before: before, jobs: jobs, running: running}
    else
      _ -> nil
    end
  end

  # Waits for the end of what was started. Its results are not used.
  def stop(nil), do: :ok

  def stop(started) do
    Task.await(started.running, :infinity)
    File.rm_rf!(@directory)
  end

  # Runs the alias. To be called after the compilation with what `start` has returned.
  def deploy(nil), do: Mix.Task.run(to_string(@alias), [])

  def deploy(started) do
    results = Task.await(started.running, :infinity)
    {commands, staged} = Enum.unzip(started.jobs)

    valid =
      Enum.all?(results, &match?({_, 0}, &1)) and commands == commands() and
        files(started.last) == started.before and
        Enum.all?(Enum.zip(commands, staged), fn {command, file} ->
          placed?(file, command.output)
        end)

    File.rm_rf!(@directory)

    if valid do
      for {output, 0} <- results, do: IO.write(output)
      rest = Enum.drop(Mix.Project.config()[:aliases][@alias], length(commands))
      Enum.each(rest, &next/1)
    else
      deploy(nil)
    end
  end

  # As mix does with an element of an alias.
  defp next(function) when is_function(function), do: function.([])

  defp next(line) do
    [task | arguments] = OptionParser.split(line)
    Mix.Task.run(task, arguments)
  end

  # The commands that the alias begins with, as the package would run them.
  defp commands do
    aliases = Mix.Project.config()[:aliases] || []

    with [_ | _] = lines <- aliases[@alias],
         true <- Enum.all?(lines, &plain?/1),
         false <- Keyword.has_key?(aliases, :tailwind),
         true <- Code.ensure_loaded?(Tailwind),
         Mix.Tasks.Tailwind <- Mix.Task.get("tailwind") do
      lines |> Enum.map(&command/1) |> Enum.take_while(&(&1 != nil))
    else
      _ -> []
    end
  end

  # An alias that names itself means the task of that name.
  defp plain?(function) when is_function(function, 1), do: true

  defp plain?(line) when is_binary(line),
    do: List.first(OptionParser.split(line)) not in [nil, to_string(@alias)]

  defp plain?(_other), do: false

  # As Tailwind.run/2 of the versions 0.2 to 0.5 makes it, if it has no other options than those of
  # generated projects, and the program is of version 4 or later: earlier ones read a config in
  # JavaScript, and may work on with the file that is there.
  defp command(line) when is_binary(line) do
    with ["tailwind", name | more] <- OptionParser.split(line),
         {profile, config} <- profile(name),
         given when is_list(given) <- Keyword.get(config, :args, []),
         arguments = given ++ more,
         true <- Enum.all?(arguments, &(is_binary(&1) and allowed?(&1))),
         [output] <- for("--output=" <> output <- arguments, do: output),
         true <- Enum.empty?(config[:env] || []),
         {version, program} <- program(profile),
         true <-
           version =~ ~r/\Av?([4-9]|[1-9][0-9])\./ and Gatling.Binaries.known?(program, version) do
      cd = Path.expand(config[:cd] || ".")
      %{program: program, arguments: arguments, cd: cd, output: Path.expand(output, cd)}
    else
      _ -> nil
    end
  end

  defp command(_function), do: nil

  defp profile(name) do
    Enum.find(Application.get_all_env(:tailwind), fn {profile, config} ->
      Atom.to_string(profile) == name and Keyword.keyword?(config)
    end)
  end

  defp allowed?(argument),
    do: argument =~ ~r/\A(--input=[^-].*|--output=[^-].*|--minify|--optimize)\z/s

  # (a project may have no such package)
  defp program(profile) do
    if function_exported?(Tailwind, :configured_version, 1) do
      version = apply(Tailwind, :configured_version, [profile])
      {version, apply(Tailwind, :bin_path, [version])}
    else
      {apply(Tailwind, :configured_version, []), apply(Tailwind, :bin_path, [])}
    end
  end

  # Of a name that no program of another build uses.
  defp new_directory do
    directory = Path.expand(Path.join(@directory, Base.encode16(:rand.bytes(8))))
    File.rm_rf!(@directory)
    with :ok <- File.mkdir_p(directory), do: {:ok, directory}
  end

  defp staged(directory, command, n),
    do: Path.join([directory, Integer.to_string(n), Path.basename(command.output)])

  # One that fails is run again where the alias has it, and says why there.
  defp run({command, staged}) do
    arguments =
      for argument <- command.arguments do
        if String.starts_with?(argument, "--output="), do: "--output=" <> staged, else: argument
      end

    File.mkdir_p!(Path.dirname(staged))

    System.cmd(command.program, arguments,
      cd: command.cd,
      env: %{"BROWSERSLIST_IGNORE_OLD_DATA" => "1"},
      stderr_to_stdout: true
    )
  rescue
    # the program cannot be run
    _ -> :error
  end

  # Whole or not there.
  defp placed?(file, output),
    do: File.mkdir_p(Path.dirname(output)) == :ok and File.rename(file, output) == :ok

  # All that a compilation may change and tailwind may read, with what a change would change: the
  # project's files, and what compilers put into the build directory beside modules, such as the hooks
  # of LiveView 1.1. Compilers may write the same again, so these are compared by their contents. nil
  # if that is too much, or cannot be read. `last` is the time before which files had not just changed.
  defp files(last) do
    build = Mix.Project.build_path()

    libraries =
      for directory <- Path.wildcard(Path.join(build, "lib/*")),
          do: {directory, ~w(ebin .mix consolidated)}

    with {:ok, own} <- below({File.cwd!(), @left}),
         {:ok, made} <- all([{build, ~w(lib .mix)} | libraries], &below/1),
         true <- length(own) + length(made) <= @most do
      own = for {path, info} <- own, do: {path, identity(info, last) || contents(path, info)}
      made = for {path, info} <- made, do: {path, contents(path, info)}
      Map.new(own ++ made)
    else
      _ -> nil
    end
  end

  # Size, inode, and the times of the last change of contents and of anything.
  defp identity(info, last) do
    if max(elem(info, 5), elem(info, 6)) < last,
      do: {elem(info, 1), elem(info, 11), elem(info, 5), elem(info, 6)}
  end

  defp contents(path, info) do
    case elem(info, 2) do
      :regular -> with {:ok, binary} <- :file.read_file(path), do: :erlang.md5(binary)
      :symlink -> :file.read_link_all(path)
      type -> type
    end
  end

  # The files below a directory, without those of the given names in it. Links are not followed:
  # what they lead to is looked at itself, or is no compilation's.
  defp below({directory, left}, depth \\ 0) do
    with {:ok, names} <- :file.list_dir_all(directory),
         true <- depth < @deepest do
      all(names -- Enum.map(left, &String.to_charlist/1), fn name ->
        path = :filename.join(directory, name)

        case :file.read_link_info(path, [:raw, time: :posix]) do
          {:ok, info} when elem(info, 2) == :directory -> below({path, []}, depth + 1)
          {:ok, info} -> {:ok, [{path, info}]}
          error -> error
        end
      end)
    end
  end

  # The lists of all, or the first that is none.
  defp all(list, fun) do
    Enum.reduce_while(list, {:ok, []}, fn each, {:ok, found} ->
      case fun.(each) do
        {:ok, more} -> {:cont, {:ok, more ++ found}}
        other -> {:halt, other}
      end
    end)
  end
end
