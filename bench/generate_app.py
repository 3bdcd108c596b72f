"""Make a mid-sized Elixir application for build benchmarks out of examples/counter.

    python bench/generate_app.py DIR --modules 300

copies the example to DIR and adds generated modules as ``lib/counter/gen/m001.ex`` and so
on.  The output depends on the number of modules only, so two runs give equal trees.

Each module uses the macro in ``Counter.Gen.Base`` (a dependency at compile time), the struct of
the module before it in its group of ten (an export dependency), and calls the module after it,
from the last around to the first (a dependency at run time).  Base depends on nothing, so there
are no chains at compile time: a change in one module compiles at most its successor as well.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "counter"
NOT_COPIED = shutil.ignore_patterns(
    "_build", "deps", "cover", "doc", "tmp", ".git", ".elixir_ls", "*.ez", "erl_crash.dump"
)
GROUP = 10  # modules in a group; the last of each is a GenServer
TITLE_FILE = Path("lib", "counter", "page.ex")
TITLE = re.compile(r'^(  def title, do: )".*"$', re.MULTILINE)

BASE = """\
defmodule Counter.Gen.Base do
  @moduledoc "What every generated module uses: the one dependency at compile time."

  defmacro __using__(opts) do
    quote do
      @number unquote(Keyword.fetch!(opts, :number))

      def number, do: @number
    end
  end
end
"""

MODULE = """\
defmodule {name} do
  @moduledoc "Generated module {number}."
{uses}
  alias {next}, as: Next

  defstruct id: {number}, label: "item {number}", total: 0, tags: [:gen, :{tag}]

  def new(attributes \\\\ []), do: struct!(__MODULE__, attributes)

  def step(%__MODULE__{{total: total}} = item, {{:add, n}}) when is_integer(n) do
    {{:ok, %{{item | total: total + n}}}}
  end

  def step(%__MODULE__{{}} = item, {{:label, label}}) when is_binary(label) do
    {{:ok, %{{item | label: String.trim(label)}}}}
  end

  def step(%__MODULE__{{tags: tags}} = item, {{:tag, tag}}) when is_atom(tag) do
    {{:ok, %{{item | tags: Enum.uniq([tag | tags])}}}}
  end

  def step(%__MODULE__{{}}, other), do: {{:error, {{:unknown, other}}}}

  def run(%__MODULE__{{}} = item, steps) do
    Enum.reduce_while(steps, {{:ok, item}}, fn change, {{:ok, current}} ->
      case step(current, change) do
        {{:ok, changed}} -> {{:cont, {{:ok, changed}}}}
        {{:error, reason}} -> {{:halt, {{:error, reason}}}}
      end
    end)
  end

  def hand_on(%__MODULE__{{total: total}}, 0), do: total

  def hand_on(%__MODULE__{{total: total}}, steps) when steps > 0 do
    Next.hand_on(Next.new(total: total + @number), steps - 1)
  end
{extra}end
"""

FROM_PREVIOUS = """
  def from(%{previous}{{total: total, tags: tags}}) do
    new(total: total, tags: [:{tag} | tags])
  end
"""

SERVER = """
  def start_link(opts), do: GenServer.start_link(__MODULE__, opts)

  @impl true
  def init(opts), do: {:ok, new(opts)}

  @impl true
  def handle_call(:total, _from, item), do: {:reply, item.total, item}

  def handle_call({:run, steps}, _from, item) do
    case run(item, steps) do
      {:ok, changed} -> {:reply, :ok, changed}
      {:error, reason} -> {:reply, {:error, reason}, item}
    end
  end
"""


def module_source(number: int, modules: int) -> str:
    """Return the source of the generated module ``number`` (from 1) of ``modules``."""
    server = number % GROUP == 0
    tag = f"m{number:03}"
    first = (number - 1) // GROUP * GROUP + 1
    following = first if server or number == modules else number + 1
    extra = ""
    if number != first:
        extra += FROM_PREVIOUS.format(previous=f"Counter.Gen.M{number - 1:03}", tag=tag)
    if server:
        extra += SERVER
    uses = f"  use Counter.Gen.Base, number: {number}"
    return MODULE.format(
        name=f"Counter.Gen.M{number:03}",
        number=number,
        next=f"Counter.Gen.M{following:03}",
        tag=tag,
        uses=f"  use GenServer\n{uses}" if server else uses,
        extra=extra,
    )


def generate(directory: Path, modules: int) -> None:
    """Copy the example to ``directory``, new or empty, and add ``modules`` modules to it."""
    if modules < 0:
        raise ValueError(f"modules must not be negative: {modules}")
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(f"{directory} exists and is not empty")
    shutil.copytree(EXAMPLE, directory, ignore=NOT_COPIED, dirs_exist_ok=True)
    if modules == 0:
        return
    generated = directory / "lib" / "counter" / "gen"
    generated.mkdir()
    (generated / "base.ex").write_text(BASE, encoding="utf-8")
    for number in range(1, modules + 1):
        path = generated / f"m{number:03}.ex"
        path.write_text(module_source(number, modules), encoding="utf-8")


def touch_one_line(directory: Path, n: int) -> None:
    """Change one line of the application in ``directory``: the title on ``/`` ends in ``n``.

    Mix (1.14 at least) compares times in whole seconds: it can miss a change of equal length
    made in the second of the last compilation.  Let a second pass between a build and this.
    """
    path = directory / TITLE_FILE
    source, changes = TITLE.subn(rf'\g<1>"Counter {n}"', path.read_text(encoding="utf-8"))
    if changes != 1:
        raise ValueError(f"{path} must have one line that defines the title, not {changes}")
    path.write_text(source, encoding="utf-8")


def main() -> None:
    """Generate the application that the command line asks for."""
    parser = argparse.ArgumentParser(description="Generate an Elixir application to build.")
    parser.add_argument("directory", type=Path, help="where to; must be new or empty")
    parser.add_argument("--modules", type=int, default=300, help="how many (default: 300)")
    arguments = parser.parse_args()
    try:
        generate(arguments.directory, arguments.modules)
    except (FileExistsError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
