"""Migrations that running code may not live with: found without running them.

An `elixir` takes the place of the release; tests/push has a real one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatling import process
from gatling.deploy.migrations import linter
from gatling.errors import CommandFailed
from gatling.platform.embedded.tasks import LocalTasks
from tests.places import surroundings
from tests.runtime.test_spec import APP, release

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.deploy.migrations.linter import Danger
    from gatling.platform.base import Task
    from gatling.process import Finished


class Elixir(LocalTasks):
    """Runs what a release would be asked to evaluate."""

    def run(
        self, task: Task, *, timeout: float, on_line: Callable[[str], None] | None = None
    ) -> Finished:
        _, command, script = task.argv
        assert command == "eval"
        argv, env = ["elixir", "--eval", script], dict(os.environ) | task.env
        return process.run(argv, timeout=10 * timeout, cwd=task.cwd, env=env, on_line=on_line)


class Answers(LocalTasks):
    """A release that answers what it likes."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def run(
        self, task: Task, *, timeout: float, on_line: Callable[[str], None] | None = None
    ) -> Finished:
        assert timeout <= 30
        assert on_line is not None
        on_line(" ".join([task.env["GATLING_MIGRATIONS"].split(" ")[0], *self.words]))
        return process.Finished((), 0, (), 0.0)


def look(directory: Path, texts: dict[str, str | bytes], tasks: Any = None) -> list[list[Danger]]:
    around = surroundings(directory)
    tree = around.paths.release(7)
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/shop_web").write_text("")
    (tree / "bin/shop_web").chmod(0o755)
    for name, text in texts.items():
        (tree / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    files = [Path(name) for name in texts]
    return linter.found(tasks or Elixir(), around, APP, release(), files)


FOUND = {
    "alter table(:users), do: remove(:name)": "drops column users.name",
    "alter table(:users) do\n remove :name, :string, default: 1\n end": "drops column users.name",
    "alter table(:users, prefix: :x) do\n remove_if_exists :name, :string\n end":
        "drops column users.name",
    "drop table(:users)": "drops table users",
    'drop_if_exists table("users"), mode: :cascade': "drops table users",
    "drop table(@unheard_of)": "drops table @unheard_of",
    "rename table(:users), :name, to: :title": "renames column users.name to title",
    "table(:users) |> rename(:name, to: :title)": "renames column users.name to title",
    "rename table(:users), to: table(:people)": "renames table users to people",
    "alter table(:users), do: modify(:name, :string, null: false, from: :text)":
        "makes column users.name NOT NULL",
    "alter table(:users) do\n add :name, references(:x), null: false\n end":
        "adds column users.name, NOT NULL without a default",
    "alter table(:users), do: add_if_not_exists(:name, :text, null: false, default: nil)":
        "adds column users.name, NOT NULL without a default",
    "alter table(:users), do: timestamps(type: :utc_datetime)":
        "adds column users.inserted_at, NOT NULL without a default",
    'execute "ALTER TABLE users DROP COLUMN name", ""': "runs SQL with DROP",
    "execute ~s|alter table users rename name to #{title}|": "runs SQL with RENAME",
    "execute(fn -> repo().query!(~S(ALTER TABLE a ALTER b SET NOT NULL)) end)":
        "runs SQL with SET NOT NULL",
    'execute """\n DROP\n TABLE users\n """': "runs SQL with DROP",
    "create index(:users, [:name])": "creates an index on users without CONCURRENTLY",
    "create_if_not_exists unique_index(:users, :name, concurrently: false)":
        "creates an index on users without CONCURRENTLY",
}  # fmt: skip

HARMLESS = [
    "create table(:made) do\n add :name, :string, null: false\n timestamps()\n end",
    "create table(:b)\n create index(:b, [:a])\n alter table(:b), do: remove(:a)\n drop table(:b)",
    "create index(:users, [:name], concurrently: true)",
    "alter table(:users) do\n add :b, :text, null: false, default: 0\n end",
    "alter table(:users) do\n timestamps(null: true)\n end",
    "alter table(:users) do\n add :name, :string\n modify :c, :text, null: true\n end",
    "drop index(:users, [:name])",
    "drop constraint(:users, :name)",
    'execute "ALTER TABLE users DROP CONSTRAINT name"',
    'execute "ALTER TABLE users ALTER a DROP NOT NULL", "DROP TABLE users"',
    'execute "CREATE TABLE drops (renamed text)"',
    "flush()",
]


def migration(body: str) -> str:
    return f"defmodule Some.Unheard{hash(body) % 9999} do\n def change do\n {body}\n end\nend\n"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Danger]]:
    """What is found in each, by one VM."""
    bodies = [*FOUND, *HARMLESS]
    # its file's name sorts behind the one before, and may have any characters
    texts: dict[str, str | bytes] = {f"{n:03} ü'\n.exs": migration(b) for n, b in enumerate(bodies)}
    found = look(tmp_path_factory.mktemp("home"), texts)
    return dict(zip(bodies, found, strict=True))


