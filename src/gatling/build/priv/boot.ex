# Writes a boot script (script(4) of OTP) with which the next VM of a build starts. Elixir starts one
# module after the other, each looked for in every directory of the code path; a boot script loads all
# that a build needs at once, on all cores.

defmodule Gatling.Boot do
  @moduledoc false

  # Applications whose modules are loaded so. Nothing of the project: it would change with each build.
  @applications ~w(kernel stdlib compiler elixir mix)a

  # Writes FILE.boot unless it is there already, for the toolchain in `root` (of OTP) and `elixir`
  # (the program), and FILE.seen: the files and directories that it was made from, for Gatling to
  # compare before it uses the script. It is tried first: without it, builds work as well.
  def write(file, root, elixir, own) do
    directories = [own | for(app <- @applications, do: directory(app))]
    clean = Path.join([:code.root_dir(), "bin", "start_clean.boot"])
    # what is compiled for builds never changes, but more is kept in its directory
    seen = seen([clean, beam(own, __MODULE__) | tl(directories)])

    # a version manager's program may start another toolchain than the one that it lies in
    if same?(root, :code.root_dir()) and same?(library(elixir), directory(:elixir)) and
         File.read(file <> ".seen") != {:ok, seen} do
      File.rm(file <> ".boot")
      making = "#{file}-#{System.pid()}"

      with {:ok, script} <- script(clean, directories),
           :ok <- File.write(making <> ".boot", :erlang.term_to_binary(script)),
           true <- starts?(elixir, making) do
        File.rename(making <> ".boot", file <> ".boot")
      end

      # also of one that does not start: it is not tried again
      File.rm(making <> ".boot")
      with :ok <- File.write(making, seen), do: File.rename(making, file <> ".seen")
    end
  end

  # The script of OTP without applications, with the modules that are loaded now before it leaves the
  # loading to the code server.
  defp script(clean, directories) do
    with {:ok, binary} <- File.read(clean),
         {:script, name, instructions} <- :erlang.binary_to_term(binary),
         {first, [{:kernel_load_completed} | _] = others} <-
           Enum.split_while(instructions, &(&1 != {:kernel_load_completed})),
         {:path, path} <- List.keyfind(first, :path, 0) do
      # Not Gatling's own Mix.Release: `elixir` puts the directory of mix before all of the script.
      once? = fn module -> Enum.count(directories, &File.exists?(beam(&1, module))) == 1 end
      modules = for {module, _} <- :code.all_loaded(), once?.(module), do: module
      own = Enum.map(directories, &String.to_charlist/1)

      {:ok,
       {:script, name, first ++ [{:path, own}, {:primLoad, modules}, {:path, path}] ++ others}}
    else
      _ -> :error
    end
  end

  defp starts?(elixir, script) do
    arguments = ["--boot", script, "-e", "IO.write(Mix.Release.module_info(:module))"]
    {said, status} = System.cmd(elixir, arguments, stderr_to_stdout: true)
    {said, status} == {"Elixir.Mix.Release", 0}
  end

  defp directory(app), do: app |> :code.lib_dir() |> Path.join("ebin")

  defp library(elixir), do: Path.join([Path.dirname(elixir), "..", "lib", "elixir", "ebin"])

  defp same?(one, other) do
    with {:ok, first} <- File.stat(one),
         {:ok, second} <- File.stat(other),
         do: {first.major_device, first.inode} == {second.major_device, second.inode},
         else: (_ -> false)
  end

  defp beam(directory, module), do: Path.join(directory, "#{module}.beam")

  defp seen(paths) do
    for path <- paths, {:ok, info} <- [File.stat(path, time: :posix)], into: "" do
      "#{info.inode} #{info.mtime} #{info.size} #{Path.expand(path)}\n"
    end
  end
end
