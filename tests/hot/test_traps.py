"""What others' hot upgrades stumble over, one by one: each trap has a test with its name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import Client, new_world
from tests.hot.conftest import APPLICATION, STORE, Hot, Stream, held

CHILD = "      Counter.Store,\n"
CONFIG_CHANGE = """
  @impl true
  def config_change(changed, new, removed) do
    :persistent_term.put(:told, {changed, new, removed})
    Counter.Assets.cache()
  end
end
"""
ASSETS = """
defmodule Counter.Assets do
  # as Phoenix' endpoints keep what their static manifest says
  def cache do
    file = Application.app_dir(:counter, "priv/static/cache_manifest.json")
    :persistent_term.put(__MODULE__, String.trim(File.read!(file)))
  end

  def manifest, do: :persistent_term.get(__MODULE__)
end
"""


@pytest.fixture(autouse=True)
def quick(hot: Hot) -> None:
    """These tests are about the swap, whose result they look at themselves."""
    hot.world.run("settings", "set", "shop", "hot.watch=0.05")


def last_end(text: str, replacement: str) -> str:
    """The text with what follows its last function replaced."""
    return text.rstrip().removesuffix("end").rstrip() + "\n" + replacement


def extend(hot: Hot, path: str, functions: str) -> None:
    """More functions at the end of a module."""
    hot.write(path, last_end((hot.project.directory / path).read_text(), functions))


def test_the_same_version_pushed_twice(hot: Hot) -> None:
    pid, count = hot.pid(), hot.count()
    for _ in range(2):
        hot.push()
        assert (hot.strategy(), hot.reasons()) == ("hot", "no code changes")
    assert (hot.pid(), hot.count()) == (pid, count)


def test_a_leftover_of_an_unpacked_release(hot: Hot) -> None:
    apps = hot.world.home / "apps/shop"
    newest = max(int(tree.name[1:]) for tree in (apps / "releases").iterdir())
    for leftover in (apps / f"releases/v{newest + 1}", apps / "staging"):
        (leftover / "lib/counter-0.1.0/ebin").mkdir(parents=True)
        (leftover / "lib/counter-0.1.0/ebin/Elixir.Counter.Page.beam").write_text("half")
    hot.project.title("after a leftover")
    hot.project.push()
    assert hot.strategy() == "hot"
    assert "after a leftover" in hot.world.get().text


def test_consolidated_protocols(hot: Hot) -> None:
    protocol = (
        "defprotocol Counter.Shape do\n  @fallback_to_any true\n  def name(value)\nend\n"
        "defimpl Counter.Shape, for: Any do\n  def name(_), do: :any\nend\n"
    )
    hot.write("lib/counter/shape.ex", protocol)
    hot.push()
    ask = "IO.inspect({:shape, Counter.Shape.name(7), Protocol.consolidated?(Counter.Shape)})"
    assert "{:shape, :any, true}" in hot.rpc(ask)
    hot.write(
        "lib/counter/shape.ex",
        protocol + "defimpl Counter.Shape, for: Integer do\n  def name(_), do: :number\nend\n",
    )
    hot.push()
    assert hot.strategy() == "hot"
    assert "{:shape, :number, true}" in hot.rpc(ask)
    paths = hot.rpc("for p <- :code.get_path(), do: IO.puts(p)")
    assert [line for line in paths.splitlines() if "consolidated" in line] == [
        str(hot.world.home / f"apps/shop/releases/{hot.world.status()['release']}"
            "/releases/0.1.0/consolidated")
    ]  # fmt: skip
    hot.world.run("rollback", "shop")
    assert hot.strategy() == "hot"
    assert "{:shape, :any, true}" in hot.rpc(ask)


def test_a_stale_static_manifest(hot: Hot) -> None:
    hot.write("lib/counter/assets.ex", ASSETS)
    hot.write("priv/static/cache_manifest.json", "first\n")
    hot.replace(
        APPLICATION, "    children = [\n", "    Counter.Assets.cache()\n\n    children = [\n"
    )
    extend(hot, APPLICATION, CONFIG_CHANGE)
    hot.push()
    pid = hot.pid()
    hot.write("priv/static/cache_manifest.json", "second\n")
    hot.push()
    assert hot.strategy() == "hot"
    assert '"second"' in hot.rpc("IO.inspect(Counter.Assets.manifest())")
    hot.world.run("rollback", "shop")
    assert '"first"' in hot.rpc("IO.inspect(Counter.Assets.manifest())")
    assert hot.pid() == pid


def test_config_is_resolved_anew_and_delivered_and_the_rest_stays(hot: Hot) -> None:
    hot.write("lib/counter/assets.ex", ASSETS)
    hot.write("priv/static/cache_manifest.json", "first\n")
    extend(hot, APPLICATION, CONFIG_CHANGE)
    runtime = (hot.project.directory / "config/runtime.exs").read_text()
    hot.write("config/runtime.exs", runtime + "\nconfig :counter, limit: 1, pattern: ~r/^a+$/\n")
    hot.push()
    pid = hot.pid()
    hot.rpc("Application.put_env(:counter, :set_by_hand, :stays)")
    hot.project.title("a regular expression is no change")
    hot.project.push()
    assert hot.reasons() == "counter: 1 changed module"
    hot.write(
        "config/runtime.exs",
        runtime + "\nconfig :counter, limit: 2, pattern: ~r/^b+$/,"
        ' serves: System.get_env("PHX_SERVER")\n',
    )
    hot.push()
    assert hot.strategy() == "hot", hot.reasons()
    assert "config of counter: :limit" in hot.reasons()
    told = hot.rpc("IO.inspect({elem(:persistent_term.get(:told), 0)[:limit], :told})")
    assert "{2, :told}" in told
    said = hot.rpc(
        "env = Application.get_all_env(:counter);"
        " IO.inspect({env[:limit], 'bbb' |> to_string() =~ env[:pattern], env[:set_by_hand],"
        " env[:port], env[:serves]})"
    )
    assert f'{{2, true, :stays, {hot.world.status()["port"]}, "true"}}' in said
    hot.world.run("rollback", "shop")
    assert hot.strategy() == "hot", hot.reasons()
    said = hot.rpc(
        "env = Application.get_all_env(:counter); IO.inspect({env[:limit], 'aa' |>"
        " to_string() =~ env[:pattern], env[:set_by_hand]})"
    )
    assert "{1, true, :stays}" in said
    assert hot.pid() == pid


def test_a_dependency_is_added_changed_and_gone(hot: Hot) -> None:
    def dependency(answer: str) -> None:
        hot.write("vendor/extra/mix.exs", """
