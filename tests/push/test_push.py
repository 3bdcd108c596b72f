"""A push, as a person sees it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Client, Project, until

if TYPE_CHECKING:
    from tests.conftest import World

STEPS = [
    "export_source", "mix_deps_get", "mix_compile", "mix_release", "store_release",
    "start_instance", "health_check", "switch_proxy", "drain", "stop_previous",
]  # fmt: skip


@pytest.mark.quick("a push")
def test_pushes_replace_one_another_without_a_failed_request(world: World) -> None:
    project = world.load()
    output = project.push()
    assert re.findall("-----> (.*)", output) == [
        f"Building {project.git('rev-parse', '--short=9', 'HEAD')}", "Preparing v1", "Starting v1",
        "Switching to v1",
    ]  # fmt: skip
    # parts of less than 100 ms are not worth a word, as the others may be
    assert re.search(r" mix compile [\d.]+ m?s( · |$)", output, re.MULTILINE)
    live, evidence, url, following = output.partition("\n=====>")[2].splitlines()[:4]
    assert re.fullmatch(r" shop v1 is live \(first start\) in [\d.]+ s", live)
    assert re.fullmatch(r" {7}0 of \d+ requests? failed, the slowest took \d+ ms", evidence)
    assert url == f"       http://shop.localhost:{world.port}"
    assert following == "       Logs: gatling logs shop --follow"
    assert not re.search(r"\.bat|mix_|_instance", output)
    assert world.get().status == 200
    old = world.status()
    assert (old["state"], old["release"], old["slot"]) == ("running", "v1", 1)
    assert old["commit"] == project.git("rev-parse", "HEAD")
    assert old["pid"]
    deployment = world.last()
    assert [s["name"] for s in deployment["steps"]] == STEPS[:-2]
    assert deployment["outcome"] == "succeeded"
    assert deployment["probe"]["requests"] > 0
    assert deployment["probe"]["failed"] == 0

    project.title("Second edition")
    with Client(world) as client:
        output = project.push()
        until(lambda: "Second edition" in client.texts[-1], "the new page")
    assert client.failures == []
    new = world.status()
    assert (new["release"], new["slot"]) == ("v2", 2)
    assert new["pid"] != old["pid"]
    assert not any(f"{old['pid']} " in line[:8] for line in world.processes())
    assert [s["name"] for s in world.last()["steps"]] == STEPS
    assert re.search(r"0 of \d+ requests failed, the slowest took", output)
    assert "Logs: gatling logs shop --follow   Undo: gatling rollback shop\n" in output
    # unchanged files are shared with the release before
    trees = world.home / "apps/shop/releases"
    beams = [next((trees / v).glob("erts-*/bin/beam.smp")) for v in ("v1", "v2")]
    assert beams[0].stat().st_ino == beams[1].stat().st_ino
    second, first = (release["bytes"] for release in world.json("releases", "shop"))
    assert second < first / 10

    project.title("Third edition")
    project.push()
    assert "Third edition" in world.get().text
    assert world.status()["slot"] == 1


def test_pushing_what_is_live_does_nothing(shop: Project) -> None:
    world = shop.world
    before = world.last()["id"]
    head = shop.git("rev-parse", "HEAD")
    shop.git("push", "--quiet", "gatling", "HEAD:refs/heads/elsewhere")
    # the same commit again, to a branch that deploys
    output = shop.push("HEAD:refs/heads/master")
    assert f"v1 of {head[:9]} is already live; nothing to do" in output
    assert world.last()["id"] == before


def test_other_branches_and_tags_are_stored_and_not_deployed(shop: Project) -> None:
    before = shop.world.last()["id"]
    shop.git("tag", "--force", "v1.0", "--message", "a tag")
    output = shop.push("HEAD:refs/heads/topic", "v1.0")
    assert "branch topic is stored, not deployed (deploy branch: main or master)" in output
    assert "tag v1.0 is stored, not deployed" in output
    assert shop.world.last()["id"] == before
    assert shop.git("ls-remote", "gatling", "refs/heads/topic", "refs/tags/v1.0").count("\n") == 1


def test_the_deploy_branch_cannot_be_deleted(shop: Project) -> None:
    output = shop.push(":main", ok=False)
    assert "main is deployed and cannot be deleted" in output
    assert shop.world.get().status == 200


def test_the_deploy_branch_can_be_chosen(shop: Project) -> None:
    world = shop.world
    project = world.load("chosen")
    world.run("settings", "set", "chosen", "deploy.branch=production")
    assert "branch main is stored, not deployed (deploy branch: production)" in project.push()
    assert world.status("chosen")["state"] == "empty"
    project.push("main:production")
    assert world.status("chosen")["release"] == "v1"
    world.run("unload", "chosen", "--confirm", "chosen")


def test_submodules_are_exported_and_follow_their_commit(world: World) -> None:
    library = world.project("library")
    # only its one module is wanted, not the example's own ones again
    library.git("rm", "-r", "--quiet", "lib", "config", "mix.exs")
    library.write("greet.ex", 'defmodule Greet do\n  def word, do: "from the submodule"\nend\n')
    library.commit()
    project = world.load()
    project.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add",
                str(library.directory), "lib/greet")  # fmt: skip
    project.replace(
        "lib/counter/page.ex", 'def title, do: "Counter"', "def title, do: Greet.word()"
    )
    project.commit()
    project.push()
    assert "from the submodule" in world.get().text
    library.replace("greet.ex", "from the submodule", "moved on")
    library.commit()
    project.git("-C", "lib/greet", "-c", "protocol.file.allow=always", "pull", "--quiet",
                "origin", "main")  # fmt: skip
    project.commit()
    project.push()
    assert "moved on" in world.get().text


def test_a_removed_file_is_gone_from_the_next_release(world: World) -> None:
    project = world.load()
    project.write("priv/old.txt", "old")
    project.commit()
    project.push()
    (project.directory / "priv/old.txt").unlink()
    project.write("priv/new.txt", "new")
    project.commit()
    project.push()
    trees = world.home / "apps/shop/releases"
    assert [p.name for p in trees.glob("v1/lib/counter-*/priv/*")] == ["old.txt"]
    assert [p.name for p in trees.glob("v2/lib/counter-*/priv/*")] == ["new.txt"]


def test_old_releases_are_removed_and_still_listed(world: World) -> None:
    project = world.load()
    world.run("settings", "set", "shop", "releases.keep=1")
    project.push()
    for value in "abc":
        world.run("config", "set", "shop", f"GREETING={value}")
    listed = world.json("releases", "shop")
    assert [(r["release"], r["kept"]) for r in listed] == [
        ("v4", True), ("v3", True), ("v2", False), ("v1", False),
    ]  # fmt: skip
    assert sorted(p.name for p in (world.home / "apps/shop/releases").iterdir()) == ["v3", "v4"]
    assert "is no longer retained" in world.run("rollback", "shop", "v1", ok=False)
    world.run("rollback", "shop", "v3")
    assert "b" in world.get().text


def test_a_shallow_clone_is_refused_before_anything_is_built(shop: Project) -> None:
    world = shop.world
    before = world.last()["id"]
    for number in range(2):
        shop.title(f"upstream {number}")
    clone = Project(world, "shop", world.root / "shallow")
    shop.git("clone", "--quiet", "--depth=1", f"file://{shop.directory}", str(clone.directory))
    clone.git("remote", "add", "gatling", shop.git("remote", "get-url", "gatling"))
    said = clone.push("--force", "HEAD:main", ok=False)
    assert "git fetch --unshallow" in said
    assert world.last()["id"] == before
    assert "upstream" not in world.get().text
    clone.git("fetch", "--quiet", "--unshallow")
    said = clone.push("HEAD:main", options=("--push-option=ci.skip",))
    assert "the push option 'ci.skip' has no effect here" in said
    assert "upstream 1" in world.get().text


def test_a_branch_is_deployed_rather_than_a_tag_of_its_name(shop: Project) -> None:
    other = shop.git("commit-tree", "HEAD^{tree}", "-m", "not the branch")
    shop.git("tag", "main", other)
    shop.git("push", "--quiet", "gatling", "refs/tags/main")
    shop.world.run("deploy", "shop", "main")
    assert shop.world.last()["commit"] == shop.git("rev-parse", "refs/heads/main")
    shop.git("tag", "--delete", "main")  # `git push gatling main` would be ambiguous


def test_a_forced_push_deploys_and_the_commit_before_can_be_deployed_again(shop: Project) -> None:
    lost = shop.title("lost")
    shop.push()
    shop.git("reset", "--quiet", "--hard", "HEAD~1")
    shop.title("instead")
    assert "non-fast-forward" in shop.push(ok=False)
    shop.push(options=("--force",))
    assert "instead" in shop.world.get().text
    bare = shop.world.home / "apps/shop.git"
    shop.git("--git-dir", str(bare), "gc", "--quiet", "--prune=now")
    shop.world.run("deploy", "shop", lost[:9])
    assert "lost" in shop.world.get().text
