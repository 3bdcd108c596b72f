"""What the code of another release would set up otherwise, in a node that runs the old one."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from gatling.beam import toolbox

if TYPE_CHECKING:
    from pathlib import Path

SERVER = """
  use GenServer
  require Logger
  def start_link(o), do: GenServer.start_link(__MODULE__, o, name: __MODULE__)
  def init(o) do
    Logger.info("starts with #{inspect(o)}")
    :ets.new(table(), [:named_table])
    Enum.each([1, 2], fn n -> send(self(), {:kept, n, "text" <> inspect(o)}) end)
    {:ok, %{a: 1}}
  end
  defp table, do: __MODULE__
  def handle_info(_, state), do: {:noreply, state}
  def asked, do: "one"
  def typed(n) when is_integer(n) and n > 0, do: n + typed(n - 1)
  def typed(_), do: 0
"""
PROTOCOL = """
  def __protocol__(_), do: true
  def impl_for(_), do: __MODULE__
"""
AGENT = """
  use Agent
  def start_link(_), do: Agent.start_link(__MODULE__, :made, [])
  def made, do: 1
"""
LOOP = """
  use Task
  def start_link(_), do: Task.start_link(__MODULE__, :run, [])
  def run do
    :timer.sleep(10)
    __MODULE__.run()
  end
"""
START = """
  use Application
  def start(_, _) do
    children = [{Agent, fn -> 1 end}]
    Supervisor.start_link(children, strategy: :one_for_one)
  end
"""
ATTACH = '    :telemetry.attach("shop", [:a], &__MODULE__.handle/4, :one)\n    children'
HELPED = "    Case.Helper.attach()\n    children"


@dataclass(frozen=True)
class Case:
    """A module's body, and what another release has instead of some of its text."""

    name: str
    body: str
    old: str
    new: str
    found: str
    """Of the function that differs, and the function called otherwise; empty for none."""
    runs: str = "fixed"


