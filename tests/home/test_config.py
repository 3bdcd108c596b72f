"""The variables of an app: exact, rolled without a failed request, taken back when they fail."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import Exit
from tests.conftest import Client, Project, new_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import World

GUARD = """
if System.get_env("GREETING") == "bad", do: raise("this greeting is not polite")
"""

VALUES = {
    "LINES": "first\nsecond\r\n\n\tand last\n",
    "QUOTES": """ both ' and " and ` and \\ and \\n """,
    "SHELL": "$(touch /pwned) ${HOME} $PATH `id` !x & ; | > < * ? ~ # %d %s %%",
    "UNICODE": "Grüße, 世界 🎉 e\u0301",
    "EMPTY": "",
    "EQUALS": "=a=b=",
    "JSON": '{"a": [1, "\\u0000"]}',
    "CONTROL": "\x01\x1b[31m\x7f",
    "_lower9": "x",
}


@pytest.fixture(scope="module")
def shop() -> Iterator[Project]:
    """An app that refuses a certain greeting at boot; its config is older than its first push."""
    with new_world() as world:
        project = world.load(strategy="auto")
        project.write(
            "config/runtime.exs", (project.directory / "config/runtime.exs").read_text() + GUARD
        )
        project.commit()
        output = world.run("config", "set", "shop", "GREETING=hello", "EARLY=bird")
        assert "stored for the next deployment" in output
        project.push()
        assert "hello" in world.get().text
        yield project


@pytest.fixture
def world(shop: Project) -> World:
    return shop.world


def seen(world: World, *names: str, by: str = "rpc") -> dict[str, str | None]:
    """Variables as the running instance sees them (or, by `eval`, a process of its own)."""
    code = f"""
      for name <- ~w({" ".join(names)}) do
        value = System.get_env(name)
        IO.puts("VALUE " <> name <> " " <> if(value, do: Base.encode64(value), else: "nil"))
      end
    """
    found: dict[str, str | None] = {}
    for name, text in re.findall(
        r"^VALUE (\w+) ?(\S*)$", world.run("run", "shop", "--", by, code), flags=re.MULTILINE
    ):
        found[name] = None if text == "nil" else base64.b64decode(text).decode()
    return found


def values(world: World) -> Any:
    return world.json("config", "list", "shop")


def test_values_arrive_exactly(world: World, tmp_path: Path) -> None:
    (tmp_path / "large").write_text("ü" * 50_000)
    (tmp_path / "text").write_bytes(b"from a file\r\n\n")
    before = len(world.json("releases", "shop"))
    world.run("config", "set", "shop", "--no-restart", *(f"{n}={v}" for n, v in VALUES.items()))
    world.run(
        "config", "set", "shop", "--stdin", "PIPED",
        "--file", "LARGE", str(tmp_path / "large"), "--file", "TEXT", str(tmp_path / "text"),
        stdin="piped\nin \\ two lines\n\n",
    )  # fmt: skip
    assert len(world.json("releases", "shop")) == before + 1
    expected = VALUES | {
        "PIPED": "piped\nin \\ two lines\n",  # without the newline that `echo` adds
        "LARGE": "ü" * 50_000,
        "TEXT": "from a file\r\n\n",
    }
    assert {n: v for n, v in values(world).items() if n in expected} == expected
    assert seen(world, *expected) == expected
    assert seen(world, *expected, by="eval") == expected
    for name in ("SHELL", "LARGE", "LINES"):
        assert world.run("config", "get", "shop", name) == expected[name].replace("\r", "") + "\n"
    world.run("config", "unset", "shop", *expected)
    assert not values(world).keys() & expected.keys()
    assert seen(world, *expected) == dict.fromkeys(expected)


