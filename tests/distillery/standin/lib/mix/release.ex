defmodule Mix.Tasks.Distillery.Release do
  use Mix.Task

  @hooks ~w(pre_configure post_configure pre_start post_start pre_stop post_stop)a
  @of_mix ~w(elixir iex env.sh env.bat remote.vm.args vm.args runtime.exs)
  @switches [env: :string, name: :string, no_tar: :boolean, quiet: :boolean]

  def run(arguments) do
    {options, []} = OptionParser.parse!(arguments, strict: @switches)

    unless File.exists?("rel/config.exs") do
      IO.puts("You are missing a release config file. Run the distillery.init task first")
      System.halt(1)
    end

    environment = String.to_atom(options[:env] || "#{Mix.env()}")
    wanted = options[:name] && String.to_atom(options[:name])
    {name, settings} = Distillery.Releases.Config.read(environment, wanted)
    root = Path.join([Mix.Project.build_path(), "rel", "#{name}"])
    mix = ["--path", root, "--version", settings[:version], "--overwrite", "--quiet"]
    Mix.Task.run("release", mix)
    variables = [release_name: name, release_version: settings[:version]] ++ settings
    make(root, "#{name}", "#{settings[:version]}", settings, variables)
    unless options[:no_tar], do: Mix.raise("this stand-in packs nothing")
  end

  defp make(root, name, version, settings, variables) do
    directory = Path.join([root, "releases", version])
    for file <- @of_mix, do: File.rm(Path.join(directory, file))
    consolidated = Path.join([root, "lib", "#{name}-#{version}", "consolidated"])
    File.rename!(Path.join(directory, "consolidated"), consolidated)

    vm_args = settings[:vm_args] || Path.join(priv(), "vm.args")
    File.write!(Path.join(directory, "vm.args"), EEx.eval_file(vm_args, variables))
    configure(Path.join(directory, "sys.config"), settings)
    entry = Path.join([root, "bin", name])
    script = Path.join(directory, "#{name}.sh")

    for {from, to} <- [{"entry.sh", entry}, {"main.sh", script}] do
      File.write!(to, EEx.eval_file(Path.join(priv(), from), variables))
      File.chmod!(to, 0o755)
    end

    for hook <- @hooks do
      into = Path.join([directory, "hooks", "#{hook}.d"])
      File.mkdir_p!(into)
      if from = settings[:"#{hook}_hooks"], do: File.cp_r!(from, into)
    end

    File.mkdir_p!(Path.join(directory, "commands"))

    for {command, from} <- settings[:commands] || [],
        do: File.cp!(from, Path.join([directory, "commands", "#{command}.sh"]))

    for overlay <- settings[:overlays] || [], do: overlay(root, overlay, variables)

    # as genuine Distillery has it: relative to where it is, and so, since OTP 25, to OTP's root
    rel_file = String.to_charlist(Path.expand(Path.join(directory, "#{name}.rel")))
    here = File.cwd!()
    File.cd!(root)
    :ok = :release_handler.create_RELEASES(~c"./", ~c"releases", rel_file, [])
    File.cd!(here)
  end

  defp overlay(root, {:mkdir, to}, _), do: File.mkdir_p!(Path.join(root, to))
  defp overlay(root, {:copy, from, to}, _), do: File.cp!(from, Path.join(root, to))

  defp overlay(root, {:template, from, to}, variables),
    do: File.write!(Path.join(root, to), EEx.eval_file(from, variables))

  defp configure(file, settings) do
    {:ok, [config]} = :file.consult(file)
    own = [distillery: [config_providers: settings[:config_providers] || []]]
    text = :io_lib.format(~c"~tp.~n", [Keyword.delete(config, :elixir) ++ own])
    File.write!(file, text)
  end

  defp priv, do: List.to_string(:code.priv_dir(:distillery))
end
