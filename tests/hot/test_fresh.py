"""Whatever a commit changes: after a hot upgrade the node is what a fresh boot would be.

The app reports what can be seen of it. Each kind of change is made alone or with others. The report
of the running node is compared with that of the same release, booted beside it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.hot.conftest import APPLICATION
from tests.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.hot.conftest import Hot

EXAMPLES = scaled(2, 20)

STAYS_HOT = (
    "code", "description", "version", "served", "child", "module", "protocol", "converted",
    "registered", "asked",
)  # fmt: skip
"""Kinds of change that a running node can follow."""

ROLLS = {
    "environment": "config of counter, :v, changes",
    "arguments": "the application counter starts its callback module with different arguments",
    "overlay": "data/prices.txt changed, and a process may have read it",
    "data": "priv/data.txt of counter changed, and a process may have read it",
    "init": "Counter.Probe.init/1 changed, and the running Counter.Probe was set up by the old",
    "helper": "Counter.Fact.found/0 changed, which Counter.Seeker.init/1 calls",
    "start": "Counter.Application.start/2 calls :persistent_term.put/2 differently",
    "child_argument": "starts Counter.Held differently",
    "config": "config of counter, :configured, changes",
    "computed": "config of counter, :computed, changes",
    "on_load": "loads native code (on_load)",
}
"""Kinds of change that it cannot follow, with the reason that is given for each."""

REPORT = """
defmodule Counter.Report do
  def state do
    root = System.fetch_env!("RELEASE_ROOT")
    %{
      environment: :counter |> Application.get_all_env() |> Keyword.drop([:port]) |> Enum.sort(),
      application: :counter |> Application.spec() |> Keyword.drop([:modules]) |> Enum.sort(),
      modules: for({m, _} <- modules(root), do: {m, m.module_info(:md5)}),
      relative: File.read("data/prices.txt"),
      from_root: File.read(Path.join(root, "data/prices.txt")),
      data: File.read(Application.app_dir(:counter, "priv/data.txt")),
      served: File.read(Application.app_dir(:counter, "priv/static/served.txt")),
      directory: File.cwd!() == root,
      variables: for(k <- ~w(RELEASE_ROOT RELEASE_VSN ROOTDIR BINDIR), do: System.get_env(k)),
      children: children(),
      table: :ets.tab2list(:probe),
      probe: :sys.get_state(Counter.Probe),
      converted: :sys.get_state(Counter.Converted),
      seeker: :sys.get_state(Counter.Seeker),
      held: Agent.get(Counter.Held, & &1),
      started: :persistent_term.get(:started),
      arguments: :persistent_term.get(:arguments),
      shape: Counter.Shape.name(7)
    }
  end

  defp children do
    Enum.sort(for {id, _, _, _} <- Supervisor.which_children(Counter.Supervisor), do: id)
  end

  def text, do: inspect(state(), limit: :infinity, printable_limit: :infinity)

  defp modules(root) do
    for file <- Path.wildcard("#{root}/lib/counter-*/ebin/*.beam") do
      module = file |> Path.basename(".beam") |> String.to_atom()
      {module, Code.ensure_loaded(module)}
    end
  end
end
"""
MODULES = """
defmodule Counter.Value do
  def v, do: {code}
end
defmodule Counter.Fact do
  def found, do: {helper}
end
defprotocol Counter.Shape do
  @fallback_to_any true
  def name(value)
end
defimpl Counter.Shape, for: Any do
  def name(_), do: {protocol}
end
defmodule Counter.Probe do
  use GenServer
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)
  def init(_) do
    :ets.new(:probe, [:named_table])
    :ets.insert(:probe, [init: {init}, overlay: File.read("data/prices.txt")])
    {{:ok, File.read(Application.app_dir(:counter, "priv/data.txt"))}}
  end
end
defmodule Counter.Seeker do
  use GenServer
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)
  def init(_), do: {{:ok, Counter.Fact.found()}}
end
defmodule Counter.Converted do
  use GenServer
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)
  def init(_), do: {{:ok, {converted}}}
  def code_change({{:down, before}}, _, _), do: {{:ok, before}}
  def code_change(_, _, _), do: {{:ok, {converted}}}
  @vsn {converted}
  def asked, do: {asked}
