# Assembles releases of a project in many ways, and prints whether their boot scripts were made again and
# are those that mix makes (test_boot_script.py).

[priv, made] = System.argv()

for file <- ~w(ebin erts boot_script),
    {module, beam} <- Code.compile_file("#{priv}/#{file}.ex") do
  File.write!("#{made}/#{module}.beam", beam)
end

Gatling.Ebin.compile(made)
original = :code.which(Mix.Release)
:code.add_patha(String.to_charlist(made))

for module <- [Gatling.Ebin, Gatling.Erts, Gatling.BootScript] do
  :code.purge(module)
  {:module, _} = :code.load_file(module)
end

load = fn file ->
  :code.purge(Mix.Release)
  {:module, _} = :code.load_abs(String.to_charlist(Path.rootname(to_string(file))))
end

Mix.start()
Mix.shell(Mix.Shell.Quiet)
Code.eval_file("mix.exs")
kept = "_build/gatling/boot"

scripts = fn ->
  for name <- ~w(start.boot start.script start_clean.boot start_clean.script shop.rel) do
    File.read!("out/releases/1.0.0/#{name}")
  end
end

release = fn ->
  for task <- ~w(compile release), do: Mix.Task.reenable(task)
  Mix.Task.run("release", ~w(--path out --overwrite --quiet))
  scripts.()
end

build = fn name, change ->
  change.()
  Mix.Task.clear()
  Mix.Task.run("compile", [])
  before = for file <- Path.wildcard(kept <> "/*"), do: {file, File.stat!(file).inode}
  load.("#{made}/Elixir.Mix.Release.beam")
  Gatling.Ebin.start(true)
  ours = release.()
  later = for file <- Path.wildcard(kept <> "/*"), do: {file, File.stat!(file).inode}
  load.(original)
  same = if ours == release.(), do: "as mix", else: "not as mix"
  IO.puts("#{name}: #{if before == later, do: "kept", else: "made"}, #{same}")
end

nothing = fn -> :ok end
build.("first", nothing)
build.("path", nothing)
build.("again", nothing)

build.("code", fn -> File.write!("lib/shop.ex", "defmodule Shop do\n  def b, do: 2\nend") end)
build.("module", fn -> File.write!("lib/more.ex", "defmodule More do\nend") end)
build.("again", nothing)
build.("removed", fn -> File.rm!("lib/more.ex") end)

build.("damaged", fn ->
  for file <- Path.wildcard(kept <> "/*"), do: File.write!(file, "\x83h")
end)

build.("empty", fn -> for file <- Path.wildcard(kept <> "/*"), do: File.write!(file, "") end)
build.("again", nothing)