defmodule Extra.MixProject do
  use Mix.Project
  def project, do: [app: :extra, version: "1.0.0", deps: []]
  def application, do: [extra_applications: [], mod: {Extra, []}]
end
""")  # fmt: skip
        hot.write("vendor/extra/lib/extra.ex", f"""
defmodule Extra do
  use Application
  def start(_, _), do: Supervisor.start_link([Extra.Store], strategy: :one_for_one)
end

defmodule Extra.Store do
  use Agent
  def start_link(_), do: Agent.start_link(fn -> 7 end, name: __MODULE__)
  def answer, do: {{{answer}, Agent.get(__MODULE__, &Function.identity/1)}}
end
""")  # fmt: skip

    before, pid = hot.world.status()["release"], hot.pid()
    dependency(":first")
    hot.replace("mix.exs", "deps: []", 'deps: [{:extra, path: "vendor/extra"}]')
    # the app does not work with it, so the upgrade is taken back, and the application with it
    works = (hot.project.directory / "lib/counter/router.ex").read_text()
    hot.replace("lib/counter/router.ex", "defp page do\n", 'defp page do\n    File.read!("/no")\n')
    hot.push(ok=False)
    assert hot.strategy() == "hot"
    assert hot.pid() == pid
    running = "IO.inspect({List.keyfind(Application.started_applications(), :extra, 0),"
    running += " :code.is_loaded(Extra.Store), :code.is_loaded(Extra)})"
    assert "{nil, false, false}" in hot.rpc(running)
    hot.write("lib/counter/router.ex", works)
    hot.push()
    assert hot.strategy() == "hot", hot.reasons()
    assert "starts extra" in hot.reasons()
    assert "{:first, 7}" in hot.rpc("IO.inspect(Extra.Store.answer())")
    hot.rpc("Agent.update(Extra.Store, &(&1 + 1))")
    dependency(":second")
    hot.push()
    assert (hot.strategy(), hot.reasons()) == ("hot", "extra: 1 changed module")
    assert "{:second, 8}" in hot.rpc("IO.inspect(Extra.Store.answer())")
    assert hot.pid() == pid
    hot.world.run("rollback", "shop", before)
    assert hot.strategy() == "rolling"
    assert "the application extra is removed" in hot.reasons()


def test_dependencies_that_need_each_other_are_added(hot: Hot) -> None:
    # mix lists the applications of a release by name: here the one that needs the other comes first
    for app, deps in (("alpha", '[{:zulu, path: "../zulu"}]'), ("zulu", "[]")):
        module = app.capitalize()
        hot.write(f"vendor/{app}/mix.exs", f"""
