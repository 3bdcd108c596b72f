# Keeps the programs that esbuild and tailwind download, by version, in Gatling's own cache: a clean
# build, or another app of the same user, needs no network for them.

defmodule Gatling.Binaries do
  @moduledoc false

  @packages [Esbuild, Tailwind]

  # Other versions of a program that are kept: builds go back and forth between a few.
  @others 1
  # Seconds after which nobody makes a copy any more.
  @making 3600

  # Puts the configured versions into place; a program of another version is removed, because these
  # packages download only when there is none. So is a damaged one, wherever it is.
  def restore do
    for {package, path, version} <- used(), not current?(package, path, version) do
      File.rm(path)
      kept = kept(path, version)

      if File.regular?(kept) do
        copy(kept, path)

        if not current?(package, path, version) do
          File.rm(path)
          File.rm(kept)
        end
      end
    end
  end

  def keep do
    for {package, path, version} <- used(), current?(package, path, version) do
      kept = kept(path, version)
      if File.regular?(kept), do: File.touch(kept), else: copy(path, kept)
      trim(path, kept)
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
  defp trim(path, kept) do
    directory = Path.dirname(kept)
    name = ~r/\A#{Regex.escape(Path.basename(path))}-v?[0-9]/
    now = System.os_time(:second)

    {making, whole} =
      for(
        file <- File.ls!(directory),
        file =~ name,
        file != Path.basename(kept),
        {:ok, %{mtime: used}} <- [File.stat(Path.join(directory, file), time: :posix)],
        do: {file, used}
      )
      |> Enum.split_with(fn {file, _} -> file =~ "~" end)

    old = whole |> Enum.sort_by(fn {_, used} -> -used end) |> Enum.drop(@others)
    left = Enum.filter(making, fn {_, begun} -> now - begun > @making end)
    for {file, _} <- old ++ left, do: File.rm(Path.join(directory, file))
  end

  # Only where the packages put it by themselves: a path of the project's own is not touched.
  defp used do
    for package <- @packages,
        Code.ensure_loaded?(package),
        Enum.all?([:bin_path, :bin_version, :configured_version], &exported?(package, &1)),
        path = package.bin_path(),
        Path.dirname(path) == Path.dirname(Mix.Project.build_path()),
        version = package.configured_version(),
        is_binary(version) and version =~ ~r/\A[0-9A-Za-z.+-]{1,60}\z/,
        do: {package, path, version}
  end

  defp exported?(package, function), do: function_exported?(package, function, 0)

  defp current?(package, path, version) do
    File.regular?(path) and package.bin_version() == {:ok, version}
  rescue
    # it cannot be run
    _ -> false
  end

  defp kept(path, version) do
    Path.join([Process.get(Gatling.Binaries), "#{Path.basename(path)}-#{version}"])
  end
end
