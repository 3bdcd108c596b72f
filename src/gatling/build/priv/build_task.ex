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

  def run([marker, path, release]) do
    step(marker, "mix_deps_get", fn ->
      Mix.Task.run("deps.get", ["--only", to_string(Mix.env())])
    end)

    step(marker, "mix_compile", fn -> Mix.Task.run("compile", []) end)

    if digest = digest_task() do
      step(marker, "mix_digest", fn -> Mix.Task.run(digest, []) end)
    end

    names = if release == "", do: [], else: [release]

    step(marker, "mix_release", fn ->
      Mix.Task.run("release", names ++ ["--path", path, "--overwrite", "--quiet"])
    end)

    fact(marker, "elixir", System.version())
    fact(marker, "otp", otp_version())
  end

  defp step(marker, name, fun) do
    IO.puts("#{marker} begin #{name}")
    fun.()
    IO.puts("#{marker} end #{name}")
  end

  defp fact(marker, name, value), do: IO.puts("#{marker} fact #{name} #{value}")

  # What the project itself calls its assets' build, or Phoenix' own digest.
  defp digest_task do
    cond do
      Keyword.has_key?(Mix.Project.config()[:aliases] || [], :"assets.deploy") -> "assets.deploy"
      not Enum.any?(project_directories(), &File.dir?(Path.join(&1, "priv/static"))) -> nil
      Mix.Task.get("phx.digest") -> "phx.digest"
      Mix.Task.get("phoenix.digest") -> "phoenix.digest"
      true -> nil
    end
  end

  defp project_directories, do: ["." | Map.values(Mix.Project.apps_paths() || %{})]

  # System.otp_release/0 is the major number only.
  defp otp_version do
    major = System.otp_release()

    case File.read(Path.join([:code.root_dir(), "releases", major, "OTP_VERSION"])) do
      {:ok, version} -> String.trim(version)
      {:error, _} -> major
    end
  end
end
