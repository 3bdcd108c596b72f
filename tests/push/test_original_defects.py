"""What was wrong with the original gatling, 2016–17, and cannot be here: one test for each.

The first, that pushed code ran as root, is a server's: tests/server/test_server.py.
"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from tests.conftest import Project, files_below, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import World

pytestmark = pytest.mark.usefixtures("on_demand", "shared_builds")

OF_SQLITE = {"state.db-shm", "state.db-wal"}  # there while a process has the database open


@pytest.fixture(scope="module")
def shop() -> Iterator[Project]:
    with new_world() as world:
        project = world.load(strategy="auto")
        project.push()
        yield project


@pytest.fixture
def world(shop: Project) -> World:
    return shop.world


def test_1_nothing_of_an_app_can_be_written_by_others(world: World) -> None:
    hook = world.home / "apps/shop.git/hooks/pre-receive"
    for path in (hook, world.home / "bin/gatling", world.home / "state.db", world.home):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o022, path


def test_2_a_pushed_domain_cannot_become_configuration(shop: Project, world: World) -> None:
    before = (world.home / "nginx/nginx.conf").read_text()
    hostile = 'x.example; } server { listen 81; return 200 "mine"; } #'
    assert world.try_run("domains", "add", "shop", hostile).returncode == Exit.INVALID
    assert (world.home / "nginx/nginx.conf").read_text() == before


def test_3_a_compilation_that_fails_deploys_nothing(shop: Project, world: World) -> None:
    live = world.status()
    shop.write("lib/counter/broken.ex", "defmodule Broken do")
    shop.commit()
    assert "mix compile failed" in shop.push(ok=False)
    shop.git("reset", "--quiet", "--hard", "HEAD~1")
    same = ("release", "pid", "slot", "state")
    assert [world.status()[key] for key in same] == [live[key] for key in same]


def test_4_ports_are_the_apps_for_ever(shop: Project, world: World) -> None:
    def ports() -> set[int]:
        slots = (world.home / f"apps/shop/slots/{n}/instance.json" for n in (1, 2))
        return {int(json.loads(s.read_text())["env"]["PORT"]) for s in slots if s.exists()}

    world.run("restart", "shop")
    both = ports()
    world.run("restart", "shop")
    world.run("down")
    world.run("up")
    assert ports() == both
    assert world.status()["port"] in both


def test_5_values_of_any_text_reach_the_app_and_nobody_else(shop: Project, world: World) -> None:
    value = "ecto://u:p%40ss@h/db?a=b&c='d e' \"#$HOME\nsecond line = x"
    world.run("config", "set", "shop", "--stdin", "ODD", "--no-restart", stdin=value)
    assert world.run("config", "get", "shop", "ODD") == value + "\n"
    assert "ecto://" not in world.run("config", "list", "shop")
    world.run("restart", "shop")
    shop.title("With it")
    shop.push()
    got = world.run("run", "shop", "--", "eval", 'IO.write(System.get_env("ODD"))')
    assert got.endswith(value)
    for file in world.home.glob("apps/shop/slots/*/instance.json"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_6_domains_change_at_once_and_websockets_pass(shop: Project, world: World) -> None:
    world.run("domains", "add", "shop", "later.example")
    assert world.get(host="later.example").status == 200
    world.run("domains", "remove", "shop", "later.example")
    assert world.get(host="later.example").status == 404
    text = (world.home / "nginx/nginx.conf").read_text()
    assert "proxy_http_version 1.1;" in text
    assert "proxy_set_header Upgrade " in text  # tests/proxy has a websocket pass


def test_7_no_deployment_sets_up_a_database_by_itself(shop: Project, world: World) -> None:
    shop.write("priv/repo/seeds.exs", 'File.write!("seeded", "x")')
    shop.title("With seeds")
    said = shop.push()
    assert "ecto.setup" not in said
    assert "seeded" not in {path.name for path in files_below(world.home)}


def test_8_an_upgrade_is_from_what_runs_and_is_verified(shop: Project, world: World) -> None:
    shop.write("config/runtime.exs", 'import Config\nraise "does not boot"\n')
    shop.commit("built, and never live")
    shop.push(ok=False)
    shop.git("reset", "--quiet", "--hard", "HEAD~1")
    before = world.status()
    shop.title("From what runs")
    assert " is live (hot upgrade) in " in shop.push()
    after = world.status()
    assert after["pid"] == before["pid"]
    assert world.last()["previous"] == before["release"]
    assert "From what runs" in world.get().text
    os.kill(after["pid"], 9)  # and it is for good
    world.run("restart", "shop")
    assert "From what runs" in world.get().text


def test_9_mix_exs_is_evaluated_by_nobody_but_the_build(shop: Project, world: World) -> None:
    mix = (shop.directory / "mix.exs").read_text()
    shop.write("mix.exs", f'File.write!("evaluated-by", System.get_env("MIX_ENV") || "?")\n{mix}')
    commit = shop.commit("tells who evaluates it")
    shop.push("main:refs/heads/other")  # stored only
    assert "evaluated-by" not in {path.name for path in files_below(world.home)}
    world.run("deploy", "shop", commit)
    (told,) = (path for path in files_below(world.home) if path.name == "evaluated-by")
    assert told.read_text() == "prod"
    assert told.is_relative_to(world.home / "apps/shop/build")
    shop.git("reset", "--quiet", "--hard", "HEAD~1")


def test_10_only_the_deploy_branch_deploys_and_a_failure_rejects_it(
    shop: Project, world: World
) -> None:
    count = len(world.json("deployments", "shop"))
    shop.commit("elsewhere")
    shop.push("main:refs/heads/topic", "main:refs/tags/v0")
    assert len(world.json("deployments", "shop")) == count
    assert not (world.home / "apps/shop.git/mix.exs").exists()  # a bare repository, no work tree
    head = shop.git("ls-remote", "gatling", "refs/heads/main")
    shop.write("mix.exs", "nonsense(")
    shop.commit("broken")
    shop.push("+main", ok=False)
    assert shop.git("ls-remote", "gatling", "refs/heads/main") == head
    shop.git("reset", "--quiet", "--hard", "HEAD~2")


def test_11_releases_are_trees_of_their_own_and_few_are_kept(shop: Project, world: World) -> None:
    world.run("settings", "set", "shop", "releases.keep=2")
    live = world.home / "apps/shop/releases" / world.status()["release"]
    before = sorted((p.relative_to(live), p.lstat().st_mtime_ns) for p in live.rglob("*"))
    shop.title("Beside it")
    shop.push("+main")
    assert before == sorted((p.relative_to(live), p.lstat().st_mtime_ns) for p in live.rglob("*"))
    kept = [r for r in (world.home / "apps/shop/releases").iterdir() if r.name.startswith("v")]
    assert len(kept) <= 4  # the live one, two more, and what the running node was booted as


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "~", "-rf", "A", "x" * 64, "a\nb"])
def test_12_names_are_validated_before_anything_is_removed(world: World, name: str) -> None:
    before = set(os.listdir(world.home)) - OF_SQLITE  # noqa: PTH208 (names)
    for words in (("load", "--", name), ("unload", "--confirm", name, "--", name)):
        done = world.try_run(*words)
        assert done.returncode in (Exit.INVALID, Exit.NOT_FOUND), done.stdout
    assert set(os.listdir(world.home)) - OF_SQLITE == before  # noqa: PTH208
