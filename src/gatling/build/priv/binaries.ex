# Keeps the programs that esbuild and tailwind download, by version, in Gatling's own cache: a clean
# build, or another app of the same user, needs no network for them.

defmodule Gatling.Binaries do
  @moduledoc false

  @packages [esbuild: Esbuild, tailwind: Tailwind]

  # The note of the programs that were there after the build before.
  @note "_build/gatling/binaries"
  # A file that was changed less than this many seconds ago may change again without a trace.
  @settled 2

  # Other versions of a program that are kept: builds go back and forth between a few.
  @others 1
  # Seconds after which nobody makes a copy any more.
  @making 3600

  # Whether this file is the program of this version, as far as it is known without a run of it.
  def known?(path, version) do
    identity = identity(path)
    identity != nil and read()[{path, version}] == identity
  end

  # Runs `fun`, which uses the programs, with the configured versions in place, and keeps what it
  # has downloaded.
  def around(fun) do
    found = restore()
    checks = for app <- checked(found), do: {app, Application.fetch_env(app, :version_check)}
    for {app, _} <- checks, do: Application.put_env(app, :version_check, false)

    try do
      fun.()
    after
      for {app, before} <- checks do
        case before do
          {:ok, value} -> Application.put_env(app, :version_check, value)
          :error -> Application.delete_env(app, :version_check)
        end
      end
    end

    keep(found)
  end

  # Puts the configured versions into place; a program of another version is removed, because these
  # packages download only when there is none. So is a damaged one, wherever it is. Returns those
  # that are there, each with its identity, or nil if it may still change.
  def restore do
    noted = read()
    programs = programs()

    for program <- programs, not current?(program, noted) do
      File.rm(program.path)
      kept = kept(program)

      if File.regular?(kept) do
        copy(kept, program.path)

        if not answers?(program) do
          File.rm(program.path)
          File.rm(kept)
        end
      end
    end

    for program <- programs, File.regular?(program.path), do: {program, identity(program.path)}
  end

  # Keeps the configured versions. Those that `restore` has found, and that are as they were, are not
  # run again.
  def keep(found \\ []) do
    programs = programs()

    current =
      for(program <- programs, do: {program, identity(program.path)})
      |> Enum.filter(fn {program, identity} = now ->
        (identity != nil and now in found) or answers?(program)
      end)

    for {program, _} <- current do
      kept = kept(program)
      if File.regular?(kept), do: File.touch(kept), else: copy(program.path, kept)
    end

    for {program, _} <- current, do: trim(program, programs)
    write(for {program, identity} <- current, identity != nil, do: {key(program), identity})
  end

  # Whether the configured version is there, without a run of a program that is as it was when it
  # was last asked: tailwind's has 112 MB and takes 0.1 s for an answer.
  defp current?(program, noted) do
    identity = identity(program.path)
    (identity != nil and noted[key(program)] == identity) or answers?(program)
  end

  defp answers?(%{path: path, version: version, package: package, asked: arguments}) do
    File.regular?(path) and apply(package, :bin_version, arguments) == {:ok, version}
  rescue
    # it cannot be run
    _ -> false
  end

  # The packages ask their programs for the version again whenever they start, and would warn of
  # another one. A version that is not configured at all is left to their warning.
  defp checked(found) do
    for {app, _} <- @packages,
        Application.get_env(app, :version) != nil,
        used = for({%{app: ^app} = program, _} <- found, do: program),
        used != [] and length(used) == Enum.count(programs(), &(&1.app == app)),
        do: app
  end

  defp key(%{path: path, version: version}), do: {path, version}

  # Size, inode, and the times of the last change of contents and of anything; nil for what has just
  # changed, or cannot be run.
  defp identity(path) do
    last = System.os_time(:second) - @settled

    with {:ok, info} <- :file.read_link_info(path, [:raw, time: :posix]),
         :regular <- elem(info, 2),
         true <- Bitwise.band(elem(info, 7), 0o100) != 0,
         true <- max(elem(info, 5), elem(info, 6)) < last do
      {elem(info, 1), elem(info, 11), elem(info, 5), elem(info, 6)}
    else
      _ -> nil
    end
  end

  defp read do
    with {:ok, binary} <- File.read(@note),
         %{} = noted <- :erlang.binary_to_term(binary, [:safe]) do
      noted
    else
      _ -> %{}
    end
  rescue
    # not a term: the disk was full, or the machine went down
    ArgumentError -> %{}
  end

  defp write(identities) do
    noted = Map.new(identities)

    if noted != read() do
      making = "#{@note}.#{System.pid()}"
      File.mkdir_p!(Path.dirname(@note))
      File.write!(making, :erlang.term_to_binary(noted))
      File.rename!(making, @note)
    end
  end

  # Whole or not there, also after a kill or a power cut.
  defp copy(from, to) do
    making = "#{to}~#{System.pid()}"
    File.mkdir_p!(Path.dirname(to))

    with :ok <- File.cp(from, making),
         :ok <- File.chmod(making, 0o755),
         {:ok, file} <- :file.open(making, [:read, :write, :raw]),
         :ok <- :file.sync(file),
         :ok <- :file.close(file),
         :ok <- File.rename(making, to) do
      :ok
    else
      _ -> File.rm(making)
    end
  end

  # Removes what interrupted builds have left of copies, and the versions that were used longest ago.
  # Of the build directory, all versions that are not used: since tailwind 0.5 each has a file.
  defp trim(program, programs) do
    directory = Path.dirname(kept(program))
    used = for each <- programs, do: Path.basename(kept(each))
    now = System.os_time(:second)

    {making, whole} =
      for(
        file <- versions(directory, program),
        file not in used,
        {:ok, %{mtime: used}} <- [File.stat(Path.join(directory, file), time: :posix)],
        do: {file, used}
      )
      |> Enum.split_with(fn {file, _} -> file =~ "~" end)

    old = whole |> Enum.sort_by(fn {_, used} -> -used end) |> Enum.drop(@others)
    left = Enum.filter(making, fn {_, begun} -> now - begun > @making end)
    for {file, _} <- old ++ left, do: File.rm(Path.join(directory, file))

    build = Path.dirname(program.path)
    paths = for each <- programs, do: each.path

    for file <- [name(program) | versions(build, program)],
        path = Path.join(build, file),
        path not in paths,
        do: File.rm(path)
  end

  # The files of a program that have a version in their names.
  defp versions(directory, program) do
    name = ~r/\A#{Regex.escape(name(program))}-v?[0-9]/
    for file <- File.ls!(directory), file =~ name, do: file
  end

  # Only where the packages put it by themselves: a path of the project's own is not touched.
  defp programs do
    for {app, package} <- @packages,
        Code.ensure_loaded?(package),
        {path, version, arguments} <- configured(package),
        Path.dirname(path) == Path.dirname(Mix.Project.build_path()),
        is_binary(version) and version =~ ~r/\A[0-9A-Za-z.+-]{1,60}\z/,
        do: %{app: app, package: package, path: path, version: version, asked: arguments}
  end

  # The path of each program, its version, and the arguments with which the package asks for it: since
  # tailwind 0.5 each profile may have another version.
  defp configured(package) do
    profiles = if exported?(package, profiles: 0, bin_path: 1), do: package.profiles(), else: []

    cond do
      profiles != [] ->
        for {profile, _} <- profiles, version = package.configured_version(profile) do
          {package.bin_path(version), version, [profile]}
        end
        |> Enum.uniq_by(fn {path, version, _} -> {path, version} end)

      exported?(package, bin_path: 0, bin_version: 0, configured_version: 0) ->
        [{package.bin_path(), package.configured_version(), []}]

      true ->
        []
    end
  end

  defp exported?(package, functions),
    do: Enum.all?(functions, fn {name, arity} -> function_exported?(package, name, arity) end)

  # A program's name without the version, which newer packages put there.
  defp name(%{path: path, version: version}),
    do: path |> Path.basename() |> String.replace_suffix("-#{version}", "")

  defp kept(program),
    do: Path.join(Process.get(Gatling.Binaries), "#{name(program)}-#{program.version}")
end