@pytest.mark.parametrize("body", FOUND)
def test_what_running_code_may_not_live_with(told: dict[str, list[Danger]], body: str) -> None:
    (danger,) = told[body]
    assert danger.what == FOUND[body]
    assert danger.why
    words = ("remove", "drop", "add", "modify", "rename", "timestamps", "execute", "create", "quer")
    line = migration(body).splitlines()[danger.line - 1]
    assert any(word in line for word in words)


@pytest.mark.parametrize("body", HARMLESS)
def test_what_it_can_live_with(told: dict[str, list[Danger]], body: str) -> None:
    assert told[body] == []


def test_what_is_run_on_the_way_back_is_not_looked_at(tmp_path: Path) -> None:
    text = "def up, do: drop(table(:a))\ndef down, do: drop(table(:b))\n"
    ((danger,),) = look(tmp_path, {"a.exs": text})
    assert danger == linter.Danger(1, "drops table a", "running code may still use it")
    assert danger.text == "line 1 drops table a: running code may still use it"


def test_a_table_of_an_earlier_migration_of_the_same_deployment(tmp_path: Path) -> None:
    drop = migration("drop table(:a)")
    first, second, third = look(
        tmp_path, {"1": drop, "2": migration("create table(:a)"), "3": drop}
    )
    assert [d.what for d in first] == ["drops table a"]
    assert second == third == []


HOSTILE: dict[str, str | bytes] = {
    "not valid Elixir": "def change do",
    "no text": b"\xff\xfe drop table(:users)",
    "too large": "# " + "x" * 300_000,
    "deep": "(" * 100_000 + ")" * 100_000,
    "many atoms": " ".join(f":a{n}x" for n in range(14_000)),
}


def test_hostile_files(tmp_path: Path) -> None:
    never = tmp_path / "never"
    own: dict[str, str | bytes] = {
        "never run": f'File.write!("{never}", "")\ndrop table(:users)',
        "long": migration(f'drop table(:{"a" * 200})\n drop table(:"\x1b[31m\\n@gatling- 1")'),
        "atoms": "[" + ", ".join(f"b{n}x" for n in range(14_000)) + "]\ndrop table(:users)",
    }
    found = look(tmp_path / "home", HOSTILE | own)
    for dangerous in found[:5]:
        assert [d.what for d in dangerous] == ["was not checked"]
    assert [d.line for d in found[5]] == [2]
    assert not never.exists()
    long, odd = found[6]
    assert len(long.what) < 100
    assert odd.what.isprintable()
    assert [d.line for d in found[7]] == [2]


def test_an_exhausted_limit_of_files_and_of_findings(tmp_path: Path) -> None:
    many = {f"{n:04}": "drop table(:a)" for n in range(linter.MAX_FILES + 1)}
    found = look(tmp_path, dict(many))
    assert found[0] == []
    assert len(found[1]) == 1
    assert sum(map(len, found)) == 100


def test_a_release_that_answers_nonsense(tmp_path: Path) -> None:
    for number, words in enumerate(
        (["9", "1", "=", "=", "=", "="], ["x"] * 6, ["0", "1", "=AAAA", "=", "=", "="],
         ["0", "x", "=ZHJvcA==", "=", "=", "="], ["0", "1", "=%", "=", "=", "="])
    ):  # fmt: skip
        with pytest.raises(CommandFailed, match="invalid answer"):
            look(tmp_path / str(number), {"a": ""}, Answers(*words))
    assert look(tmp_path / "few", {"a": ""}, Answers("0")) == [[]]
