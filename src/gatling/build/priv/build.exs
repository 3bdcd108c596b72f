# The whole build in one VM: `elixir build.exs CACHE TOOLS MARKER STAGING RELEASE`, in the project's
# directory, with MIX_ENV set.
#
# This script is evaluated, not compiled. The task itself (build_task.ex), and what Gatling runs in
# nodes of releases (the Erlang modules in TOOLS), are compiled once for each Elixir and OTP.

[cache, tools | arguments] = System.argv()

versions = "#{System.version()}-#{System.otp_release()}-#{:erlang.system_info(:version)}"
compiled = Path.join(cache, versions)

unless File.dir?(compiled) do
  making = "#{compiled}.#{System.pid()}"
  File.mkdir_p!(making)

  for {module, beam} <- Code.compile_file(Path.join(__DIR__, "build_task.ex")) do
    File.write!(Path.join(making, "#{module}.beam"), beam)
  end

  for source <- Path.wildcard(Path.join(tools, "*.erl")) do
    options = [:deterministic, :report_errors, outdir: String.to_charlist(making)]
    {:ok, _module} = :compile.file(String.to_charlist(source), options)
  end

  # another build may have been quicker
  with {:error, _} <- File.rename(making, compiled), do: File.rm_rf!(making)
end

Code.prepend_path(compiled)
Mix.start()
Mix.shell(Gatling.Shell)
Mix.CLI.main(["gatling.build" | arguments])