end
"""
BOOT = (
    # where an instance is started
    'File.cd!(System.fetch_env!("RELEASE_ROOT"));'
    " Application.load(:counter); Application.put_env(:counter, :port, 0);"
    " {:ok, _} = Application.ensure_all_started(:counter);"
    " IO.puts('state: ' ++ to_charlist(Counter.Report.text()))"
)


class App:
    """The project, written so that each kind of change has a number of its own in it."""

    def __init__(self, hot: Hot) -> None:
        self.hot = hot
        self.texts = {
            path: (hot.project.directory / path).read_text()
            for path in ("mix.exs", APPLICATION, "lib/counter/router.ex", "config/runtime.exs")
        }
        self.numbers = dict.fromkeys((*STAYS_HOT, *ROLLS), 0)
        self.write()

    def change(self, kinds: Iterable[str]) -> None:
        for kind in kinds:
            self.numbers[kind] += 1
        self.write()

    def write(self) -> None:
        n, put = self.numbers, self.hot.write
        put("lib/counter/report.ex", REPORT)
        put("lib/counter/modules.ex", MODULES.format(**n))
        put(
            "lib/counter/config.ex",
            f"defmodule Counter.Config do\n  def computed, do: {n['computed']}\nend\n",
        )
        put("rel/overlays/data/prices.txt", str(n["overlay"]))
        put("priv/data.txt", str(n["data"]))
        put("priv/static/served.txt", str(n["served"]))
        loads = f"  @on_load :boot{n['on_load']}\n  def boot{n['on_load']}, do: :ok\n"
        for path, body in (
            ("loading", loads if n["on_load"] else ""),
            (f"added{n['module']}", f"  def v, do: {n['module']}\n"),
        ):
            put(f"lib/counter/{path}.ex", f"defmodule Counter.{path.title()} do\n{body}end\n")
        if n["module"]:
            (self.hot.project.directory / f"lib/counter/added{n['module'] - 1}.ex").unlink(True)
        self._edit("mix.exs", {
            'version: "0.1.0"': f'version: "0.1.{n["version"]}", description: "{n["description"]}"',
            "mod: {Counter.Application, []}": (
                f"env: [v: {n['environment']}], registered: [:r{n['registered']}],"
                f" mod: {{Counter.Application, [{n['arguments']}]}}"
            ),
        })  # fmt: skip
        extra = "      {Task.Supervisor, name: Counter.Tasks},\n" * (n["child"] % 2)
        held = f"[Function, :identity, [{n['child_argument']}], [name: Counter.Held]]"
        self._edit(APPLICATION, {
            "start(_type, _args) do\n": (
                "start(_type, arguments) do\n    :persistent_term.put(:arguments, arguments)\n"
                f"    :persistent_term.put(:started, {n['start']})\n"
            ),
            "      Counter.Store,\n": (
                "      Counter.Store,\n      Counter.Probe,\n      Counter.Seeker,\n"
                f"      Counter.Converted,\n{extra}"
                f"      %{{id: Counter.Held, start: {{Agent, :start_link, {held}}}}},\n"
            ),
        })  # fmt: skip
        self._edit("lib/counter/router.ex", {
            '    "/count" => ["GET", "HEAD"],\n': (
                '    "/count" => ["GET", "HEAD"],\n    "/state" => ["GET"],\n'
            ),
            '  defp answer("/events")': (
                '  defp answer("/state"), do: text(200, Counter.Report.text())\n'
                '  defp answer("/events")'
            ),
        })  # fmt: skip
        self._edit("config/runtime.exs", {
            "config :counter, port: port,": (
                f"config :counter, configured: {n['config']}, computed: Counter.Config.computed(),"
                " port: port,"
            ),
        })  # fmt: skip

    def _edit(self, path: str, changes: dict[str, str]) -> None:
        text = self.texts[path]
        for old, new in changes.items():
            assert old in text, (path, old)
            text = text.replace(old, new)
        self.hot.write(path, text)

    def check(self) -> None:
        """What the node reports is what the release reports that is booted beside it."""
        world = self.hot.world
        release = world.status()["release"]
        said = world.run("run", "shop", "--release", release, "--", "eval", BOOT)
        booted = re.search(r"^state: (.*)$", said, re.MULTILINE)
        assert booted, said
        running = world.get("/state").text
        assert parts(running) == parts(booted[1])


def parts(state: str) -> list[str]:
    """For a difference that can be read."""
    return re.split(r", (?=[a-z_]+: )", state)


def test_the_running_node_is_what_a_fresh_boot_would_be(hot: Hot) -> None:
    world = hot.world
    world.run("settings", "set", "shop", "hot.boot_check=off", "hot.watch=0.01")
    app = App(hot)
    hot.push()

    app.change(STAYS_HOT)
    hot.push()
    assert hot.strategy() == "hot", hot.reasons()
    app.check()
    world.run("rollback", "shop")
    assert hot.strategy() == "hot", hot.reasons()
    app.check()

    app.change(ROLLS)
    hot.push()
    assert hot.strategy() == "rolling"
    for kind, reason in ROLLS.items():
        assert reason in hot.reasons(), kind

    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None,
        phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    @given(st.sets(st.sampled_from((*STAYS_HOT, *STAYS_HOT, *ROLLS)), min_size=1, max_size=3))
    def each(kinds: set[str]) -> None:
        app.change(sorted(kinds))
        hot.push()
        expected = "rolling" if kinds & ROLLS.keys() else "hot"
        assert hot.strategy() == expected, (kinds, hot.reasons())
        app.check()

    each()
