"""What cannot be done is said, and changes nothing; what was done is recorded."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import pytest

from gatling.cli.registry import COMMANDS
from gatling.errors import Exit
from tests.conftest import new_world

HIDDEN = {"job", "receive", "recover", "ssh-command"}

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A home with the app `shop`, to which nothing has been pushed."""
    with new_world() as made:
        made.load()
        yield made


@pytest.mark.parametrize(
    "command",
    [
        "status nobody", "deploy nobody", "deploy nobody v1", "deploy nobody 0123456789",
        "rollback nobody", "rollback nobody v1", "restart nobody", "start nobody", "stop nobody",
        "releases nobody", "deployments nobody", "deployments nobody 1", "config list nobody",
        "config get nobody X", "config set nobody X=1", "config set nobody X=1 --no-restart",
        "config unset nobody X", "settings list nobody", "settings set nobody health.path=/",
        "settings unset nobody health.path", "domains list nobody", "domains add nobody x.test",
        "domains remove nobody x.test", "logs nobody", "logs nobody -f", "logs nobody --build",
        "run nobody -- eval 1", "unload nobody --confirm nobody",
    ],
)  # fmt: skip
def test_an_app_that_does_not_exist(world: World, command: str) -> None:
    done = world.try_run(*command.split())
    assert done.returncode == Exit.NOT_FOUND, done.stdout
    assert f"There is no app 'nobody' on this machine ({world.home})." in done.stdout
    assert "`gatling load nobody` creates nobody" in done.stdout
    assert world.json("config", "list", "shop").keys() == {"SECRET_KEY_BASE", "RELEASE_COOKIE"}


@pytest.mark.parametrize(
    "command",
    [
        "", "load", "load a b", "status shop x", "apps x", "config", "config set shop",
        "config get shop", "config list", "config frobnicate shop", "settings set shop",
        "domains add shop", "logs shop -n many", "run shop", "deployments shop one",
        "releases shop --xml", "frobnicate", "--frobnicate",
    ],
)  # fmt: skip
def test_wrong_usage(world: World, command: str) -> None:
    done = world.try_run(*command.split())
    assert done.returncode == Exit.USAGE, done.stdout
    assert "Usage: gatling" in done.stdout
    assert "--help" in done.stdout or "Name the app: gatling " in done.stdout
    assert "Traceback" not in done.stdout


def test_a_near_miss_is_named(world: World) -> None:
    assert "Did you mean 'rollback'?" in world.run("rolback", "shop", ok=False)


def test_help(world: World) -> None:
    text = world.run("--help")
    for name in COMMANDS:
        own = world.run(name, "--help")
        assert own.startswith(f"Usage: gatling {name} ")
        assert "Example" in own
        assert (f"\n  {name} " in text) == (name not in HIDDEN), name
    for name in ("config", "settings", "domains"):
        for verb in ("list", "set", "get", "unset", "add", "remove"):
            if f"\n  {verb} " in world.run(name, "--help"):
                assert "Example" in world.run(name, verb, "-h")


@pytest.mark.parametrize("name", ["Shop", "-shop", "a_b", "a.b", "../x", "", "ü", "a" * 64, "a\n"])
def test_a_name_that_no_app_can_have(world: World, name: str) -> None:
    done = world.try_run("load", "--", name)
    assert done.returncode == Exit.INVALID
    assert "cannot be an app's name" in done.stdout
    assert "Use 1 to 63 lower-case letters" in done.stdout
    assert [app["app"] for app in world.json("apps")] == ["shop"]
    assert {p.name for p in (world.home / "apps").iterdir()} == {"shop", "shop.git"}


def test_load_of_an_app_that_is_there(world: World) -> None:
    before = world.status()
    done = world.try_run("load", "shop")
    assert (done.returncode, "There is already an app shop" in done.stdout) == (Exit.INVALID, True)
    assert world.status() == before


@pytest.mark.parametrize("name", ["0", "a" * 63, "a--b"])
def test_names_that_apps_can_have(world: World, name: str) -> None:
    world.run("load", name)
    world.run("unload", name, "--confirm", name)


def test_settings(world: World) -> None:
    defaults = world.json("settings", "list", "shop")
    world.run("settings", "set", "shop", "health.timeout=12.5", "releases.keep=3")
    changed = defaults | {"health.timeout": 12.5, "releases.keep": 3}
    assert world.json("settings", "list", "shop") == changed
    bad = (
        "health.timeout=soon", "health.timeout=nan", "health.path=health", "releases.keep=0",
        "deploy.branch=-x", "build.release=../x", "no.such=1", "health=1", "health.path.x=1",
        "health.path", "",
    )  # fmt: skip
    for text in bad:
        done = world.try_run("settings", "set", "shop", "releases.keep=4", text)
        assert done.returncode == Exit.INVALID, text
        assert "Traceback" not in done.stdout
    done = world.try_run("settings", "set", "shop", "health.timout=1")
    assert "health.timeout" in done.stdout, "the settings that there are"
    done = world.try_run("settings", "set", "shop", "proxy.http3=true")
    assert "HTTP/3 is served on servers only." in done.stdout
    assert world.json("settings", "list", "shop") == changed
    assert world.try_run("settings", "unset", "shop", "health.path").returncode == Exit.NOT_FOUND
    world.run("settings", "unset", "shop", "health.timeout", "releases.keep")
    assert world.json("settings", "list", "shop") == defaults
    text = world.run("settings", "list", "shop")
    assert all(key in text for key in defaults)


def test_audit(world: World) -> None:
    world.run("config", "set", "shop", "API_KEY=hush-hush", "GREETING=psst")
    world.run("settings", "set", "shop", "releases.keep=5")
    world.run("domains", "add", "shop", "audited.test")
    world.run("domains", "remove", "shop", "audited.test")
    world.try_run("domains", "add", "shop", "not a domain")
    world.run("settings", "unset", "shop", "releases.keep")
    world.run("load", "brief")
    world.run("unload", "brief", "--confirm", "brief")
    entries = world.json("audit")
    assert [(e["app"], e["action"], e["detail"]) for e in entries[:7]] == [
        ("brief", "unload", ""),
        ("brief", "load", ""),
        ("shop", "settings", "-releases.keep"),
        ("shop", "domains remove", "audited.test"),
        ("shop", "domains add", "audited.test"),
        ("shop", "settings", "releases.keep"),
        ("shop", "config set API_KEY set GREETING", "for the next deployment"),
    ]
    assert {e["actor"] for e in entries} == {getpass.getuser()}
    assert [e["at"] for e in entries] == sorted((e["at"] for e in entries), reverse=True)
    own = world.json("audit", "shop")
    assert own == [e for e in entries if e["app"] == "shop"]
    text = world.run("audit", "shop")
    assert "domains add" in text
    for value in ("hush-hush", "psst"):
        assert value not in text + str(entries)
    world.run("config", "unset", "shop", "API_KEY", "GREETING")


def test_a_home_that_cannot_be(world: World) -> None:
    for listen in ("localhost:80", "127.0.0.1:0", "127.0.0.1:99999", "8080x", "::1:80", ""):
        assert world.try_run("up", "--listen", listen).returncode == Exit.INVALID, listen
    good = dict(world.env)
    try:
        for home in (f"/tmp/{'x' * 120}", "/dev/null/home", "/etc/hostname", "/tmp/a;b"):
            world.env["GATLING_HOME"] = home
            done = world.try_run("apps")
            assert done.returncode == Exit.INVALID, done.stdout
            assert " !     " in done.stdout
    finally:
        world.env.update(good)
    assert world.run("--version").startswith("gatling ")
