"""gatling.toml in pushed projects: it belongs to its release, and the host has the last word."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project, World

pytestmark = pytest.mark.usefixtures("on_demand", "shared_builds")


def settings_of(project: Project) -> dict[str, object]:
    found: dict[str, object] = project.world.json("settings", "list", "shop")
    return found


def test_it_counts_from_its_own_push_on_and_goes_with_its_release(shop: Project) -> None:
    world, before = shop.world, shop.world.status()["release"]
    shop.write("gatling.toml", '[health]\npath = "/health"\ntimeout = 31\n[instance]\ndrain = 1\n')
    shop.title("with a manifest")
    shop.push()
    assert settings_of(shop)["health.path"] == "/health"
    listed = world.run("settings", "list", "shop")
    assert "health.timeout" in listed
    assert listed.count("gatling.toml") == 3
    world.run("rollback", "shop", before)
    assert settings_of(shop)["health.path"] == "/"
    world.run("rollback", "shop")
    assert settings_of(shop)["health.timeout"] == 31
    # a change of config makes a release of the same source
    world.run("config", "set", "shop", "GREETING=hello")
    assert settings_of(shop)["health.path"] == "/health"


def test_what_it_asks_for_is_done(shop: Project) -> None:
    shop.write("gatling.toml", '[health]\npath = "/nowhere"\n')
    shop.commit()
    shop.push()  # 404 is an answer
    shop.write("gatling.toml", '[health]\npath = "/count"\n[releases]\nkeep = 1\n')
    shop.commit()
    shop.push()
    kept = [r for r in shop.world.json("releases", "shop") if r["kept"]]
    assert len(kept) == 2, "the live one, and one more"


def test_an_error_rejects_the_push_and_changes_nothing(shop: Project) -> None:
    before, page = shop.world.status(), shop.world.get().text
    shop.write("gatling.toml", '[health]\npath = "/health"\n\ntiemout = 5\n')
    shop.title("with an error")
    output = shop.push(ok=False)
    assert "gatling.toml, line 4: health.tiemout is not a known key" in output
    assert "Did you mean health.timeout?" in output
    after = shop.world.status()
    assert (after["release"], after["pid"]) == (before["release"], before["pid"])
    assert shop.world.get().text == page
    shop.write("gatling.toml", "")


MUTATED = {
    "gatling.toml, line 1: nested too deeply": b"a." * 4000 + b"a = 1",
    'gatling.toml, line 1: "\\u001b[2J" is not a known key': b'"\\u001b[2J" = 1\n',
    "gatling.toml is larger than 16 KB": b"#" * 16385,
}
"""All errors are in project/test_manifest.py."""


def all_of(world: World) -> dict[str, object]:
    """What a push could have changed: records but those of its own attempt, files, processes."""
    paths, status = world.home / "apps/shop", world.status()
    named = ("releases", "settings list", "config list", "domains list")
    return {
        "status": [status[key] for key in ("state", "release", "slot", "pid")],
        "records": [world.json(*words.split(), "shop") for words in named],
        "store": {file: file.lstat().st_mtime_ns for file in (paths / "releases").rglob("*")},
        "route": sorted((paths / "route").iterdir()),
        "proxy": (world.home / "nginx/nginx.conf").read_bytes(),
        "processes": sorted(world.processes()),
    }


def test_what_is_not_valid_is_refused_before_anything_is_built(shop: Project) -> None:
    before = all_of(shop.world)
    shop.title("never seen")
    for error, raw in MUTATED.items():
        (shop.directory / "gatling.toml").write_bytes(raw)
        shop.commit()
        output = shop.push(ok=False)
        assert error in output
        assert "Traceback" not in output
        assert "mix_" not in output
        assert [step["name"] for step in shop.world.last()["steps"]] == ["export_source"]
        after = all_of(shop.world)
        for what, was in before.items():
            assert after[what] == was, what
    shop.write("gatling.toml", "")


def test_the_host_has_the_last_word(shop: Project) -> None:
    shop.world.run("settings", "set", "shop", "health.timeout=77")
    shop.write("gatling.toml", "[health]\ntimeout = 33\ninterval = 0.05\n")
    shop.commit()
    shop.push()
    assert settings_of(shop)["health.timeout"] == 77
    assert settings_of(shop)["health.interval"] == 0.05
    shop.world.run("settings", "unset", "shop", "health.timeout")
    assert settings_of(shop)["health.timeout"] == 33


def test_it_says_how_releases_replace_each_other(shop: Project) -> None:
    shop.world.run("settings", "unset", "shop", "deploy.strategy")
    for strategy in ("rolling", "restart"):
        shop.write("gatling.toml", f'[deploy]\nstrategy = "{strategy}"\n')
        shop.commit()
        shop.push()
        last = shop.world.last()
        assert last["strategy"] == strategy
        assert (last["probe"]["failed"] > 0) == (strategy == "restart")
    shop.world.run("settings", "set", "shop", "deploy.strategy=rolling")


def test_it_names_the_branch_that_deploys(shop: Project) -> None:
    before = shop.world.status()["release"]
    shop.write("gatling.toml", '[deploy]\nbranch = "production"\n')
    shop.title("for production")
    output = shop.push("main")
    assert "branch main is stored, not deployed (deploy branch: production)" in output
    assert shop.world.status()["release"] == before
    shop.push("main:refs/heads/production")
    assert "for production" in shop.world.get().text
    output = shop.push(":refs/heads/production", ok=False)
    assert "production is deployed and cannot be deleted" in output
    # a source that names no branch deploys from main, whatever the live one says
    shop.write("gatling.toml", "")
    shop.title("main again")
    shop.push("main")
    assert "main again" in shop.world.get().text


def test_a_project_in_a_directory_of_its_repository(world: World) -> None:
    refused = world.run("load", "shop", "--dir", "../elsewhere", ok=False)
    assert "build.directory" in refused
    assert "shop" not in world.run("apps")
    world.run("load", "shop", "--dir", "apps/shop")
    project = world.project()
    (project.directory / "apps/shop").mkdir(parents=True)
    for entry in sorted(project.directory.iterdir()):
        if entry.name not in ("apps", ".git"):
            project.git("mv", entry.name, "apps/shop/")
    project.write("apps/shop/gatling.toml", '[health]\npath = "/health"\n')
    project.write("gatling.toml", "this is not the app's")
    project.commit()
    project.push()
    assert world.get().status == 200
    assert settings_of(project)["health.path"] == "/health"
    # mix' caches are kept between builds: nothing is compiled again
    project.write("README.md", "beside it\n")
    project.commit()
    output = project.push()
    assert "Compiling" not in output


def test_init_writes_what_a_push_accepts(shop: Project) -> None:
    (shop.directory / "gatling.toml").unlink(missing_ok=True)
    init = [sys.executable, "-I", "-m", "gatling", "init"]
    done = subprocess.run(
        init, cwd=shop.directory, env=shop.world.env, check=True, capture_output=True, text=True
    )
    assert "gatling.toml was written" in done.stdout
    again = subprocess.run(
        init, cwd=shop.directory, env=shop.world.env, check=False, capture_output=True, text=True
    )
    assert again.returncode != 0
    assert "already a gatling.toml" in again.stderr
    shop.commit()
    shop.push()
    commit = shop.git("rev-parse", "HEAD")
    assert shop.world.status()["commit"] == commit


def test_http3_that_the_proxy_does_not_serve_is_reported_and_fails_nothing(shop: Project) -> None:
    shop.write("gatling.toml", "[proxy]\nhttp3 = true\n")
    shop.commit()
    said = "proxy.http3 is not applied: HTTP/3 is served on servers only."
    assert said in shop.push()
    world, target = shop.world, shop.world.status()["release"]
    assert world.get().status == 200
    world.run("rollback", "shop")
    assert said in world.run("plan", "shop", target)
    assert world.json("plan", "shop", target, "--files")["notes"] == [said]
    assert "http3" not in world.run("doctor"), "the live release does not request it"
    world.run("rollback", "shop", target)
    assert f"shop: {said}" in world.run("doctor")
    shop.write("gatling.toml", "")
    shop.commit()
    assert "http3" not in shop.push()
