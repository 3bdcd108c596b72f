"""The way from one name of an app to another, as docs/how-to/rename-an-app.md has it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

from tests.conftest import ROOT, Client, World, until

PAGE = ROOT / "docs/how-to/rename-an-app.md"


def commands() -> list[str]:
    """The lines that the page tells its reader to type."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [line.strip()[2:] for block in blocks for line in block.splitlines() if line.strip()]


def test_an_app_gets_a_new_name_and_no_request_is_lost(world: World) -> None:
    project = world.load()
    project.push()
    world.run("config", "set", "shop", "GREETING=two words", "--no-restart")
    world.run("domains", "add", "shop", "shop.example.com")
    secret = world.run("config", "get", "shop", "SECRET_KEY_BASE")
    program = f'gatling() {{ {shlex.quote(sys.executable)} -I -m gatling "$@"; }}\n'
    typed = commands()
    assert len(typed) == 10
    with Client(world, "shop.example.com") as client:
        for shown in typed:
            line = shown.replace("gatling@server.example.com:store", f"{world.home}/apps/store.git")
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", program + line], cwd=project.directory,
                env=world.env, check=False, capture_output=True, text=True,
                stdin=subprocess.DEVNULL, timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, (line, done.stdout, done.stderr)
        seen = len(client.texts)
        until(lambda: len(client.texts) > seen + 20, "answers of the new app alone")
    assert client.failures == []
    assert [app["app"] for app in world.json("apps")] == ["store"]
    assert world.json("domains", "list", "store") == ["store.localhost", "shop.example.com"]
    config = world.json("config", "list", "store")
    assert config["GREETING"] == "two words"
    assert config["SECRET_KEY_BASE"] == secret.removesuffix("\n")
    assert config["PHX_HOST"] == "shop.example.com"
    entries = {(entry["app"], entry["action"], entry["detail"]) for entry in world.json("audit")}
    assert entries >= {
        ("store", "domains add", "shop.example.com from shop"),
        ("shop", "domains remove", "shop.example.com to store"),
        ("shop", "unload", ""),
    }
    assert project.git("remote") == "gatling"
    project.title("Renamed")
    assert "=====> store v2" in project.push()
