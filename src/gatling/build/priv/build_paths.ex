# Finds paths of the build directory that have been compiled into the project's own modules, such as
# @file Path.join(__DIR__, "data.json"): an instance finds nothing there, or files of a later build.

defmodule Gatling.BuildPaths do
  @moduledoc false

  @shown 3

  # Begins to look, beside what else is done with the compiled modules.
  def look do
    root = File.cwd!() <> "/"
    beams = beams()

    Task.async(fn ->
      for beam <- beams,
          path <- Enum.take(paths(literals(beam), root), 1),
          do: {module(beam), path}
    end)
  end

  def warn(looking) do
    found = Task.await(looking, :infinity)

    for {module, path} <- Enum.take(found, @shown) do
      Mix.shell().info(
        "warning: #{module} contains the path #{path} of the build directory. " <>
          "Use Application.app_dir/2 at run time."
      )
    end

    if length(found) > @shown do
      Mix.shell().info("warning: #{length(found) - @shown} more modules contain such paths.")
    end
  end

  defp beams do
    apps = Map.keys(Mix.Project.apps_paths() || %{Mix.Project.config()[:app] => "."})

    for app <- apps,
        beam <- Path.wildcard(Path.join([Mix.Project.build_path(), "lib/#{app}/ebin/*.beam"])),
        do: beam
  end

  defp module(beam), do: beam |> Path.basename(".beam") |> String.replace_prefix("Elixir.", "")

  # Erlang/OTP, lib/compiler/src/beam_asm.erl: uncompressed where the first word is 0 (OTP 28), else
  # the size of what zlib has packed.
  defp literals(beam) do
    # read as a whole: the library reads a file in many small parts
    with {:ok, binary} <- File.read(beam),
         {:ok, {_, [{_, <<packed::32, text::binary>>}]}} <-
           :beam_lib.chunks(binary, [~c"LitT"], [:allow_missing_chunks]) do
      if packed == 0, do: text, else: :zlib.uncompress(text)
    else
      _ -> ""
    end
  end

  # Sources are named by many macros, harmlessly; what was compiled of dependencies as well.
  defp paths(text, root) do
    for {start, size} <- :binary.matches(text, root),
        rest = binary_part(text, start + size, min(256, byte_size(text) - start - size)),
        [path] <- [Regex.run(~r/^[\w.\/@+-]+/, rest)],
        not String.starts_with?(path, ["lib/", "deps/", "src/", "web/", "config/", "mix.exs"]),
        not (path =~ ~r/^apps\/[^\/]+\/(lib|src|mix\.exs)/),
        path != "_build" and not (path =~ ~r/^_build\/[^\/]+(\/lib)?\/?$/),
        File.exists?(root <> path),
        do: path
  end
end
