defmodule Mix.Tasks.Distillery.Init do
  use Mix.Task

  def run(arguments) do
    {_, []} = OptionParser.parse!(arguments, strict: [no_doc: :boolean, name: :string])
    name = Mix.Project.config()[:app]
    File.mkdir_p!("rel/plugins")
    cookie = for _ <- 1..32, do: Enum.random(?A..?Z)

    File.write!("rel/config.exs", """
    use Distillery.Releases.Config, default_release: :default, default_environment: Mix.env()

    environment :prod do
      set include_erts: true
      set cookie: :"#{cookie}"
      set vm_args: "rel/vm.args"
    end

    release :#{name} do
      set version: current_version(:#{name})
      set applications: [:runtime_tools]
    end
    """)

    unless File.exists?("rel/vm.args") do
      File.write!("rel/vm.args", """
      -name <%= release_name %>@127.0.0.1
      -setcookie <%= cookie %>
      """)
    end

    IO.puts("An example config file has been placed in rel/config.exs")
  end
end
