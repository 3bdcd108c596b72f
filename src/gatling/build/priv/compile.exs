# Compiles what builds and nodes need, for the Elixir and OTP that run this, into a directory.

[compiled, tools, priv] = System.fetch_env!("GATLING_COMPILE") |> String.split("\n")
making = "#{compiled}.#{System.pid()}"
File.mkdir_p!(making)

# each after those that it calls
files =
  ~w(binaries.ex early_css.ex assets.ex boot.ex build_paths.ex callbacks.ex distillery.ex ebin.ex) ++
    ~w(boot_script.ex erts.ex fresh.ex toolchain.ex build_task.ex)

for file <- files,
    {module, beam} <- Code.compile_file(Path.join(priv, file)) do
  File.write!(Path.join(making, "#{module}.beam"), beam)
end

Gatling.Ebin.compile(making)

# This build loads them from their files, as the next ones do: what it keeps lies beside them.
for file <- File.ls!(making), module = file |> Path.rootname() |> String.to_atom() do
  if :code.is_loaded(module) != false and module != Mix.Release do
    :code.delete(module)
    :code.purge(module)
  end
end

for source <- Path.wildcard(Path.join(tools, "*.erl")) do
  options = [:deterministic, :report_errors, outdir: String.to_charlist(making)]
  {:ok, _module} = :compile.file(String.to_charlist(source), options)
end

# another build may have been quicker
with {:error, _} <- File.rename(making, compiled), do: File.rm_rf!(making)