def test_a_change_is_a_release_without_a_failed_request(world: World) -> None:
    before = world.status()
    with Client(world) as client:
        world.run("config", "set", "shop", "GREETING=good morning", "COLOUR=red")
    assert client.failures == []
    assert "good morning" in world.get().text
    after = world.status()
    assert after["pid"] != before["pid"]
    assert after["commit"] == before["commit"]
    newest = world.json("releases", "shop")[0]
    assert (newest["origin"], newest["base"]) == ("config", before["release"])
    assert newest["release"] == after["release"] != before["release"]
    deployment = world.last()
    assert deployment["cause"] == "config set COLOUR set GREETING"
    assert deployment["reasons"] == ["config changes: COLOUR, GREETING"]
    assert deployment["probe"]["failed"] == 0
    assert deployment["steps"][0]["name"] == "store_release"
    # again the same: nothing to do
    assert "Nothing to change" in world.run("config", "set", "shop", "COLOUR=red")
    assert world.last()["id"] == deployment["id"]


def test_stored_for_the_next_deployment(shop: Project) -> None:
    world, before = shop.world, shop.world.status()
    output = world.run("config", "set", "shop", "PENDING=one", "--no-restart")
    listed = world.run("config", "list", "shop")
    assert "Stored for the next deployment, not applied yet: PENDING" in listed
    assert "stored for the next deployment" in output
    assert world.status()["pid"] == before["pid"]
    assert world.last()["release"] == before["release"]
    assert values(world)["PENDING"] == "one"
    assert seen(world, "PENDING") == {"PENDING": None}
    shop.title("takes what was stored")
    shop.push()
    assert seen(world, "PENDING") == {"PENDING": "one"}
    world.run("config", "unset", "shop", "PENDING", "--no-restart")
    assert "PENDING" not in values(world)
    assert seen(world, "PENDING") == {"PENDING": "one"}
    world.run("config", "set", "shop", "OTHER=1")
    assert seen(world, "PENDING") == {"PENDING": None}


def test_what_is_stored_survives_a_restart_and_a_crash(world: World) -> None:
    world.run("config", "set", "shop", "PATIENT=yes", "--no-restart")
    world.run("restart", "shop")
    assert values(world).get("PATIENT") == "yes"
    world.run("stop", "shop")
    world.run("start", "shop")
    assert values(world).get("PATIENT") == "yes"
    world.run("config", "unset", "shop", "PATIENT")


def test_what_fails_at_boot_is_not_kept(world: World) -> None:
    before, had = world.status(), values(world)
    with Client(world) as client:
        done = world.try_run("config", "set", "shop", "GREETING=bad", "COLOUR=blue")
    assert client.failures == []
    assert done.returncode == Exit.UNHEALTHY
    assert "exited at boot" in done.stdout
    assert "this greeting is not polite" in done.stdout
    assert values(world) == had
    after = world.status()
    assert [after[k] for k in ("release", "pid", "slot")] == [
        before[k] for k in ("release", "pid", "slot")
    ]
    assert world.last()["outcome"] == "failed"
    assert world.beams() == [before["pid"]]
    world.run("config", "set", "shop", "GREETING=good evening")
    assert "good evening" in world.get().text


def test_rollback_brings_the_config_of_its_release_back(world: World) -> None:
    world.run("config", "set", "shop", "GREETING=the first", "ONLY_FIRST=1")
    first, had = world.status()["release"], values(world)
    world.run("config", "unset", "shop", "ONLY_FIRST", "--no-restart")
    world.run("config", "set", "shop", "GREETING=the second", "ONLY_SECOND=2")
    assert "the second" in world.get().text
    world.run("rollback", "shop")
    assert world.status()["release"] == first
    assert "the first" in world.get().text
    assert values(world) == had
    assert seen(world, "ONLY_FIRST", "ONLY_SECOND") == {"ONLY_FIRST": "1", "ONLY_SECOND": None}
    changes = ("GREETING", "ONLY_FIRST", "ONLY_SECOND")
    assert world.last()["reasons"] == [f"config changes: {', '.join(changes)}"]


