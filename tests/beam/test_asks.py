"""What the files of two releases do not tell, so that a node of each must be asked."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from gatling.beam import toolbox

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = {
    "Application": """
  use Application
  def start(_, _), do: Supervisor.start_link(Shop.Children.all(), strategy: :one_for_one)
  def config_change(_, _, _), do: :one
""",
    "Children": "  def all, do: [Shop.Server, Shop.Top]\n  def other, do: :one\n",
    "Server": """
  use GenServer
  def start_link(o), do: GenServer.start_link(__MODULE__, o)
  def init(o), do: {:ok, o}
  def handle_call(:one, _, state), do: {:reply, :one, state}
""",
    "Placed": """
  def child_spec(_), do: %{id: :placed, start: {__MODULE__, :start_link, [[line: 1, at: own()]]}}
  def start_link(_), do: :ignore
  defp own, do: :one
  def called, do: :one
""",
    "Top": """
  use Supervisor
  def start_link(o), do: Supervisor.start_link(__MODULE__, o)
  def init(_), do: Supervisor.init([], Shop.Options.all())
  def other, do: :one
""",
    "Options": "  def all, do: [strategy: :one_for_one]\n  def other, do: :one\n",
    "Page": "  def text, do: :one\n",
    "Product": """
  defstruct [:name]
  def __schema__(:fields), do: [:name]
  def __schema__(:type, :name), do: :string
  def changeset(p), do: {p, :one}
""",
    "Made": """
  def __struct__, do: Map.put(%{}, :__struct__, __MODULE__)
  def __struct__(_), do: __struct__()
  def other, do: :one
""",
}
PLUGINS = "Enum.flat_map([Shop.Children], fn plugin -> plugin.all() end)"
MAPPED = "Enum.flat_map([:all], &Shop.Children.of/1)"
OTHER = "  def of(:all), do: all()\n  def other"
HANDED = {
    "Application": ("Shop.Children.all()", MAPPED),
    "Children": ("  def other", OTHER),
}


@dataclass(frozen=True)
class Case:
    """A text of a module's, what another release has instead, and what is asked for then."""

    name: str
    module: str
    old: str
    new: str
    asks: str
    before: dict[str, tuple[str, str]] = field(default_factory=dict)
    """What both releases have otherwise than the others."""