defmodule {module}.MixProject do
  use Mix.Project
  def project, do: [app: :{app}, version: "1.0.0", deps: {deps}]
  def application, do: [mod: {{{module}, []}}]
end
""")  # fmt: skip
        hot.write(f"vendor/{app}/lib/{app}.ex", f"""
defmodule {module} do
  use Application
  def start(_, _), do: Agent.start_link(fn -> 0 end, name: __MODULE__)
end
""")  # fmt: skip
    hot.replace("mix.exs", "deps: []", 'deps: [{:alpha, path: "vendor/alpha"}]')
    works = (hot.project.directory / "lib/counter/router.ex").read_text()
    hot.replace("lib/counter/router.ex", "defp page do\n", 'defp page do\n    File.read!("/no")\n')
    hot.push(ok=False)
    assert hot.strategy() == "hot", hot.reasons()
    hot.write("lib/counter/router.ex", works)
    hot.push()
    assert hot.strategy() == "hot", hot.reasons()
    assert "starts zulu; starts alpha" in hot.reasons()
    assert "[true, true]" in hot.rpc(
        "IO.inspect(for m <- [Alpha, Zulu], do: is_pid(Process.whereis(m)))"
    )


def test_an_erlang_application_changes_its_children(hot: Hot) -> None:
    hot.replace("mix.exs", "deps: []", 'deps: [{:ticker, path: "vendor/ticker"}]')
    hot.write("vendor/ticker/mix.exs", """
defmodule Ticker.MixProject do
  use Mix.Project
  def project, do: [app: :ticker, version: "1.0.0", language: :erlang, deps: []]
  def application, do: [extra_applications: [], mod: {:ticker_app, []}]
end
""")  # fmt: skip
    hot.write("vendor/ticker/src/ticker_app.erl", """
