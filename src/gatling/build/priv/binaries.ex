# Keeps the programs that esbuild and tailwind download, by version, in Gatling's own cache: a clean
# build, or another app of the same user, needs no network for them.

defmodule Gatling.Binaries do
  @moduledoc false

  @packages [Esbuild, Tailwind]

  # Puts the configured versions into place; a program of another version is removed, because these
  # packages download only when there is none.
  def restore do
    for {package, path, version} <- used(), not current?(package, path, version) do
      File.rm(path)

      if File.regular?(kept(path, version)) do
        File.mkdir_p!(Path.dirname(path))
        File.cp(kept(path, version), path)
      end
    end
  end

  def keep do
    for {package, path, version} <- used(),
        not File.regular?(kept(path, version)),
        current?(package, path, version) do
      making = "#{kept(path, version)}.#{System.pid()}"
      File.mkdir_p!(Path.dirname(making))
      with :ok <- File.cp(path, making), do: File.rename(making, kept(path, version))
    end
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
  end

  defp kept(path, version) do
    Path.join([Process.get(Gatling.Binaries), "#{Path.basename(path)}-#{version}"])
  end
end