CASES = [
    Case("page", "Page", ":one", ":two", ""),
    Case("callback", "Server", "{:reply, :one", "{:reply, :two", ""),
    Case("child", "Server", "use GenServer", "use GenServer, restart: :transient", "tree"),
    Case("childless", "Server", "use GenServer", "@behaviour GenServer", "tree"),
    Case("placed", "Placed", "called, do: :one", "called, do: :two", ""),
    Case("placed_elsewhere", "Placed", "own, do: :one", "own, do: :two", "tree"),
    Case("placed_otherwise", "Placed", "line: 1", "line: 2", "tree"),
    Case("helped", "Children", "[Shop.Server, ", "[{Registry, name: R, keys: :unique}, ", "tree"),
    Case("beside", "Children", "other, do: :one", "other, do: :two", ""),
    Case("started", "Application", ":one_for_one", ":rest_for_one", "tree"),
    Case("config_change", "Application", ", do: :one", ", do: :two", ""),
    Case("supervisor", "Top", "other, do: :one", "other, do: :two", "tree"),
    Case("options", "Options", ":one_for_one", ":one_for_all", "tree"),
    Case("beside_options", "Options", "other, do: :one", "other, do: :two", ""),
    Case("removed", "Page", "defmodule Shop.Page", "defmodule Shop.Server.Old", "tree"),
    Case("plugins", "Server", "{:reply, :one", "{:reply, :two", "tree",
         {"Application": ("Shop.Children.all()", PLUGINS)}),
    Case("plugins_page", "Page", ":one", ":two", "",
         {"Application": ("Shop.Children.all()", PLUGINS)}),
    Case("mapped", "Children", "[Shop.Server, ", "[", "tree", HANDED),
    Case("mapped_callback", "Server", "{:reply, :one", "{:reply, :two", "", HANDED),
    Case("schema", "Product", ":string", ":integer", "Shop.Product"),
    Case("changeset", "Product", "{p, :one}", "{p, :two}", ""),
    Case("struct", "Product", "defstruct [:name]", "defstruct [:name, :price]", "Shop.Product"),
    Case("made", "Made", "Map.put(%{}", "Map.put(%{a: 1}", "Shop.Made"),
    Case("made_same", "Made", "other, do: :one", "other, do: :two", ""),
]  # fmt: skip
COMPILE = """
Code.compiler_options(ignore_module_conflict: true)
for release <- System.argv() do
  ebin = "#{release}/#{EBIN}"
  {:ok, _, _} = Kernel.ParallelCompiler.compile_to_path(Path.wildcard("#{release}/*.ex"), ebin)
  modules = for file <- Path.wildcard("#{ebin}/*.beam"), do: Path.basename(file, ".beam")
  app = {:application, :shop, modules: Enum.map(modules, &String.to_atom/1),
         mod: {Shop.Application, []}}
  File.write!("#{ebin}/shop.app", :io_lib.format("~p.", [app]))
end
"""
RUN = """
for name <- System.argv() do
  new = "#{name}/new"
  old = if File.dir?("#{name}/old"), do: "#{name}/old", else: "old"
  files = for file <- Path.wildcard("#{new}/**"), do: Path.relative_to(file, new)
  compared = :gatling_release.compare(old, new, files)
  trees = for :shop <- :gatling_asks.trees(compared, [Shop.Top]), do: "tree"
  asks = trees ++ Enum.map(:gatling_asks.modules(compared), &inspect/1)
  IO.puts("asks #{name}=#{Enum.join(asks, ",")}")
end
"""
EBIN = "lib/shop-1/ebin"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what Gatling runs in nodes."""
    directory = tmp_path_factory.mktemp("asks")
    subprocess.run(["erlc", "-o", directory, *sorted(toolbox.SOURCES.glob("*.erl"))], check=True)
    return directory


@pytest.fixture(scope="module")
def asked(root: Path) -> dict[str, str]:
    """What is asked for in each case, all of them in one node."""
    plain = {name: f"defmodule Shop.{name} do\n{body}end\n" for name, body in SOURCES.items()}
    olds, news = {root / "old": plain}, {}
    for case in CASES:
        old = dict(plain)
        for name, (text, instead) in case.before.items():
            assert text in old[name]
            old[name] = old[name].replace(text, instead)
        if case.before:
            olds[root / case.name / "old"] = old
        assert case.old in old[case.module]
        changed = {case.module: old[case.module].replace(case.old, case.new)}
        news[root / case.name / "new"] = changed
    made(root, olds)
    for case in CASES:  # what does not change
        before = root / case.name / "old" if case.before else root / "old"
        (root / case.name / "new" / EBIN).mkdir(parents=True)
        for beam in (before / EBIN).glob("*.beam"):
            if beam.name != f"Elixir.Shop.{case.module}.beam":
                (root / case.name / "new" / EBIN / beam.name).hardlink_to(beam)
    made(root, news)
    said = elixir(root, RUN, *(case.name for case in CASES))
    lines = [line.removeprefix("asks ") for line in said.splitlines() if line.startswith("asks ")]
    return dict(line.split("=", 1) for line in lines)


def made(root: Path, releases: dict[Path, dict[str, str]]) -> None:
    """Compile releases, each of modules with their sources."""
    for tree, sources in releases.items():
        release(tree)
        for name, text in sources.items():
            (tree / f"{name}.ex").write_text(text)
    trees = [str(tree.relative_to(root)) for tree in releases]
    elixir(root, COMPILE.replace("EBIN", f'"{EBIN}"'), *trees)


def release(tree: Path, config: str = "[].") -> None:
    """What of a release says that it is one."""
    (tree / EBIN).mkdir(parents=True, exist_ok=True)
    (tree / "releases" / "1").mkdir(parents=True)
    (tree / "releases" / "start_erl.data").write_text("1 1")
    (tree / "releases" / "1" / "sys.config").write_text(config)
    (tree / "releases" / "1" / "shop.rel").write_text(
        '{release, {"shop", "1"}, {erts, "1"}, [{shop, "1", permanent}]}.'
    )


def elixir(root: Path, script: str, *arguments: str) -> str:
    (root / "run.exs").write_text(script)
    argv = ["elixir", "-pa", ".", "run.exs", *arguments]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_node_is_asked_where_the_answer_may_differ(asked: dict[str, str], case: Case) -> None:
    assert asked[case.name] == case.asks


CHECKED = "[{elixir, [{config_provider_init, #{validate_compile_env => %s}}]}]."
CONFIGS = [
    ("[{a, #{b => 1, c => 2}}].", "[{a, #{c => 2, b => 1}}].", False),
    ("[{a, #{b => 1}}].", "%% a comment\n[{a, #{b => 1}}].", False),
    ("[{a, #{b => 1}}].", "[{a, #{b => 2}}].", True),
    ("[{a, [{b, 1}, {b, 2}]}].", "[{a, [{b, 2}, {b, 1}]}].", True),
    ("[{a, #{b => 1}}].", "this is no term", True),
    (CHECKED % "[{a, [b], error}, {c, [d], error}]",
     CHECKED % "[{c, [d], error}, {a, [b], error}]", False),
    (CHECKED % "[{a, [b], error}]", CHECKED % "[{a, [b], {ok, 1}}]", True),
]  # fmt: skip


def test_only_what_is_in_a_config_counts(root: Path) -> None:
    for number, (old, new, _) in enumerate(CONFIGS):
        for side, config in (("old", old), ("new", new)):
            place = root / f"config-{number}" / side
            release(place, config)
            (place / EBIN / "shop.app").write_text('{application, shop, [{vsn, "1"}]}.')
    script = """
    for number <- 0..(NUMBER - 1), place = "config-#{number}" do
      compared = :gatling_release.compare(place <> "/old", place <> "/new", [])
      IO.puts("sys.config" in compared.config_files)
    end
    """
    said = elixir(root, script.replace("NUMBER", str(len(CONFIGS))))
    assert said.split() == [str(differs).lower() for _, _, differs in CONFIGS]
