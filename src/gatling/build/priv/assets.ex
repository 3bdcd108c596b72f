# The needs of a project's assets, read from mix when the dependencies are there.

defmodule Gatling.Assets do
  @moduledoc false

  @task "assets.deploy"
  @stamp "node_modules/.gatling"

  # The project's own task for its assets, in an umbrella each app that has one, or else
  # Phoenix' own digest; nil when there is nothing to do. The function is
  # given what was started of the project's own task.
  def digest do
    apps = for {app, path} <- apps(), within(app, path, &own_task/0), do: {app, path}

    cond do
      own_task() -> &Gatling.EarlyCss.deploy/1
      # mix' own way into an umbrella's apps knows of no aliases that they alone have
      apps != [] -> fn _ -> for {app, path} <- apps, do: within(app, path, &run/0) end
      not Enum.any?(directories(), &File.dir?(Path.join(&1, "priv/static"))) -> nil
      Mix.Task.get("phx.digest") -> fn _ -> Mix.Task.run("phx.digest", []) end
      Mix.Task.get("phoenix.digest") -> fn _ -> Mix.Task.run("phoenix.digest", []) end
      true -> nil
    end
  end

  # A priv that digesting has made: compiling has linked those that were there.
  def link do
    if not Mix.Project.umbrella?(), do: Mix.Project.build_structure()
    for {app, path} <- apps(), do: within(app, path, &Mix.Project.build_structure/0)
  end

  defp run, do: Mix.Task.run(@task, [])
  defp own_task, do: Keyword.get(Mix.Project.config()[:aliases] || [], :"assets.deploy")
  defp within(app, path, fun), do: Mix.Project.in_project(app, path, fn _ -> fun.() end)
  defp apps, do: Enum.sort(Mix.Project.apps_paths() || %{})
  defp directories, do: ["" | Enum.map(apps(), &elem(&1, 1))]

  # The directories whose package.json requires packages that are missing or of another version.
  def npm_directories do
    for directory <- directories(),
        assets = Path.join(directory, "assets"),
        {:ok, package} <- [File.read(Path.join(assets, "package.json"))],
        # without a parser of JSON: a list of dependencies that is not empty
        package =~ ~r/"([a-z]*[dD]ependencies"\s*:\s*\{\s*"|workspaces"\s*:)/,
        npms?(assets),
        File.read(Path.join(assets, @stamp)) != {:ok, wanted(assets)},
        do: assets
  end

  # Another package manager's project has it run by its own task.
  defp npms?(assets) do
    others =
      for file <- ~w(yarn.lock pnpm-lock.yaml bun.lock bun.lockb), there?(assets, file), do: file

    others == [] or there?(assets, "package-lock.json")
  end

  def npm, do: System.find_executable("npm")

  def npm_install(assets) do
    npm =
      npm() ||
        Mix.raise("#{assets}/package.json needs npm packages, and npm is not installed here")

    # npm ci wants a lock file, and npm install would leave one that nobody has written
    command =
      if there?(assets, "package-lock.json"), do: ~w(ci), else: ~w(install --no-package-lock)

    # what builds assets is often among the development's
    arguments = command ++ ~w(--include=dev --no-audit --no-fund)
    wanted = wanted(assets)
    stamp = Path.join(assets, @stamp)
    File.rm(stamp)
    options = [:binary, :exit_status, :stderr_to_stdout, line: 4096, args: arguments, cd: assets]
    status = told(Port.open({:spawn_executable, npm}, options))

    if status != 0 do
      Mix.raise("npm #{hd(command)} in #{assets} exited with status #{status}")
    end

    File.mkdir_p!(Path.dirname(stamp))
    File.write!(stamp, wanted)
  end

  # Prints a program's output, line by line, whatever its bytes; returns the exit status.
  defp told(port) do
    receive do
      {^port, {:data, {_, line}}} ->
        IO.puts(if String.valid?(line), do: line, else: inspect(line))
        told(port)

      {^port, {:exit_status, status}} ->
        status
    end
  end

  # Names what npm makes the packages from: what the project says, and the npm that reads it.
  defp wanted(assets) do
    said =
      for file <- ~w(package.json package-lock.json .npmrc),
          do: File.read(Path.join(assets, file))

    npm = npm() || ""
    made = with {:ok, stat} <- File.stat(npm), do: stat.mtime
    Base.encode16(:erlang.md5(:erlang.term_to_binary({said, npm, made})))
  end

  defp there?(assets, file), do: File.exists?(Path.join(assets, file))
end
