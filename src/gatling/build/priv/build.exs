# The whole build in one VM: `elixir -e EVAL build.exs CACHE TOOLS [BOOT OTP ELIXIR]`, in the
# project's directory, with MIX_ENV set. EVAL evaluates this file: Elixir compiles what it is given as
# a file, and loads the compiler for that, one module after the other. BOOT is the file with which the
# next VM starts quicker (boot.ex). The VM then waits for a line on its standard input, since the
# source may not be there yet: in Base64, separated by zeros, DIRECTORY MARKER STAGING RELEASE GIT
# [FILE]. GIT is the git directory of the source. FILE, which may be empty, is there when
# there are callbacks.
#
# The task itself (build_task.ex), and what Gatling runs in nodes of releases, are compiled once for
# each Elixir and OTP (compile.exs).

[_script, cache, tools | boot] = System.argv()
erts = List.to_string(:erlang.system_info(:version))
compiled = cache <> "/" <> System.version() <> "-" <> System.otp_release() <> "-" <> erts

unless File.dir?(compiled) do
  System.put_env("GATLING_COMPILE", Enum.join([compiled, tools, __DIR__], "\n"))
  Code.eval_file(__DIR__ <> "/compile.exs")
  System.delete_env("GATLING_COMPILE")
end

:code.add_patha(String.to_charlist(compiled))
# now: when mix compiles a dependency it takes from the code path what that one does not name
:ok =
  :code.ensure_modules_loaded([
    Gatling.Boot,
    Gatling.BootScript,
    Gatling.Shell,
    Gatling.Waiting,
    Gatling.Assets,
    Gatling.Binaries,
    Gatling.Distillery,
    Gatling.EarlyCss,
    Gatling.Ebin,
    Gatling.Erts,
    Gatling.BuildPaths,
    Gatling.Fresh,
    Gatling.Toolchain
  ])

# beside the directory of this version of Gatling: what is kept there outlives an update
Process.put(Gatling.Binaries, Path.join(Path.dirname(cache), "bin"))
Mix.start()
Mix.shell(Gatling.Shell)
Gatling.Waiting.load()
with [file, root, elixir] <- boot, do: Gatling.Boot.write(file, root, elixir, compiled)

case IO.read(:stdio, :line) do
  line when is_binary(line) ->
    [directory | arguments] = line |> String.trim() |> Base.decode64!() |> String.split(<<0>>)

    # again: the checkout may have replaced it
    File.cd!(directory)
    Mix.CLI.main(["gatling.build" | arguments])

  # nobody is there any more
  _ ->
    System.halt(0)
end