def test_stopped_apps_stay_so(world: World) -> None:
    world.run("stop", "shop")
    assert "stored for the next deployment" in world.run("config", "set", "shop", "ASLEEP=1")
    assert world.status()["state"] == "stopped"
    assert world.get().status == 503
    world.run("start", "shop")
    assert values(world)["ASLEEP"] == "1"
    world.run("config", "unset", "shop", "ASLEEP")


def test_names_and_values_that_cannot_be(world: World, tmp_path: Path) -> None:
    had, last = values(world), world.last()["id"]
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "nul").write_bytes(b"a\0b")
    (tmp_path / "long").write_text("x" * (120 * 1024 + 1))
    reserved = ("PORT", "RELEASE_NODE", "RELEASE_TMP", "ERL_AFLAGS", "GATLING_HOME", "RELEASE_X")
    for name in reserved:
        done = world.try_run("config", "set", "shop", "GOOD=1", f"{name}=1")
        assert done.returncode == Exit.INVALID
        assert f"{name} is set by Gatling" in done.stdout
    for bad in ("1X=1", "A-B=1", "=1", "A B=1", "Ü=1", "NO_EQUALS", "A\n=1"):
        assert world.try_run("config", "set", "shop", "GOOD=1", bad).returncode == Exit.INVALID
    for file in ("binary", "nul", "long"):
        done = world.try_run("config", "set", "shop", "--file", "GOOD", str(tmp_path / file))
        assert done.returncode == Exit.INVALID, file
        assert "GOOD" in done.stdout
    for usage in (["shop"], ["shop", "--file", "GOOD", str(tmp_path / "missing")], []):
        assert world.try_run("config", "set", *usage).returncode == Exit.USAGE
    done = world.try_run("config", "unset", "shop", "GREETING", "NEVER_SET")
    assert done.returncode == Exit.NOT_FOUND
    assert "NEVER_SET" in done.stdout
    assert "GREETING" not in done.stdout
    assert world.try_run("config", "get", "shop", "NEVER_SET").returncode == Exit.NOT_FOUND
    assert (values(world), world.last()["id"]) == (had, last)


def test_list_shows_values_only_when_asked(world: World) -> None:
    world.run("config", "set", "shop", "GREETING=shown\nhere", "--no-restart")
    hidden = world.run("config", "list", "shop")
    assert re.search(r"^GREETING +10 characters$", hidden, re.MULTILINE)
    assert "shown" not in hidden
    assert re.search(
        r"^GREETING +shown\\nhere$", world.run("config", "list", "shop", "--show"), re.MULTILINE
    )
    assert values(world)["GREETING"] == "shown\nhere"
    assert {"SECRET_KEY_BASE", "RELEASE_COOKIE", "EARLY"} <= values(world).keys()
    assert len(values(world)["SECRET_KEY_BASE"]) >= 64


def test_what_gatling_sets_and_what_it_suggests(world: World) -> None:
    status = world.status()
    names = ("PORT", "PHX_HOST", "PHX_SERVER", "MIX_ENV", "LANG", "RELEASE_NODE")
    assert seen(world, *names) == {
        "PORT": str(status["port"]), "PHX_HOST": "shop.localhost", "PHX_SERVER": "true",
        "MIX_ENV": "prod", "LANG": "C.UTF-8", "RELEASE_NODE": "counter@127.0.0.1",
    }  # fmt: skip
    cookie = "another-cookie"
    world.run("config", "set", "shop", "PHX_HOST=shop.example", f"RELEASE_COOKIE={cookie}")
    found = seen(world, "PHX_HOST", "RELEASE_COOKIE", "PORT")
    assert (found["PHX_HOST"], found["RELEASE_COOKIE"]) == ("shop.example", cookie)
    assert found["PORT"] == str(world.status()["port"]) != str(status["port"])
    world.run("config", "unset", "shop", "PHX_HOST")
