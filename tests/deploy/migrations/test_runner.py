"""Which files of a release are migrations, and which program of it runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.deploy.migrations import runner
from gatling.deploy.plan import inspection
from gatling.errors import NotFound
from gatling.platform.embedded.home import EmbeddedPaths
from gatling.project.settings import Migrate
from gatling.runtime import spec
from gatling.state.apps import App
from tests.deploy.plan.test_plan import release
from tests.places import surroundings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = EmbeddedPaths(tmp_path / "home", "shop").release(1)
    (tree / "bin").mkdir(parents=True)
    return tree


def write(file: Path, mode: int = 0o644) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")
    file.chmod(mode)


@pytest.mark.parametrize(
    "file",
    [
        ".formatter.exs",
        "seeds.exs",
        "README.md",
        "20240101000000.exs",
        "add_users.exs",
        "20240101000000_users.ex",
        "_.exs",
        ".git/20240101000000_users.exs",
        "20240101000000_users.exs.swp",
        ".20240101000000_users.exs",
    ],
)
def test_files_that_ecto_passes_over_are_no_migrations(tree: Path, file: str) -> None:
    write(tree / "lib/shop-0.1.0/priv/repo/migrations" / file)
    assert runner.names(tree) == set()


def test_each_repository_of_each_application_has_migrations_also_in_directories(tree: Path) -> None:
    for file in (
        "shop-0.1.0/priv/repo/migrations/20240101000000_users.exs",
        "shop-0.1.0/priv/repo/migrations/manual/20240102000000_index.exs",
        "shop-0.1.0/priv/archive/migrations/1_old.exs",
        "shop_web-0.1.0/priv/repo/migrations/20240103000000___init__.exs",
        "shop-0.1.0/priv/repo/seeds/1_never.exs",
    ):
        write(tree / "lib" / file)
    assert runner.names(tree) == {
        "shop/repo/migrations/20240101000000_users.exs",
        "shop/repo/migrations/manual/20240102000000_index.exs",
        "shop/archive/migrations/1_old.exs",
        "shop_web/repo/migrations/20240103000000___init__.exs",
    }


def test_a_script_that_is_not_executable_gives_way_to_the_release_module(tree: Path) -> None:
    write(tree / "lib/shop-0.1.0/ebin/Elixir.Shop.Release.beam")
    write(tree / "bin/migrate")
    words = runner.command(tree, release(1), Migrate())
    assert words is not None
    assert words[0] == "eval"
    assert "Shop.Release.migrate()" in words[1]
    (tree / "bin/migrate").chmod(0o755)
    assert runner.command(tree, release(1), Migrate()) == ("migrate",)


def test_a_program_that_is_not_executable_is_named(tree: Path) -> None:
    write(tree / "bin/shop", 0o755)
    write(tree / "bin/seed")
    app = App("shop", "", "running", None, None, {}, (), {}, {})
    paths = EmbeddedPaths(tree.parents[3], "shop")
    assert paths.release(1) == tree
    with pytest.raises(NotFound, match=r"bin/seed of v1 is not executable") as caught:
        spec.one_off(surroundings(paths.home), app, release(1), 1, ("seed",))
    assert "git update-index --chmod=+x rel/overlays/bin/seed" in caught.value.hint


def test_foreign_entries_of_lib_are_no_applications(tree: Path) -> None:
    for directory in (
        "lib/shop-0.1.0/ebin",
        "lib/.cache-1/ebin",
        "lib/notes",
        "lib/my-app-2.0/ebin",
    ):
        (tree / directory).mkdir(parents=True)
    write(tree / "lib/.keep")
    assert inspection._applications(tree) == ["my-app", "shop"]
