"""The Elixir and OTP that a project asks for, against what the host has and what is installed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from gatling.platform.toolchains import store
from tests.mirror import Mirror, debian_elixir, debian_otp

if TYPE_CHECKING:
    from tests.conftest import Project

pytestmark = pytest.mark.usefixtures("on_demand")

HOST = store.on_path("/usr/bin:/bin")


def test_an_older_toolchain_than_asked_for_is_refused(shop: Project) -> None:
    before = shop.world.status()
    for line, needs, install in (
        ("elixir 9.1.2-otp-99", "Elixir 9.1.2 (.tool-versions)", "9.1.2"),
        ("erlang 99.1", "OTP 99.1 (.tool-versions)", "/99.1"),
    ):
        shop.write(".tool-versions", f"# nodes\nnodejs 20.1.0\n{line}\n")
        shop.commit()
        output = shop.push(ok=False)
        assert re.search(
            rf"project requires {re.escape(needs)}, and this host has Elixir 1", output
        )
        assert f"gatling toolchain install {install}`" in output
        assert shop.world.steps() == ["export_source"]
    after = shop.world.status()
    assert (after["release"], after["pid"]) == (before["release"], before["pid"])


def test_the_requirement_of_mix_exs_is_checked_before_the_build(shop: Project) -> None:
    (shop.directory / ".tool-versions").unlink(missing_ok=True)
    mix = (shop.directory / "mix.exs").read_text()
    required = re.sub(r'elixir: "[^"]*"', 'elixir: "~> 9.7"', mix)
    assert required != mix
    shop.write("mix.exs", required)
    shop.commit()
    output = shop.push(ok=False)
    assert "The project requires Elixir ~> 9.7 (mix.exs), and this host has Elixir 1" in output
    assert "gatling toolchain install 9.7`" in output
    assert shop.world.steps() == ["export_source"]

    # only mix knows what this is, and says so before it gets dependencies
    shop.write("mix.exs", re.sub(r'elixir: "[^"]*"', 'elixir: Enum.join(["~>", "9.7"], " ")', mix))
    shop.commit()
    output = shop.push(ok=False)
    assert "The project requires Elixir ~> 9.7 (mix.exs), and this host has 1" in output
    assert "gatling toolchain install 9.7`" in output
    assert shop.world.steps() == ["export_source", "toolchain"]
    shop.write("mix.exs", mix)
    shop.commit()


@pytest.mark.skipif(HOST is None, reason="this host has no Elixir of Debian's")
def test_an_installed_toolchain_builds_what_asks_for_it(shop: Project) -> None:
    assert HOST is not None
    world = shop.world
    major = HOST.otp.numbers[0]
    # the host's own, which says that it is another patch level
    other = f"{major}.99.1"
    version = f"{HOST.elixir.numbers[0]}.{HOST.elixir.numbers[1]}/{major}.99"
    name = f"{HOST.elixir}-otp-{other}"
    shop.write(".tool-versions", f"erlang {major}.99\n")
    world.run("settings", "set", "shop", "deploy.strategy=auto")
    with Mirror() as builds:
        builds.elixir(str(HOST.elixir), str(major), archive=debian_elixir())
        builds.otp(other, archive=debian_otp(other))
        shown = world.run("toolchain", "source", "--mirror", "http://mirror.example")
        assert "Others on the network can replace the toolchains" in shown
        shown = world.run("toolchain", "source", "--mirror", builds.url)
        assert "Others on the network" not in shown

        said = world.try_run("toolchain", "use", "shop", version)
        assert said.returncode == Exit.NOT_FOUND
        assert f"`gatling toolchain install {version}`" in said.stdout
        world.run("settings", "set", "shop", f"build.toolchain={version}")
        shop.commit()
        output = shop.push(ok=False)
        assert f"The setting build.toolchain requires {version}, and this host has" in output
        assert f"`gatling toolchain install {version}`" in output

        world.run("toolchain", "source", "--automatic", "on")
        output = shop.push()
        assert f"Downloading OTP {other} from" in output
    assert f"OTP {HOST.otp} → {other}" in output
    assert world.status()["release"] == world.last()["release"]
    assert world.json("info", "shop")["otp"] == other

    world.run("settings", "unset", "shop", "build.toolchain")
    (mine, own) = world.json("toolchain", "list")
    assert (mine["name"], mine["otp"], mine["apps"]) == (name, other, ["shop"])
    assert mine["bytes"] > 10_000_000
    assert (own["name"], own["otp"], own["apps"]) == ("system", str(HOST.otp), [])
    assert re.search(rf"{name} .* MB +shop ", world.run("toolchain", "list"))

    # the project's file asks for it; the host's own would do as well, but is another one
    shop.title("Twice")
    output = shop.push()
    assert "OTP" not in output
    assert world.json("info", "shop")["otp"] == other

    refused = world.run("toolchain", "remove", version, ok=False)
    assert f"shop would be built with {name} at the next push" in refused
    assert "`gatling toolchain use shop system`" in refused
    world.run("toolchain", "use", "shop", "system")
    assert f"Removed {name}" in world.run("toolchain", "remove", name)
    assert "Twice" in world.get().text
    assert "built with system" in world.run("toolchain", "use", "shop", "system")
    world.run("settings", "set", "shop", f"build.toolchain={version}")
    shop.commit()
    output = shop.push(ok=False)
    assert f"requires {version}, and this host has Elixir" in output
    assert "It could not be installed: http://127.0.0.1:" in output
    assert "--mirror URL" in output
    world.run("toolchain", "source", "--automatic", "off")

    world.run("toolchain", "use", "shop", "auto")
    shop.title("Thrice")
    assert "is newer than" not in shop.push()
    assert world.json("info", "shop")["otp"] == str(HOST.otp)
    actions = [(each["action"], each["detail"]) for each in world.json("audit")]
    assert ("toolchain install", name) in actions
    assert ("toolchain remove", name) in actions


def test_killed_while_one_is_downloaded(shop: Project) -> None:
    world = shop.world
    before = world.status()
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as mirror:  # never answers
        url = f"http://127.0.0.1:{mirror.getsockname()[1]}"
        world.run("toolchain", "source", "--mirror", url, "--automatic", "on")
        shop.write(".tool-versions", "elixir 9.1.2-otp-99\n")
        shop.commit()
        push = shop.start_push()
        world.at_step("install_toolchain")
        os.kill(world.hook(), signal.SIGKILL)
        push.communicate(timeout=60)
    world.settled()
    assert world.last()["outcome"] == "interrupted"
    assert "killed during install toolchain." in world.last()["error"]
    after = world.status()
    assert (after["release"], after["pid"]) == (before["release"], before["pid"])
    world.run("toolchain", "source", "--automatic", "off")
    shop.write(".tool-versions", "")
    shop.commit()
    shop.push()


def test_a_newer_one_is_told(shop: Project) -> None:
    shop.write(".tool-versions", "elixir 1.2.6 # long ago\nerlang 18.0\n")
    shop.commit()
    output = shop.push()
    assert "is newer than the 1.2.6 of .tool-versions" in output
    assert "is newer than the 18.0 of .tool-versions" in output


def test_what_cannot_be_compared_says_nothing(shop: Project) -> None:
    shop.write(".tool-versions", "elixir latest\nerlang ref:master\n\nelixir\n\xff=\n")
    shop.commit()
    assert "newer" not in shop.push()


def test_a_procfile_is_said_not_to_be_read(shop: Project) -> None:
    line = "Procfile is not read: `gatling init` writes a gatling.toml for workers"
    shop.write("Procfile", "web: mix phx.server\n")
    shop.commit()
    assert line in shop.push()
    shop.write("gatling.toml", "")
    shop.commit()
    assert "Procfile" not in shop.push()
    (shop.directory / "gatling.toml").unlink()


def test_files_of_other_tools_are_read_too(shop: Project) -> None:
    (shop.directory / ".tool-versions").unlink(missing_ok=True)
    mise = '[env]\nelixir = "1.1"\n[tools]\nnode = "20"\nelixir = { version = "9.1.2" } # why\n'
    for file, text, needs in (
        ("mise.toml", mise, "Elixir 9.1.2"),
        (".config/mise.toml", '[tools]\nerlang = ["99", "27"]\n', "OTP 99"),
        ("elixir_buildpack.config", "elixir_version=v9.2\nerlang_version=25.0\n", "Elixir 9.2"),
    ):
        shop.write(file, text)
        shop.write("Procfile", "web: mix phx.server\n")
        shop.commit()
        output = shop.push(ok=False)
        assert f"The project requires {needs} ({file})" in output
        (shop.directory / file).unlink()
