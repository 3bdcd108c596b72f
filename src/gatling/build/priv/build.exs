# The whole build in one VM: `elixir build.exs CACHE MARKER STAGING RELEASE`, in the project's
# directory, with MIX_ENV set.
#
# This script is evaluated, not compiled, and the task itself (build_task.ex) is compiled once for
# each Elixir and OTP, which saves every build the time to do so.

[cache | arguments] = System.argv()

versions = "#{System.version()}-#{System.otp_release()}-#{:erlang.system_info(:version)}"
compiled = Path.join(cache, versions)

unless File.dir?(compiled) do
  making = "#{compiled}.#{System.pid()}"
  File.mkdir_p!(making)

  for {module, beam} <- Code.compile_file(Path.join(__DIR__, "build_task.ex")) do
    File.write!(Path.join(making, "#{module}.beam"), beam)
  end

  # another build may have been quicker
  with {:error, _} <- File.rename(making, compiled), do: File.rm_rf!(making)
end

Code.prepend_path(compiled)
Mix.start()
Mix.shell(Gatling.Shell)
Mix.CLI.main(["gatling.build" | arguments])
