"""What cannot be changed in memory goes by rolling, with a reason that a person understands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import Client
from tests.hot.conftest import APPLICATION, STORE, held
from tests.hot.test_traps import CHILD
from tests.hot.test_undone import demand

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.hot.conftest import Hot


@pytest.fixture(scope="module", autouse=True)
def boots_quickly(on_demand: None) -> None:
    """Each test boots three instances, and is about the reasons for it."""


def struct_with(hot: Hot, fields: str) -> None:
    hot.write("lib/counter/cart.ex", f"defmodule Counter.Cart do\n  defstruct [{fields}]\nend\n")


def other_struct(hot: Hot) -> None:
    struct_with(hot, ":items, :total")


def schema_with(hot: Hot, column: str) -> None:
    """As Ecto compiles one: its hash is that of the names of its fields."""
    hot.write(
        "lib/counter/item.ex",
        f"""defmodule Counter.Item do
  defstruct [:name]
  def __schema__(:hash), do: :erlang.phash2([:name])
  def __schema__(:fields), do: [:name]
  def __schema__(:source), do: "items"
  def __schema__(:field_source, :name), do: {column}
  def __schema__(:type, :name), do: :string
end
""",
    )


def other_column(hot: Hot) -> None:
    schema_with(hot, ":title")


def other_argument(hot: Hot) -> None:
    hot.replace(APPLICATION, "      Counter.Store,\n", "      {Counter.Store, :else},\n")


def other_strategy(hot: Hot) -> None:
    hot.replace(APPLICATION, "start_link(children, strategy: :one_for_one,",
                "start_link(children, strategy: :one_for_all,")  # fmt: skip


def boot_flags(hot: Hot) -> None:
    hot.write("rel/vm.args.eex", "+sbwt none\n")


def elixir_config(hot: Hot) -> None:
    hot.replace("config/config.exs", "level: :info", "level: :notice")


def own_config(hot: Hot) -> None:
    hot.replace("config/config.exs", "import Config\n", "import Config\nconfig :counter, a: 1\n")


def function_in_config(hot: Hot) -> None:
    hot.replace(
        "config/runtime.exs", "import Config\n",
        "import Config\nconfig :counter, f: fn -> 1 end\n",
    )  # fmt: skip


def native_code(hot: Hot) -> None:
    hot.write("priv/lib.so", "\x7fELF…")


def loads_native_code(hot: Hot) -> None:
    hot.replace(STORE, "  use GenServer\n", "  use GenServer\n  @on_load :loaded\n"
                "  def loaded, do: :ok\n")  # fmt: skip


CHANGES: list[tuple[Callable[[Hot], None], str]] = [
    (other_struct, "the struct Counter.Cart gained :total"),
    (other_column, "the schema Counter.Item changed, but not the names of its fields"),
    (other_argument, "starts Counter.Store differently: its arguments changed"),
    (other_strategy, "changes its strategy or limits"),
    (boot_flags, "vm.args changed, which is read at boot"),
    (elixir_config, "config of logger, :level, changes and is read at boot"),
    (own_config, "config of counter, :a, changes and is read when its process starts"),
    (function_in_config, "config of counter, :f, changes and holds a function"),
    (native_code, "native code of counter changed: priv/lib.so"),
    (loads_native_code, "Counter.Store loads native code (on_load)"),
]


def test_each_reason_is_named(hot: Hot) -> None:
    """One push has all changes. Any reason alone makes it rolling: deploy/plan/test_plan.py."""
    struct_with(hot, ":items")
    schema_with(hot, ":name")
    hot.push()
    assert hot.strategy() == "hot"
    for change, _ in CHANGES:
        change(hot)
    hot.push()
    assert hot.strategy() == "rolling"
    reasons = hot.world.last()["reasons"]
    for change, reason in CHANGES:
        assert any(reason in each for each in reasons), (change.__name__, reasons)
    assert len(reasons) == len(CHANGES), reasons
    before = hot.world.last()["previous"]
    assert hot.world.json("plan", "shop", before)["strategy"] == "rolling"


def test_a_process_that_cannot_be_suspended(hot: Hot) -> None:
    hot.world.run("settings", "set", "shop", "hot.suspend=0.3")
    hot.replace(
        STORE, "  @impl true\n  def handle_info(",
        "  @impl true\n  def handle_info(:block, state) do\n    Process.sleep(300_000)\n"
        "    {:noreply, state}\n  end\n\n  def handle_info(",
    )  # fmt: skip
    hot.push()
    hot.rpc("send(Counter.Store, :block)")
    hot.replace(STORE, "count = state.count + 1", "count = state.count + 2")
    output = hot.push()
    assert hot.strategy() == "rolling"
    assert hot.reasons() == "suspend: Counter.Store: does not answer"
    assert "suspend: Counter.Store: does not answer" in output
    hot.world.run("settings", "unset", "shop", "hot.suspend")


def test_hot_can_be_forbidden_and_demanded(hot: Hot) -> None:
    hot.world.run("settings", "set", "shop", "hot.deny=phoenix, Counter.Page")
    try:
        hot.project.title("denied")
        hot.project.push()
        assert hot.strategy() == "rolling"
        assert hot.reasons() == "hot.deny names Counter.Page"
    finally:
        hot.world.run("settings", "unset", "shop", "hot.deny")
    before = hot.world.last()["previous"]
    plan = hot.world.json("plan", "shop", before)
    assert plan["strategy"] == "hot"
    assert plan["changed"] == [{"app": "counter", "module": "Counter.Page"}]
    hot.world.run("config", "set", "shop", "GREETING=hello")
    output = hot.world.run("deploy", "shop", before, "--strategy", "hot", ok=False)
    assert "A hot upgrade is not possible: config changes: GREETING" in output
    hot.world.run("config", "unset", "shop", "GREETING")


def test_a_struct_may_change_where_the_project_says_so(hot: Hot) -> None:
    """As `other_struct` above, which goes by rolling without that."""
    struct_with(hot, ":items")
    hot.write("gatling.toml", "[hot]\nstructs = true\n")
    hot.push()
    pid = hot.pid()
    struct_with(hot, ":items, :total")
    hot.push()
    assert (hot.strategy(), hot.pid()) == ("hot", pid)
    assert "total: nil" in hot.rpc("IO.inspect(struct(Counter.Cart))")
    hot.write("gatling.toml", "")


def test_code_that_is_run_by_nobody_known_is_a_drift(hot: Hot) -> None:
    hot.rpc('Code.compile_string("defmodule Counter.Page do def title, do: :other end"); :ok')
    hot.project.title("after a drift")
    hot.project.push()
    assert hot.strategy() == "rolling"
    assert "the node runs code that differs from its release: Counter.Page" in hot.reasons()


def test_a_process_lingering_in_old_code(hot: Hot) -> None:
    looping = (
        "defmodule Counter.Looping do\n  def start, do: spawn(fn -> loop() end)\n"
        "  defp loop do\n    receive do\n      :stop -> :ok\n    end\n    loop()\n  end\n"
        "  def version, do: 1\nend\n"
    )
    hot.write("lib/counter/looping.ex", looping)
    hot.push()
    hot.rpc("Process.register(Counter.Looping.start(), :lingerer)")
    hot.write("lib/counter/looping.ex", looping.replace("do: 1", "do: 2"))
    hot.push()
    assert hot.strategy() == "hot"
    hot.write("lib/counter/looping.ex", looping.replace("do: 1", "do: 3"))
    hot.push()
    assert hot.strategy() == "rolling"
    assert "code of Counter.Looping from before the last upgrade still runs" in hot.reasons()
    assert "lingerer" in hot.reasons()


def test_a_function_kept_in_a_table(hot: Hot) -> None:
    # as telemetry keeps its handlers
    hot.replace(
        STORE, "  @impl true\n  def init(",
        "  def attach, do: :ets.insert(:handlers, {:id, fn -> :first end})\n\n"
        "  @impl true\n  def init(",
    )  # fmt: skip
    hot.push()
    hot.rpc(held(":ets.new(:handlers, [:named_table, :public]); Counter.Store.attach()"))
    hot.replace(STORE, "fn -> :first end", "fn -> :second end")
    hot.push()
    assert hot.strategy() == "rolling"
    assert hot.reasons() == (
        ":handlers keeps a function of Counter.Store, which a hot upgrade would not replace"
    )


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("{:ok, _} = Agent.start_link(fn -> 1 end)",
         "it starts a process on its own, {:gen_server, Agent.Server}"),
        ("{:ok, _} = :gen_event.start_link()", "it starts a process on its own, {:gen_event,"),
    ],
)  # fmt: skip
def test_start_does_more_than_to_start_one_supervisor(hot: Hot, first: str, reason: str) -> None:
    hot.replace(APPLICATION, "    children = [\n", f"    {first}\n    children = [\n")
    hot.replace(APPLICATION, CHILD, CHILD + "      {Task.Supervisor, name: Counter.Tasks},\n")
    output = demand(hot)
    assert "A hot upgrade is not possible: " in output
    assert reason in output


def test_what_start_starts_first_looks_like_the_whole_tree(hot: Hot) -> None:
    """And the live node does not run it as such."""
    first = "{:ok, _} = Registry.start_link(keys: :unique, name: Counter.Names)"
    hot.replace(APPLICATION, "    children = [\n", f"    {first}\n    children = [\n")
    hot.push()
    hot.replace(APPLICATION, CHILD, CHILD + "      {Task.Supervisor, name: Counter.Tasks},\n")
    hot.push()
    assert hot.strategy() == "rolling"
    assert "start/2 names the child" in hot.reasons()
    assert "true" in hot.rpc("IO.inspect(is_pid(Process.whereis(Counter.Tasks)))")


def test_the_limits_of_a_dynamic_supervisor(hot: Hot) -> None:
    hot.write(
        "lib/counter/items.ex",
        "defmodule Counter.Items do\n  use DynamicSupervisor\n"
        "  def start_link(_), do: DynamicSupervisor.start_link(__MODULE__, [], name: __MODULE__)\n"
        "  def init(_), do: DynamicSupervisor.init(strategy: :one_for_one, max_children: 5)\nend\n",
    )
    hot.replace(APPLICATION, CHILD, CHILD + "      Counter.Items,\n")
    hot.push()
    assert hot.strategy() == "hot", hot.reasons()
    hot.replace("lib/counter/items.ex", "max_children: 5", "max_children: 6")
    hot.push()
    assert hot.strategy() == "rolling"
    assert "Counter.Items changes its strategy or limits" in hot.reasons()


def test_a_node_that_names_itself(hot: Hot) -> None:
    hot.write("rel/env.sh.eex", 'export RELEASE_NODE="own@127.0.0.1"\n')
    hot.push()
    hot.project.title("under a name of its own")
    output = hot.project.push()
    assert hot.strategy() == "rolling"
    assert "the node is called own@127.0.0.1, not counter@127.0.0.1" in output
    assert "RELEASE_NODE" in output
    assert "under a name of its own" in hot.world.get().text


def test_a_function_that_a_process_holds(hot: Hot) -> None:
    """As LiveViews hold their hooks: it is gone with the upgrade after next."""
    hot.write(
        "lib/counter/hook.ex",
        "defmodule Counter.Hook do\n  def new, do: fn -> 1 end\nend\n",
    )
    hot.push()
    hot.rpc("Agent.start(Counter.Hook, :new, [], name: :holder)")
    hot.replace("lib/counter/hook.ex", "fn -> 1 end", "fn -> 2 end")
    hot.push()
    assert hot.strategy() == "hot", hot.reasons()
    hot.replace("lib/counter/hook.ex", "fn -> 2 end", "fn -> 3 end")
    hot.push()
    assert hot.strategy() == "rolling"
    assert hot.reasons() == (
        "functions of Counter.Hook from before the last upgrade are still referenced by :holder"
    )


def test_a_release_that_calls_what_it_lacks(hot: Hot) -> None:
    """It never meets the users: the health check of a rolling deployment refuses it."""
    # time to boot on a slow machine as well, and to answer once with the error
    hot.world.run("settings", "set", "shop", "health.timeout=8")
    hot.replace("lib/counter/page.ex", "defmodule Counter.Page do", "defmodule Counter.Sheet do")
    try:
        with Client(hot.world) as client:
            output = hot.push(ok=False)
    finally:
        hot.world.run("settings", "unset", "shop", "health.timeout")
    assert client.failures == []
    assert hot.strategy() == "rolling"
    assert "Counter.Page is removed, and Counter.Router still calls Counter.Page.html/3" in output
    assert "Counter.Page.html/3 is undefined" in output, output
