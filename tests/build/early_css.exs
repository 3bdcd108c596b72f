# Runs tailwind beside a compilation in many ways, and prints what happened (test_early_css.py).

[priv, root] = System.argv()
Mix.start()
Mix.shell(Mix.Shell.Quiet)

defmodule Shop.MixProject do
  def project do
    [
      app: :shop,
      version: "1.0.0",
      build_path: "#{:persistent_term.get(:root)}/_build",
      aliases: :persistent_term.get(:aliases)
    ]
  end
end

defmodule Tailwind do
  def configured_version, do: Application.get_env(:tailwind, :version)
  def bin_path, do: Path.join(:persistent_term.get(:root), "_build/tailwind-linux-x64")

  def bin_version do
    with {text, 0} <- System.cmd(bin_path(), ["--help"]), do: {:ok, String.trim(text)}
  end
end

defmodule Mix.Tasks.Tailwind do
  use Mix.Task

  def run(["default" | more]) do
    IO.puts("in place")
    config = Application.get_env(:tailwind, :default)
    {text, _} = System.cmd(Tailwind.bin_path(), config[:args] ++ more, cd: config[:cd])
    IO.write(text)
  end
end

defmodule Mix.Tasks.Phx.Digest do
  use Mix.Task

  def run(args),
    do: IO.puts("digest #{inspect(args)} of " <> String.trim(File.read!("priv/static/app.css")))
end

defmodule Mix.Tasks.Before do
  use Mix.Task
  def run(_), do: :ok
end

# the alias of this name means it where it names itself
defmodule Mix.Tasks.Assets.Deploy do
  use Mix.Task
  def run(_), do: :ok
end

defmodule Case do
  # `change` is the compilation.
  def run(name, change \\ fn -> :ok end, options \\ []) do
    root = "#{:persistent_term.get(:home)}/#{name}"
    :persistent_term.put(:root, root)
    last = fn args -> IO.puts("end #{inspect(args)}") end
    own = List.wrap(options[:first]) ++ ["tailwind default --minify", "phx.digest 1", last]
    :persistent_term.put(:aliases, ["assets.deploy": own] ++ Keyword.get(options, :aliases, []))

    write = fn path, text ->
      File.mkdir_p!(Path.dirname("#{root}/#{path}"))
      File.write!("#{root}/#{path}", text)
    end

    write.("lib/page.ex", "text-red")
    write.("assets/app.css", "one")
    write.("_build/prod/lib/shop/ebin/a.beam", "1")
    write.("_build/prod/lib/shop/priv/made", "1")
    write.("_build/prod/phoenix-colocated/shop/index.js", "1")
    write.("_build/tailwind-linux-x64", File.read!("#{:persistent_term.get(:home)}/program"))
    File.chmod!("#{root}/_build/tailwind-linux-x64", 0o755)
    File.cd!(root)
    if options[:fails], do: File.touch!("fails")
    args = ["--input=assets/app.css", "--output=priv/static/app.css"]
    Application.put_env(:tailwind, :version, options[:version] || "4.1.0")

    Application.put_env(
      :tailwind,
      :default,
      Keyword.merge([args: args, cd: root], options[:config] || [])
    )

    System.put_env("VERSION", Application.get_env(:tailwind, :version))
    Mix.Project.push(Shop.MixProject)
    Mix.Task.clear()
    if not Keyword.get(options, :unknown, false), do: Gatling.Binaries.keep()
    IO.puts("== #{name}")
    started = Gatling.EarlyCss.start()
    IO.puts(if started, do: "beside", else: "not beside")
    if started && !options[:fails], do: until_done()
    change.()
    if File.exists?("priv/static/app.css"), do: IO.puts("seen too early")
    Gatling.EarlyCss.deploy(started)
    IO.puts("runs #{byte_size(File.read!(System.get_env("RUNS")))}")
    File.rm!(System.get_env("RUNS"))
    File.rm(System.get_env("DONE"))
    if File.exists?("_build/gatling/css"), do: IO.puts("left")
    Mix.Project.pop()
  end

  defp until_done do
    if not File.exists?(System.get_env("DONE")) do
      Process.sleep(5)
      until_done()
    end
  end
end

:persistent_term.put(:home, root)

for file <- ~w(binaries early_css) do
  text = File.read!("#{priv}/#{file}.ex")
  true = text =~ "@settled 2"
  # what has just been written counts as unchanged for long, as it is in a second build
  other = if file == "binaries", do: String.replace(text, "@settled 2", "@settled -9"), else: text
  Code.compile_string(other)
end

Process.put(Gatling.Binaries, root <> "/kept")

nothing = fn -> :ok end
Case.run("nothing")
Case.run("modules", fn -> File.write!("_build/prod/lib/shop/ebin/b.beam", "2") end)
Case.run("same", fn -> File.write!("_build/prod/phoenix-colocated/shop/index.js", "1") end)
Case.run("source", fn -> File.write!("lib/page.ex", "text-sea") end)
Case.run("new", fn -> File.write!("lib/other.ex", "m-2") end)

Case.run("removed", fn ->
  File.rm!("lib/page.ex")
  File.write!("lib/a.ex", "")
end)

Case.run("hooks", fn -> File.write!("_build/prod/phoenix-colocated/shop/index.js", "2") end)
Case.run("priv", fn -> File.write!("_build/prod/lib/shop/priv/made", "2") end)

Case.run("output", fn ->
  File.mkdir_p!("priv/static")
  File.write!("priv/static/app.css", "x")
end)

Case.run("fails", fn -> File.rm!("fails") end, fails: true)
Case.run("config", fn -> Application.put_env(:tailwind, :version, "4.2.0") end)

Case.run("version", nothing, version: "3.4.17")
Case.run("unknown", nothing, unknown: true)
Case.run("env", nothing, config: [env: %{"A" => "1"}])
arguments = ~w(--input=assets/app.css --output=priv/static/app.css --map)
Case.run("map", nothing, config: [args: arguments])
Case.run("aliased", nothing, aliases: [tailwind: "tailwind"])

for {name, first} <- [function: fn _ -> :ok end, other: "before", itself: "assets.deploy"] do
  Case.run("#{name}", nothing, first: first)
end