CASES = [
    Case("same", SERVER, '"one"', '"two"', ""),
    Case("moved", SERVER, "  use GenServer\n",
         '  use GenServer\n  def more(x), do: "t#{x}"\n\n', ""),
    Case("between", SERVER, "  defp table,",
         '  def a(x), do: Enum.map(x, &"#{&1}")\n  defp table,', ""),
    Case("init", SERVER, "{:ok, %{a: 1}}", "{:ok, %{a: 2}}", "init/1"),
    Case("local", SERVER, "table, do: __MODULE__", "table, do: :other", "init/1 through table/0"),
    Case("text", SERVER, '"text"', '"test"', "init/1"),
    Case("anonymous", SERVER, "{:kept, n,", "{:kept, n + 1,", "init/1"),
    Case("start", SERVER, "o, name: __MODULE__", "o, name: :elsewhere", "start_link/1"),
    Case("continued", SERVER + "  def handle_continue(:go, s), do: {:noreply, s}\n",
         "{:noreply, s}\n", "{:noreply, s, 10}\n", "handle_continue/2"),
    Case("converted", SERVER, "{:ok, %{a: 1}}\n  end",
         "{:ok, %{b: 1}}\n  end\n  def code_change(_, s, _), do: {:ok, Map.put(s, :b, 1)}", "own"),
    Case("long_ago", SERVER + "  def code_change(_, s, _), do: {:ok, Map.put(s, :a, 1)}\n",
         "{:ok, %{a: 1}}", "{:ok, %{a: 2}}", "init/1"),
    Case("neighbour", SERVER.replace("table()", "Case.Helper.table()"),
         "table, do: :helped", "table, do: :changed", "init/1 through Case.Helper.table/0"),
    # as a consolidated protocol, and a module that merely has a function of such a name
    Case("protocol", SERVER.replace("table()", "impl_for(1)") + PROTOCOL,
         "impl_for(_), do: __MODULE__", "impl_for(_), do: :other", ""),
    Case("no_protocol", SERVER.replace("table()", "impl_for(1)") + PROTOCOL.replace("__p", "p"),
         "impl_for(_), do: __MODULE__", "impl_for(_), do: :other", "init/1 through impl_for/1"),
    Case("agent", AGENT, "do: 1", "do: 2", "made/0"),
    Case("loop", LOOP, ":timer.sleep(10)", ":timer.sleep(20)", ""),
    Case("dynamic", SERVER, "{:ok, %{a: 1}}", "{:ok, %{a: 2}}", "", "dynamic"),
    Case("nobody", SERVER, "{:ok, %{a: 1}}", "{:ok, %{a: 2}}", "", "not"),
    Case("boot", START, "fn -> 1 end}]", "fn -> 1 end}, Case.Same]", "", "application"),
    Case("argument", START.replace("    children", ATTACH), ":one)", ":two)",
         "start/2 through :telemetry.attach/4", "application"),
    Case("attached", START, "    children", ATTACH, "start/2 through :telemetry.attach/4",
         "application"),
    Case("detached", START.replace("    children", ATTACH), ATTACH, "    children",
         "start/2 through :telemetry.attach/4", "application"),
    Case("listed", START, "[{Agent, fn -> 1 end}]", "Case.Helper.children(:one)", "",
         "application"),
    Case("helped", START, "    children", HELPED, "start/2 through Case.Helper.attach/0",
         "application"),
    Case("deeply", START, "    children", HELPED.replace("attach", "deeply"),
         "start/2 through Case.Helper.deeply/0", "application"),
    Case("given", START, "    children", HELPED.replace("attach()", "given(&Case.Same.asked/0)"),
         "start/2 through Case.Helper.given/1", "application"),
    Case("asked", START, "    children", "    _ = Application.get_env(:shop, :x)\n    children", "",
         "application"),
    Case("attaching", START.replace("    children", HELPED, 1), '"helped", [:a]', '"helped", [:b]',
         "start/2 through :telemetry.attach/4", "application"),
]  # fmt: skip
HELPER = """
defmodule Case.Helper do
  def table, do: :helped
  def children(kind), do: Enum.map([Agent, Case.Same], fn child -> {child, kind} end)
  def deeply, do: inside()
  defp inside, do: attach()
  def given(fun), do: fun.()
  def attach, do: :telemetry.attach("helped", [:a], &__MODULE__.handle/4, nil)
end
"""
COMPILE = """
Code.compiler_options(ignore_module_conflict: true)
for file <- Path.wildcard("*/*.ex"), {module, beam} <- Code.compile_file(file) do
  {:ok, stripped} = Mix.Release.strip_beam(beam)
  File.write!(Path.join(Path.dirname(file), "#{module}.beam"), stripped)
end
"""
RUN = """
{:ok, top} = Supervisor.start_link([], strategy: :one_for_one)
{:ok, dynamic} = Supervisor.start_child(top, {DynamicSupervisor, strategy: :one_for_one})
files = fn directory ->
  for file <- Path.wildcard("#{directory}/*.beam"), into: %{} do
    {file |> Path.basename(".beam") |> String.to_atom(), {:shop, String.to_charlist(file)}}
  end
end
for {module, runs, directory} <- CASES do
  case runs do
    :fixed -> {:ok, _} = Supervisor.start_child(top, {module, []})
    :dynamic -> {:ok, _} = DynamicSupervisor.start_child(dynamic, {module, []})
    _ -> :ok
  end
  applications = if runs == :application, do: [{:shop, module}], else: []
  touched = if module in [Case.Neighbour, Case.Attaching], do: [Case.Helper], else: [module]
  new = files.(directory)
  old = files.("old")
  found = :gatling_setup.changes(%{old: old, new: new, touched: touched,
                                   started: :gatling_setup.started(old, new, touched),
                                   applications: applications})
  said = for %{function: f, through: t, own: own} <- found do
    [_, f] = String.split(f, "#{inspect(module)}.")
    t = String.replace_prefix(t, "#{inspect(module)}.", "")
    if own, do: "own", else: if(t == f, do: f, else: "#{f} through #{t}")
  end
  IO.puts("#{inspect(module)}=#{Enum.join(said, " and ")}")
end
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What was found in each case, all of them in one node."""
    root = tmp_path_factory.mktemp("setup")
    subprocess.run(["erlc", "-o", root, *sorted(toolbox.SOURCES.glob("*.erl"))], check=True)
    old = {case.name: source(case, case.body) for case in CASES} | {"helper_": HELPER}
    write(root / "old", old)
    for case in CASES:
        changed = case.name if case.old in case.body else "helper_"
        assert case.old in old[changed], case.name
        write(root / f"new_{case.name}", {changed: old[changed].replace(case.old, case.new)})
    elixir(root, COMPILE)
    for case in CASES:
        for beam in (root / "old").glob("*.beam"):  # what did not change
            copy = root / f"new_{case.name}" / beam.name
            if not copy.exists():
                copy.hardlink_to(beam)
    listed = ", ".join(f'{{{module(c)}, :{c.runs}, "new_{c.name}"}}' for c in CASES)
    said = elixir(root, RUN.replace("CASES", f"[{listed}]"))
    return dict(line.split("=", 1) for line in said.splitlines() if line.startswith("Case."))


def elixir(root: Path, script: str) -> str:
    (root / "run.exs").write_text(script)
    argv = ["elixir", "-pa", ".", "-pa", "old", "run.exs"]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def module(case: Case) -> str:
    return "Case." + "".join(word.capitalize() for word in case.name.split("_"))


def source(case: Case, body: str) -> str:
    return f"defmodule {module(case)} do\n{body}end\n"


def write(directory: Path, sources: dict[str, str]) -> None:
    directory.mkdir()
    for name, text in sources.items():
        (directory / f"{name}.ex").write_text(text)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_set_up_otherwise(found: dict[str, str], case: Case) -> None:
    assert found[module(case)] == case.found
