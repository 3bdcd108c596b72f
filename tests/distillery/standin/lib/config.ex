# A stand-in for Distillery 2.1 in tests: its tasks, its file and its script, as far as they are
# documented, around the release that mix itself makes. Nothing here is Distillery's own code.

defmodule Distillery.Releases.Config do
  @moduledoc "What rel/config.exs is written in; `read/2` evaluates it."

  defmacro __using__(_options) do
    quote do: import(unquote(__MODULE__))
  end

  defmacro environment(name, do: block), do: section(:environment, name, block)
  defmacro release(name, do: block), do: section(:release, name, block)

  defp section(kind, name, block) do
    quote do
      Process.put(:section, {unquote(kind), unquote(name)})
      Process.put(unquote(kind), [unquote(name) | Process.get(unquote(kind), [])])
      unquote(block)
    end
  end

  def set(options) do
    section = Process.get(:section)
    Process.put(section, Keyword.merge(Process.get(section, []), options))
  end

  def current_version(_app), do: Mix.Project.config()[:version]

  @doc "The release's name, the first one's unless it is given, and its settings."
  def read(environment, name) do
    Enum.each([:environment, :release], &Process.delete/1)
    Code.eval_file("rel/config.exs")
    names = Process.get(:release, []) |> Enum.reverse()
    name = name || hd(names)
    unless name in names, do: Mix.raise("could not find a release named #{name}")

    unless environment in Process.get(:environment, []) do
      Mix.raise("could not find an environment named #{environment}")
    end

    settings = Process.get({:environment, environment}, [])
    {name, Keyword.merge(Process.get({:release, name}, []), settings)}
  end
end

defmodule Distillery.Releases.Config.Providers.Elixir do
  def init([path]), do: Config.Reader.read!(expanded(path), env: :prod)

  defp expanded(path) do
    String.replace(path, "${RELEASE_ROOT_DIR}", System.fetch_env!("RELEASE_ROOT_DIR"))
  end
end

defmodule Distillery.Releases.Runtime.Control do
  @moduledoc "What the script runs in nodes of its own."

  def main(["configure", file]) do
    {:ok, [config]} = :file.consult(file)

    resolved =
      for {provider, arguments} <- config[:distillery][:config_providers], reduce: config do
        config -> Config.Reader.merge(config, provider.init(arguments))
      end

    File.write!(file, :io_lib.format(~c"~tp.~n", [resolved]))
  end

  def main(["eval", code]), do: Code.eval_string(code)

  def main(["rpc", name, cookie, code]) do
    {:ok, _} = Node.start(:"control_#{name}")
    Node.set_cookie(String.to_atom(cookie))
    {result, _} = :rpc.call(String.to_atom(name), Code, :eval_string, [code])
    IO.inspect(result)
  end
end
