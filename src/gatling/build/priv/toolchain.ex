# The Elixir and OTP that a project asks for, against those that build it.

defmodule Gatling.Toolchain do
  @moduledoc false

  @mise ~w(mise.toml .mise.toml mise/config.toml .mise/config.toml .config/mise.toml)

  # Raises when the project asks for a newer version than there is: its code may use what an older
  # one lacks. A newer toolchain is only reported. The facts name the version to install.
  def check(marker) do
    for {tool, name, have, depth} <- [
          {"elixir", "Elixir", System.version(), 2},
          {"erlang", "OTP", otp_version(), 1}
        ],
        {file, asked, wanted} <- first(tool) do
      {:ok, present} = numbers(have)

      case {Enum.take(wanted, depth), Enum.take(present, depth)} do
        {same, same} ->
          :ok

        {older, newer} when older < newer ->
          Mix.shell().info("#{name} #{have} is newer than the #{asked} of #{file}")

        _ ->
          refuse(marker, "#{name} #{asked} (#{file})", have, wanted, tool)
      end
    end

    if not allowed?() do
      wanted = Mix.Project.config()[:elixir]
      first = Regex.run(~r/\d+\.\d+/, wanted) || [""]
      refuse(marker, "Elixir #{wanted} (mix.exs)", System.version(), first, "elixir")
    end
  end

  def asked?, do: Enum.any?(files(), &File.regular?/1)

  # As mix checks it, but before dependencies are got; mix.exs may compute its `elixir:`.
  def allowed? do
    with wanted when is_binary(wanted) <- Mix.Project.config()[:elixir],
         {:ok, requirement} <- Version.parse_requirement(wanted) do
      Version.match?(System.version(), requirement)
    else
      _ -> true
    end
  end

  defp refuse(marker, needs, have, numbers, tool) do
    prefix = if tool == "erlang", do: "/", else: ""
    IO.puts("#{marker} fact missing toolchain #{prefix}#{Enum.join(numbers, ".")}")
    Mix.raise("The project requires #{needs}, and this host has #{have}.")
  end

  # System.otp_release/0 is the major number only.
  def otp_version do
    major = System.otp_release()

    case File.read(Path.join([:code.root_dir(), "releases", major, "OTP_VERSION"])) do
      {:ok, version} -> String.trim(version)
      {:error, _} -> major
    end
  end

  # The first file that names a version of the tool which can be compared.
  defp first(tool) do
    Enum.take(
      for(
        file <- files(),
        {:ok, text} <- [File.read(file)],
        asked <- versions(Path.basename(file), text, tool),
        {:ok, wanted} <- [numbers(asked)],
        do: {file, asked, wanted}
      ),
      1
    )
  end

  defp files, do: [".tool-versions"] ++ @mise ++ ["elixir_buildpack.config"]

  defp versions(".tool-versions", text, tool) do
    for line <- lines(text), [^tool, asked | _] <- [String.split(line)], do: asked
  end

  # https://github.com/HashNuke/heroku-buildpack-elixir: a file that a shell sources
  defp versions("elixir_buildpack.config", text, tool) do
    for line <- lines(text),
        [_, asked] <- [Regex.run(~r/^\s*#{tool}_version=["']?([^"'\s]+)/, line)] do
      asked
    end
  end

  # The table [tools]: a text, a list of them, or a table with `version`; the first text is taken.
  defp versions(_mise, text, tool) do
    text
    |> lines()
    |> Enum.reduce({nil, []}, fn line, {section, found} ->
      case {Regex.run(~r/^\s*\[\s*([^\]]*?)\s*\]/, line), section} do
        {[_, other], _} -> {other, found}
        {nil, "tools"} -> {section, found ++ of_tool(line, tool)}
        {nil, _} -> {section, found}
      end
    end)
    |> elem(1)
  end

  defp of_tool(line, tool) do
    case Regex.run(~r/^\s*["']?#{tool}["']?\s*=[^"']*["']([^"']+)["']/, line) do
      [_, asked] -> [asked]
      nil -> []
    end
  end

  defp lines(text) do
    for line <- String.split(text, "\n"), do: hd(String.split(line, "#"))
  end

  # 1.18.1-otp-27 → [1, 18, 1]; `latest` or `ref:…` cannot be compared.
  defp numbers(version) do
    case Regex.run(~r/^v?(\d+(\.\d+)*)/, version) do
      [_, found | _] -> {:ok, found |> String.split(".") |> Enum.map(&String.to_integer/1)}
      nil -> :error
    end
  end
end
