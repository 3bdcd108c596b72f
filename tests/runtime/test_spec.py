"""What an instance and a one-off command are started with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import InvalidInput, NotFound
from gatling.platform.embedded.home import EmbeddedPaths
from gatling.runtime import spec
from gatling.state.apps import App
from gatling.state.releases import Release
from tests.places import on_server, surroundings

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.platform.base import Surroundings

APP = App(
    name="shop", created_at="", wanted="running", live_release=7, live_slot=1, settings={},
    domains=("shop.example.com",), ports={1: 20000, 2: 20001}, node_ports={1: 20002, 2: 20003},
)  # fmt: skip


@pytest.fixture
def paths(tmp_path: Path) -> EmbeddedPaths:
    paths = EmbeddedPaths(tmp_path, "shop")
    binaries = paths.release(7) / "bin"
    binaries.mkdir(parents=True)
    for name in ("shop_web", "migrate", "notes.txt"):
        (binaries / name).write_text("#!/bin/sh\n")
        (binaries / name).chmod(0o644 if name == "notes.txt" else 0o755)
    return paths


def around(paths: EmbeddedPaths) -> Surroundings:
    return surroundings(paths.home)


def release(config: dict[str, str] | None = None, **changes: Any) -> Release:
    facts: dict[str, Any] = {
        "app": "shop", "number": 7, "origin": "build", "base": None, "commit": "a" * 40,
        "name": "shop_web", "version": "0.1.0", "elixir": "", "otp": "", "config": config or {},
        "bytes": 0, "created_at": "", "removed_at": None,
    }  # fmt: skip
    return Release(**facts | changes)


@pytest.mark.parametrize(("slot", "port", "node_port"), [(1, "20000", 20002), (2, "20001", 20003)])
def test_an_instance_in_a_slot(paths: EmbeddedPaths, slot: int, port: str, node_port: int) -> None:
    made = spec.instance(around(paths), APP, release({"GREETING": "hi"}), slot)
    assert made.argv == (str(paths.release(7) / "bin/shop_web"), "start")
    assert (made.app, made.slot, made.release, made.cwd) == ("shop", slot, 7, paths.release(7))
    assert made.env["PORT"] == port
    assert made.env["PHX_HOST"] == "shop.example.com"
    assert made.env["GREETING"] == "hi"
    assert f"-erl_epmd_port {node_port} " in made.env["ERL_ZFLAGS"]
    assert made.env["RELEASE_TMP"] == str(paths.slot(slot) / "tmp")
    assert made.env["RELEASE_NODE"] == "shop_web@127.0.0.1"


def test_config_is_above_what_is_suggested_and_below_what_is_set(paths: EmbeddedPaths) -> None:
    wanted = {"PHX_HOST": "other.example.com", "PATH": "/own", "PORT": "1", "RELEASE_TMP": "/"}
    env = spec.environment(around(paths), APP, release(wanted), 1)
    assert (env["PHX_HOST"], env["PATH"]) == ("other.example.com", "/own")
    assert (env["PORT"], env["RELEASE_TMP"]) == ("20000", str(paths.slot(1) / "tmp"))


def test_nothing_else_of_whoever_deploys(
    paths: EmbeddedPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET", "GIT_DIR", "ERL_LIBS", "LD_PRELOAD", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "leaked")
    env = spec.environment(around(paths), APP, release(), 1)
    assert "leaked" not in env.values()


def test_a_program_of_the_release_or_a_command_of_its_script(paths: EmbeddedPaths) -> None:
    tree = paths.release(7) / "bin"
    for arguments, argv in (
        (("migrate", "--all"), [str(tree / "migrate"), "--all"]),
        (("eval", "1 + 1"), [str(tree / "shop_web"), "eval", "1 + 1"]),
        (("shop_web", "start"), [str(tree / "shop_web"), "shop_web", "start"]),
        (("../bin/migrate",), [str(tree / "shop_web"), "../bin/migrate"]),
    ):
        assert spec.one_off(around(paths), APP, release(), 1, arguments)[0] == argv
    with pytest.raises(NotFound, match=r"bin/notes.txt of v7 is not executable"):
        spec.one_off(around(paths), APP, release(), 1, ("notes.txt",))


def test_a_one_off_command_keeps_out_of_the_instances_way(paths: EmbeddedPaths) -> None:
    _, env = spec.one_off(around(paths), APP, release({"A": "1"}), 1, ("eval", "1"))
    assert "PHX_SERVER" not in env
    assert "-dist_listen false" in env["ERL_ZFLAGS"]
    assert env["RELEASE_TMP"] != spec.environment(around(paths), APP, release(), 1)["RELEASE_TMP"]
    assert env["A"] == "1"


def test_only_the_vm_of_what_serves_waits_busily(paths: EmbeddedPaths) -> None:
    serving = release(manifest={"processes.mail.command": "eval 'Shop.mail()'"})
    once = spec.one_off(around(paths), APP, serving, 1, ("eval", "1"))[1]
    assert once["ERL_AFLAGS"] == "+sbwt none +sbwtdcpu none +sbwtdio none"
    assert spec.quiet(paths.release(7), serving)["ERL_AFLAGS"] == once["ERL_AFLAGS"]
    assert "ERL_AFLAGS" not in spec.instance(around(paths), APP, serving, 1).env
    assert "ERL_AFLAGS" not in spec.process(around(paths), APP, serving, "mail", 1).env


def test_a_tree_without_its_script(paths: EmbeddedPaths) -> None:
    with pytest.raises(NotFound, match="v7 has no bin/other"):
        spec.one_off(around(paths), APP, release(name="other"), 1, ("eval", "1"))


@pytest.fixture
def of_distillery(paths: EmbeddedPaths) -> EmbeddedPaths:
    """The same, as Distillery would have made it."""
    directory = paths.release(7) / "releases/0.1.0"
    directory.mkdir(parents=True)
    (directory / "shop_web.sh").write_text("")
    return paths


def test_a_release_of_distillerys_is_started_in_its_way(of_distillery: EmbeddedPaths) -> None:
    config = {"RELEASE_COOKIE": "it's secret", "REPLACE_OS_VARS": ""}
    made = spec.instance(around(of_distillery), APP, release(config), 1)
    assert made.argv == (str(of_distillery.release(7) / "bin/shop_web"), "foreground")
    assert made.env["RELEASE_MUTABLE_DIR"] == str(of_distillery.slot(1) / "tmp")
    assert made.env["COOKIE"] == "it's secret"
    assert made.env["ERL_ZFLAGS"].endswith(""" -setcookie 'it'"'"'s secret'""")
    assert made.env["REPLACE_OS_VARS"] == ""
    assert spec.environment(around(of_distillery), APP, release(), 1)["REPLACE_OS_VARS"] == "true"


def test_on_a_server_its_cookie_is_in_a_file_alone(of_distillery: EmbeddedPaths) -> None:
    server = on_server(of_distillery.home / "home")
    env = spec.instance(server, APP, release({"RELEASE_COOKIE": "secret"}), 1).env
    assert env.pop("GATLING_COOKIE") == "secret"
    assert not any("secret" in value or "-setcookie" in value for value in env.values())
    argv = spec.task(server, APP, release(), 1, ("eval", "1")).argv
    assert argv == [str(server.paths.release(7) / "bin/shop_web"), "eval", "1"]


def test_its_one_off_commands(of_distillery: EmbeddedPaths) -> None:
    def argv(*words: str) -> list[str]:
        made = list(spec.task(around(of_distillery), APP, release(), 1, words).argv)
        assert made[:2] == ["/bin/sh", "-c"]  # with a directory of its own
        return made[3:]

    config = {"RELEASE_COOKIE": "secret"}
    env = spec.task(around(of_distillery), APP, release(config), 1, ("remote",)).env
    # on its command line, too, it would be there twice, and count for nothing
    assert (env["COOKIE"], "-setcookie" in env["ERL_ZFLAGS"]) == ("secret", False)
    main = str(of_distillery.release(7) / "bin/shop_web")
    assert argv("remote") == [main, "remote_console"]
    assert argv("rpc", "1") == [main, "rpc", "1"]
    assert argv("seed", "all") == [main, "seed", "all"]
    assert argv("migrate", "now") == [str(of_distillery.release(7) / "bin/migrate"), "now"]
    for command in ("upgrade", "downgrade", "install", "unpack"):
        with pytest.raises(InvalidInput, match=f"{command} would change the tree of v7"):
            argv(command, "0.2.0")


def test_its_processes_have_the_directory_of_their_slot(of_distillery: EmbeddedPaths) -> None:
    manifest = {"processes.worker.command": "eval 'Shop.work()'"}
    made = spec.process(around(of_distillery), APP, release(manifest=manifest), "worker", 1)
    assert made.argv == (str(of_distillery.release(7) / "bin/shop_web"), "eval", "Shop.work()")
    assert made.env["RELEASE_MUTABLE_DIR"] == made.env["RELEASE_TMP"]
    assert made.env["RELEASE_MUTABLE_DIR"] == str(of_distillery.slot("worker.1") / "tmp")