-module(ticker_app).
-behaviour(application).
-behaviour(supervisor).
-export([start/2, stop/1, init/1]).
start(_, _) -> supervisor:start_link({local, ticker_sup}, ?MODULE, []).
stop(_) -> ok.
init([]) -> {ok, {#{strategy => one_for_one}, [child(a)]}}.
child(Id) -> #{id => Id, start => {gen_event, start_link, [{local, Id}]}}.
""")  # fmt: skip
    hot.push()
    assert hot.strategy() == "hot", hot.reasons()
    hot.replace("vendor/ticker/src/ticker_app.erl", "[child(a)]", "[child(a), child(b)]")
    hot.push()
    assert hot.strategy() == "hot", hot.reasons()
    assert "starts :b" in hot.reasons()
    children = "for {id, p, _, _} <- Supervisor.which_children(:ticker_sup), do: {id, is_pid(p)}"
    assert "[a: true, b: true]" in hot.rpc(f"IO.inspect(Enum.sort({children}))")


def test_processes_of_every_kind_keep_their_state(hot: Hot) -> None:
    worker = """
defmodule Counter.Item do
  use GenServer, restart: :temporary
  def start_link({name, n}), do: GenServer.start_link(__MODULE__, n, name: via(name))
  def via(name), do: {:via, Registry, {Counter.Names, name}}
  def init(n) do
    Process.flag(:trap_exit, true)
    {:ok, {EDITION, n}, :hibernate}
  end
  def handle_call(:get, _, state), do: {:reply, state, state, :hibernate}
  def code_change(_, {_, n}, _), do: {:ok, {EDITION, n}}
end
"""
    hot.write("lib/counter/item.ex", worker.replace("EDITION", ":one"))
    hot.replace(
        APPLICATION, CHILD,
        CHILD + "      {Registry, keys: :unique, name: Counter.Names},\n"
        "      {DynamicSupervisor, name: Counter.Items, strategy: :one_for_one},\n"
        "      {Task.Supervisor, name: Counter.Tasks},\n"
        "      %{id: :agent, start: {Agent, :start_link,"
        " [Function, :identity, [40], [name: Counter.Held]]}},\n",
    )  # fmt: skip
    hot.push()
    assert hot.strategy() == "hot", hot.reasons()
    hot.rpc(
        "for n <- 1..3,"
        ' do: DynamicSupervisor.start_child(Counter.Items, {Counter.Item, {"i#{n}", n}});'
        " task = Task.Supervisor.async_nolink(Counter.Tasks, fn ->"
        " receive do {:ask, from} -> send(from, :task_goes_on) end end);"
        " :persistent_term.put(:task, task.pid);"
        " Agent.update(Counter.Held, &(&1 + 2))"
    )
    hot.write("lib/counter/item.ex", worker.replace("EDITION", ":two"))
    hot.push()
    assert hot.strategy() == "hot", hot.reasons()
    assert hot.world.last()["probe"]["processes"] == 3
    said = hot.rpc(
        'states = for n <- 1..3, do: GenServer.call(Counter.Item.via("i#{n}"), :get);'
        " send(:persistent_term.get(:task), {:ask, self()});"
        " task = receive do answer -> answer after 60_000 -> :silent end;"
        " IO.inspect({states, Agent.get(Counter.Held, &Function.identity/1), task})"
    )
    assert "{[two: 1, two: 2, two: 3], 42, :task_goes_on}" in said


@pytest.mark.usefixtures("boot_check")
def test_a_new_child_that_crashes_again_and_again(hot: Hot) -> None:
    """It would take the supervisor, and the node, along; so its boot is seen before."""
    before, count = hot.world.status(), hot.count()
    hot.write(
        "lib/counter/extra.ex",
        "defmodule Counter.Extra do\n  use GenServer\n"
        "  def start_link(_), do: GenServer.start_link(__MODULE__, [])\n"
        "  def init(_), do: {:ok, nil, {:continue, :go}}\n"
        "  def handle_continue(:go, _) do\n    Process.sleep(30)  # healthy meanwhile\n"
        '    raise "no luck"\n  end\nend\n',
    )
    hot.replace(APPLICATION, CHILD, CHILD + "      Counter.Extra,\n")
    with Client(hot.world) as client:
        output = hot.push(ok=False)
    assert "boot_check" in hot.world.steps()
    assert "no luck" in output
    after = hot.world.status()
    assert (after["pid"], after["release"]) == (before["pid"], before["release"])
    assert hot.count() == count
    assert client.failures == []
    assert "hot_swap" not in [step["name"] for step in hot.world.last()["steps"]]


def test_an_umbrella_of_which_one_app_changes() -> None:
    """Its release is named otherwise than any of its applications."""
    with new_world() as world:
        project = world.load(strategy="auto")
        world.run("settings", "set", "shop", "hot.watch=0.05")
        hot = Hot(project)
        (project.directory / "apps").mkdir()
        project.git("mv", "lib", "mix.exs", "apps/")
        counter = Path("apps/counter")
        (project.directory / counter).mkdir()
        project.git("mv", "apps/lib", "apps/mix.exs", str(counter))
        hot.replace(
            str(counter / "mix.exs"), "deps: []",
            'deps: [{:greeter, in_umbrella: true}], build_path: "../../_build",'
            ' config_path: "../../config/config.exs", deps_path: "../../deps",'
            ' lockfile: "../../mix.lock"',
        )  # fmt: skip
        hot.write("apps/greeter/mix.exs", """
defmodule Greeter.MixProject do
  use Mix.Project
  def project do
    [app: :greeter, version: "0.1.0", deps: [], build_path: "../../_build",
     config_path: "../../config/config.exs", deps_path: "../../deps", lockfile: "../../mix.lock"]
  end
  def application, do: []
end
""")  # fmt: skip
        hot.write("apps/greeter/lib/greeter.ex",
                  'defmodule Greeter do\n  def greet, do: "Hello"\nend\n')  # fmt: skip
        hot.write("mix.exs", """
defmodule Shop.MixProject do
  use Mix.Project
  def project do
    [apps_path: "apps", deps: [], releases: [shop: [version: "0.1.0",
     applications: [counter: :permanent, greeter: :permanent]]]]
  end
end
""")  # fmt: skip
        page = str(counter / "lib/counter/page.ex")
        text = (project.directory / page).read_text()
        title = next(line for line in text.splitlines() if line.startswith("  def title"))
        hot.write(page, text.replace(title, "  def title, do: Greeter.greet()"))
        hot.push()
        assert "<h1>Hello</h1>" in world.get().text
        pid, count = hot.pid(), hot.increment()
        hot.replace("apps/greeter/lib/greeter.ex", "Hello", "Good evening")
        hot.push()
        assert (hot.strategy(), hot.reasons()) == ("hot", "greeter: 1 changed module")
        assert "<h1>Good evening</h1>" in world.get().text
        world.run("rollback", "shop")
        assert "<h1>Hello</h1>" in world.get().text
        assert (hot.pid(), hot.count()) == (pid, count)


def test_a_new_child_that_changed_code_uses_at_once(hot: Hot) -> None:
    count = hot.count()
    hot.write(
        "lib/counter/extra.ex",
        "defmodule Counter.Extra do\n  use Agent\n"
        "  def start_link(_), do: Agent.start_link(Counter.Store, :count, [], name: __MODULE__)\n"
        "  def get, do: Agent.get(__MODULE__, & &1)\nend\n",
    )
    hot.replace(APPLICATION, CHILD, CHILD + "      Counter.Extra,\n")
    hot.replace(
        "lib/counter/router.ex", "defp page do\n", "defp page do\n    Counter.Extra.get()\n"
    )
    # requests go on while the store is being converted, and so does the child's start
    extend(
        hot,
        STORE,
        "\n  @impl true\n  def code_change(_, state, _) do\n    Process.sleep(300)\n"
        "    {:ok, state}\n  end\nend\n",
    )
    with Client(hot.world) as client, Client(hot.world) as another:
        hot.push()
    assert hot.strategy() == "hot", hot.reasons()
    assert client.failures == another.failures == []
    assert hot.world.last()["suspended_ms"] > 300
    assert f"{{{count}}}" in hot.rpc("IO.inspect({Counter.Extra.get()})")


def test_no_request_asks_for_a_child_before_it_runs(hot: Hot) -> None:
    # the start takes its time, and asks a process that waits like all others
    hot.write(
        "lib/counter/extra.ex",
        "defmodule Counter.Extra do\n  use Agent\n  def start_link(_) do\n"
        "    Process.sleep(150)\n    count = Counter.Store.count()\n"
        "    Agent.start_link(fn -> count end, name: __MODULE__)\n  end\n"
        "  def get, do: Agent.get(__MODULE__, & &1)\nend\n",
    )
    hot.replace(APPLICATION, CHILD, CHILD + "      Counter.Extra,\n")
    hot.replace(
        "lib/counter/router.ex", "defp page do\n", "defp page do\n    Counter.Extra.get()\n"
    )
    with Stream(hot.world), Client(hot.world) as client, Client(hot.world) as another:
        hot.push()
        with_child = hot.world.status()["release"]
        assert hot.strategy() == "hot", hot.reasons()
        hot.restore()
        hot.push()
        # down again, to a release that has the child
        hot.world.run("rollback", "shop", with_child)
    assert hot.strategy() == "hot", hot.reasons()
    assert client.failures == another.failures == []


def test_a_new_child_goes_again_when_the_conversion_fails(hot: Hot) -> None:
    pid, count, release = hot.pid(), hot.count(), hot.world.status()["release"]
    hot.write("priv/static/new", "")
    hot.write(
        "lib/counter/extra.ex",
        "defmodule Counter.Extra do\n  use Agent\n"
        "  def start_link(_), do: Agent.start_link(fn -> 1 end, name: __MODULE__)\nend\n",
    )
    hot.replace(APPLICATION, CHILD, CHILD + "      Counter.Extra,\n")
    extend(hot, STORE, '\n  @impl true\n  def code_change(_, _, _), do: raise("no way")\nend\n')
    hot.push(ok=False)
    assert hot.world.last()["probe"]["failed"] == 0
    said = hot.rpc(
        "IO.inspect({Process.whereis(Counter.Extra), :code.is_loaded(Counter.Extra),"
        " length(Supervisor.which_children(Counter.Supervisor))});"
        ' IO.puts(Application.app_dir(:counter)); IO.puts(System.get_env("RELEASE_ROOT"))'
    )
    assert "{nil, false, 3}" in said
    assert said.count(f"/releases/{release}") == 2
    assert (hot.pid(), hot.count()) == (pid, count)


def test_a_child_that_takes_the_name_of_one_that_goes(hot: Hot) -> None:
    def child(module: str, value: int) -> None:
        hot.write(
            f"lib/counter/{module.lower()}.ex",
            f"defmodule Counter.{module} do\n  use Agent\n  def start_link(_),"
            f" do: Agent.start_link(fn -> {value} end, name: Counter.Held)\nend\n",
        )
        hot.replace(APPLICATION, CHILD, CHILD + f"      Counter.{module},\n")

    child("First", 1)
    hot.push()
    hot.project.git("rm", "--quiet", "--force", "lib/counter/first.ex")
    hot.replace(APPLICATION, "      Counter.First,\n", "")
    child("Second", 2)
    hot.push()
    assert hot.strategy() == "hot", hot.reasons()
    assert "{2}" in hot.rpc("IO.inspect({Agent.get(Counter.Held, & &1)})")


def test_a_name_that_is_taken_fails_the_upgrade(hot: Hot) -> None:
    hot.rpc(held("Process.register(self(), Counter.Held)"))
    hot.write(
        "lib/counter/extra.ex",
        "defmodule Counter.Extra do\n  use Agent\n"
        "  def start_link(_), do: Agent.start_link(fn -> 1 end, name: Counter.Held)\nend\n",
    )
    hot.replace(APPLICATION, CHILD, CHILD + "      Counter.Extra,\n")
    output = hot.push(ok=False)
    assert "After the switch: Counter.Extra: its name is taken by #PID<" in output
    assert "runs again, with its previous states" in output


def test_a_process_that_meets_the_new_code_as_it_is(hot: Hot) -> None:
    """As a LiveView does, whose template needs a new assign: it crashes, and that is said."""
    looping = (
        "defmodule Counter.Looping do\n  def loop(state) do\n    Process.sleep(5)\n"
        "    __MODULE__.step(state)\n    __MODULE__.loop(state)\n  end\n"
        "  def step(state), do: Map.fetch!(state, :KEY)\nend\n"
    )
    hot.write("lib/counter/looping.ex", looping.replace("KEY", "old"))
    hot.push()
    hot.rpc("spawn(Counter.Looping, :loop, [%{old: 1}])")
    hot.write("lib/counter/looping.ex", looping.replace("KEY", "new"))
    hot.world.run("settings", "set", "shop", "hot.watch=1")
    try:
        output = hot.push()
    finally:
        hot.world.run("settings", "set", "shop", "hot.watch=0.3")
    assert hot.strategy() == "hot"
    assert "1 × KeyError (key :new not found) in Counter.Looping.step/1" in output
    assert "1 other process crashed in the new code" in output
    assert hot.world.last()["probe"]["others_crashed"] == 1


def test_config_change_that_fails(hot: Hot) -> None:
    extend(
        hot,
        APPLICATION,
        '\n  @impl true\n  def config_change(_, _, _), do: raise("no manifest")\nend\n',
    )
    output = hot.push(ok=False)
    assert "After the switch: config_change/3" in output
    assert "no manifest" in output
    assert "runs again" in output


def test_a_module_that_is_gone_and_still_runs(hot: Hot) -> None:
    worker = "lib/counter/worker.ex"
    hot.write(
        worker,
        "defmodule Counter.Worker do\n  use Agent\n"
        "  def start_link(_), do: Agent.start_link(__MODULE__, :first, [], name: __MODULE__)\n"
        "  def first, do: 1\nend\n\n"
        "defmodule Counter.Server do\n  use GenServer\n"
        "  def start_link(_), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)\n"
        "  def init(_), do: {:ok, []}\nend\n",
    )
    hot.replace(APPLICATION, CHILD, CHILD + "      Counter.Server,\n")
    hot.push()
    hot.project.git("rm", "--quiet", "--force", worker)
    hot.replace(APPLICATION, "      Counter.Server,\n", "")
    hot.push()
    assert hot.strategy() == "hot", hot.reasons()  # its one process is a child that goes as well
    hot.world.run("rollback", "shop")
    hot.rpc("GenServer.start(Counter.Server, [], name: :nobodys_child)")
    hot.world.run("rollback", "shop")
    assert hot.strategy() == "rolling"
    assert hot.reasons() == "Counter.Server is removed, but its code still runs in :nobodys_child"


def test_after_an_update_of_gatling_itself(hot: Hot) -> None:
    """What is compiled for nodes is gone, and no build has come by: a release compiles it."""
    hot.replace(APPLICATION, CHILD, CHILD + "      {Task.Supervisor, name: Counter.Tasks},\n")
    hot.push()
    hot.world.run("restart", "shop")
    shutil.rmtree(hot.world.home / "cache")
    count = hot.increment()
    hot.world.run("rollback", "shop")
    assert hot.strategy() == "hot", hot.reasons()
    assert hot.count() == count
    hot.project.title("and a build finds what it needs")
    hot.project.push()
    assert hot.strategy() == "hot", hot.reasons()
