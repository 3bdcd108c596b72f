"""Generated supervision trees: after a hot upgrade, what runs is what a fresh boot would run."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.hot.conftest import APPLICATION
from tests.scale import scaled

if TYPE_CHECKING:
    from tests.hot.conftest import Hot

pytestmark = pytest.mark.timeout(1800)

IDS = ("A", "B", "C")
EXAMPLES = scaled(4, 16)

TREE = """
defmodule Counter.Tree do
  def start_worker(argument), do: Agent.start_link(Function, :identity, [argument])

  # The running tree in a form that depends on no pid: everything that decides how it goes on.
  def dump, do: Counter.Supervisor |> Process.whereis() |> below() |> inspect(limit: :infinity)

  defp below(supervisor) do
    own = for {id, pid, type, _} <- Supervisor.which_children(supervisor) do
      {:ok, spec} = :supervisor.get_childspec(supervisor, id)
      {id, specification(spec), is_pid(pid), nested(type, id, pid)}
    end
    {elem(:sys.get_state(supervisor), 2), Enum.sort(own)}
  end

  # its argument is the port, which differs
  defp specification(%{id: Counter.Listener} = spec), do: Map.delete(spec, :start)
  defp specification(spec), do: spec

  defp nested(:supervisor, id, pid) when id != Counter.Connections, do: below(pid)
  defp nested(_, _, _), do: nil
end
"""

BOOT = (
    "Application.load(:counter); Application.put_env(:counter, :port, 0);"
    " {:ok, _} = Application.ensure_all_started(:counter); IO.puts('tree: ' ++ to_charlist(DUMP))"
).replace("DUMP", "Counter.Tree.dump()")
RUNNING = "IO.puts('tree: ' ++ to_charlist(Counter.Tree.dump()))"


@dataclass(frozen=True)
class Worker:
    id: str
    argument: int
    restart: str


@dataclass(frozen=True)
class Supervisor:
    id: str
    strategy: str
    children: tuple[Worker | Supervisor, ...]


WORKERS = st.builds(
    Worker,
    st.sampled_from(IDS),
    st.sampled_from((0, 0, 0, 0, 0, 1)),
    st.sampled_from(("permanent", "permanent", "permanent", "permanent", "transient")),
)
STRATEGIES = st.sampled_from(("one_for_one",) * 5 + ("rest_for_one", "one_for_all"))


def siblings(
    of: st.SearchStrategy[Worker | Supervisor],
) -> st.SearchStrategy[tuple[Worker | Supervisor, ...]]:
    return st.lists(of, max_size=3, unique_by=lambda child: child.id).map(tuple)


INNER = st.builds(Supervisor, st.sampled_from(IDS), STRATEGIES, siblings(WORKERS))
OUTER = st.builds(Supervisor, st.sampled_from(IDS), STRATEGIES, siblings(st.one_of(WORKERS, INNER)))
TREES = siblings(st.one_of(OUTER, OUTER, WORKERS))


def specification(child: Worker | Supervisor, path: str) -> str:
    if isinstance(child, Supervisor):
        return f"Counter.Tree{path}.{child.id}"
    return (
        f"%{{id: :{child.id}, restart: :{child.restart},"
        f" start: {{Counter.Tree, :start_worker, [{child.argument}]}}}}"
    )


def modules(children: tuple[Worker | Supervisor, ...], path: str) -> str:
    return "".join(
        f"defmodule Counter.Tree{path}.{child.id} do\n  use Supervisor\n"
        "  def start_link(_), do: Supervisor.start_link(__MODULE__, [])\n"
        f"  def init(_), do: Supervisor.init([{listed(child.children, f'{path}.{child.id}')}],"
        f" strategy: :{child.strategy})\nend\n" + modules(child.children, f"{path}.{child.id}")
        for child in children
        if isinstance(child, Supervisor)
    )


def listed(children: tuple[Worker | Supervisor, ...], path: str) -> str:
    return ", ".join(specification(child, path) for child in children)


def is_safe(
    old: tuple[Worker | Supervisor, ...],
    new: tuple[Worker | Supervisor, ...],
    strategy: str = "one_for_one",
) -> bool:
    """Whether the one tree can become the other without touching a child that stays."""
    before, after = ({key(child): child for child in tree} for tree in (old, new))
    common = [name for name in before if name in after]
    if strategy != "one_for_one" and (
        before.keys() != after.keys() or common != [name for name in after if name in before]
    ):
        return False
    return all(stays(before[name], after[name]) for name in common)


def key(child: Worker | Supervisor) -> tuple[bool, str]:
    """A module-based supervisor's id is its module."""
    return isinstance(child, Supervisor), child.id


def stays(old: Worker | Supervisor, new: Worker | Supervisor) -> bool:
    if isinstance(old, Supervisor) and isinstance(new, Supervisor):
        return old.strategy == new.strategy and is_safe(old.children, new.children, old.strategy)
    return old == new


def tree_in(output: str) -> str:
    found = re.search(r"^tree: (.*)$", output, re.MULTILINE)
    assert found, output
    return found[1]


def test_the_running_tree_is_that_of_a_fresh_boot(hot: Hot) -> None:
    world = hot.world
    application = (hot.project.directory / APPLICATION).read_text()
    world.run("settings", "set", "shop", "hot.watch=0.01")
    seen: Counter[str] = Counter()
    live: list[tuple[Worker | Supervisor, ...]] = [()]
    booted: dict[str, str] = {}
    """The tree of each release that was started beside the running one."""

    def become(tree: tuple[Worker | Supervisor, ...]) -> None:
        children = "".join(f"      {specification(child, '')},\n" for child in tree)
        hot.write(
            APPLICATION,
            application.replace(
                "      Counter.Store,\n",
                f"      Counter.Store,\n{children}",
            ),
        )
        hot.write("lib/counter/tree.ex", TREE + modules(tree, ""))
        hot.push()

    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(TREES)
    @example((Worker("A", 0, "permanent"),))  # one of these two needs a rolling deployment,
    @example((Worker("A", 1, "permanent"),))  # whatever else is generated
    def each(tree: tuple[Worker | Supervisor, ...]) -> None:
        before = world.status()["release"]
        become(tree)
        expected = "hot" if is_safe(live[-1], tree) else "rolling"
        assert hot.strategy() == expected, (live[-1], tree, hot.reasons())
        seen[expected] += 1
        if expected == "hot":
            check()
            if len(live) > 1:  # and the same way back, and forth again
                world.run("rollback", "shop", before)
                assert hot.strategy() == "hot", (live[-1], tree, hot.reasons())
                check()
                world.run("rollback", "shop")
        live.append(tree)

    def check() -> None:
        release = world.status()["release"]
        if release not in booted:
            output = world.run("run", "shop", "--release", release, "--", "eval", BOOT)
            booted[release] = tree_in(output)
        assert tree_in(hot.rpc(RUNNING)) == booted[release]

    become(())
    each()
    assert seen["hot"] >= scaled(2, 6), seen
    assert seen["rolling"] >= scaled(1, 2), seen
