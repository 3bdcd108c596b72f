"""The command line as a whole: help, exit statuses, near misses, what it loads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from gatling import __version__
from gatling.cli import cli
from gatling.cli.registry import COMMANDS
from gatling.errors import Exit
from tests.cli.conftest import tree

if TYPE_CHECKING:
    from tests.cli.conftest import Shell


EVERY = list(tree(cli))


def test_there_are_all_commands() -> None:
    words = {" ".join(names) for names, _ in EVERY}
    assert words >= set(COMMANDS)
    assert words >= {"config set", "config get", "settings unset", "domains add"}


@pytest.mark.parametrize("names", [names for names, _ in EVERY], ids=" ".join)
def test_every_command_explains_itself_by_an_example(shell: Shell, names: tuple[str, ...]) -> None:
    said = shell.run(*names, "--help")
    head, _, examples = said.out.partition("Example")
    assert f"Usage: gatling {' '.join(names)}" in head
    assert f"gatling {' '.join(names)}" in examples
    assert said.err == ""
    assert shell.run(*names, "-h") == said
    assert not shell.home.exists()  # to ask for help makes nothing


def test_every_option_is_explained() -> None:
    for names, command in EVERY:
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name not in ("lines", "help"):
                assert parameter.help, (names, parameter.name)


def test_the_help_of_all_lists_what_people_call(shell: Shell) -> None:
    listed = shell.run("--help").out.partition("Commands:")[2]
    for name in COMMANDS:
        assert (f"\n  {name} " in listed) == (name not in ("receive", "recover", "job"))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("deplyo", "deploy"), ("release", "releases"), ("setings", "settings"), ("lgs", "logs")],
)
def test_a_command_that_is_nearly_one(shell: Shell, typed: str, meant: str) -> None:
    said = shell.run(typed, "shop", status=Exit.USAGE)
    assert f"No such command '{typed}'" in said.err
    assert f"Did you mean '{meant}'?" in said.err


def test_a_command_that_is_like_no_other(shell: Shell) -> None:
    said = shell.run("xyzzy", status=Exit.USAGE)
    assert "No such command 'xyzzy'" in said.err
    assert "Did you mean" not in said.err


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("status", "a", "b"), ("apps", "--no-such"), ("logs", "shop", "-n", "-1"),
     ("deployments", "shop", "x"), ("config", "set", "shop"), ("config", "unset", "shop"),
     ("config", "sett"), ("run", "shop")],
    ids=" ".join,
)  # fmt: skip
def test_what_cannot_be_understood(shell: Shell, arguments: tuple[str, ...]) -> None:
    said = shell.run(*arguments, status=Exit.USAGE)
    assert said.out == ""
    lines = said.err.splitlines()
    assert all(line.startswith(" !     ") for line in lines), "in the form of all errors"
    assert any(line.startswith(" !     Usage: gatling") for line in lines)
    if arguments != ("status",):  # which names the ways to name an app
        assert re.fullmatch(r" !     `gatling [a-z ]+ --help` explains it\.", lines[-1])


@pytest.mark.parametrize(
    "arguments",
    [("status", "shop"), ("unload", "shop", "--confirm", "shop"), ("releases", "shop"),
     ("deployments", "shop"), ("config", "list", "shop"), ("config", "set", "shop", "A=1"),
     ("settings", "list", "shop"), ("domains", "list", "shop"), ("logs", "shop"),
     ("rollback", "shop"), ("deploy", "shop"), ("stop", "shop"), ("run", "shop", "--", "eval", "1"),
     ("receive", "shop")],
    ids=" ".join,
)  # fmt: skip
def test_an_app_that_there_is_not(shell: Shell, arguments: tuple[str, ...]) -> None:
    said = shell.run(*arguments, status=Exit.NOT_FOUND)
    assert f" !     There is no app 'shop' on this machine ({shell.home})." in said.err
    assert "gatling load shop" in said.err
    assert "gatling --host gatling@SERVER" in said.err
    assert said.out == ""
    assert not shell.home.exists()


@pytest.mark.parametrize(("command", "printed"), [("apps", "[]\n"), ("audit", "[]\n")])
def test_reading_creates_no_home(shell: Shell, command: str, printed: str) -> None:
    assert shell.run(command, "--json").out == printed
    assert shell.run("server", "keys", "list", "--json").out == "[]\n"
    shell.run("server", "check", status=Exit.HOST)
    assert not shell.home.exists()
    shell.home.mkdir()
    shell.run(command)
    assert list(shell.home.iterdir()) == []


def test_a_home_that_may_not_be_read_is_no_empty_one(shell: Shell) -> None:
    shell.home.write_text("a file")
    assert "The home is not a directory" in shell.run("apps", status=Exit.INVALID).err


@pytest.mark.parametrize(
    ("terminal", "status", "why"),
    [(False, Exit.INVALID, "needs a terminal"), (True, Exit.NOT_FOUND, "no app 'shop'")],
)
def test_a_console_is_for_a_terminal(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, terminal: bool, status: Exit, why: str
) -> None:
    monkeypatch.setattr(os, "isatty", lambda _fd: terminal)
    assert why in shell.run("console", "shop", status=status).err


def test_an_empty_home(shell: Shell) -> None:
    assert "No apps yet" in shell.run("apps").out
    assert shell.json("apps") == []
    assert shell.json("audit") == []


def test_an_app_to_which_nothing_was_pushed(shop: Shell) -> None:
    (app,) = shop.json("apps")
    assert (app["app"], app["state"], app["release"], app["pid"]) == ("shop", "empty", None, None)
    status = shop.json("status", "shop")
    assert status["url"] == "http://shop.localhost:9080"
    assert status["domains"] == ["shop.localhost"]
    assert len(status["ports"]) == 2
    assert status["repository"] == str(shop.home / "apps/shop.git")
    assert "empty" in shop.run("status", "shop").out
    assert "no release yet" in shop.run("releases", "shop").out
    assert "no deployment yet" in shop.run("deployments", "shop").out
    assert shop.json("deployments", "shop") == shop.json("releases", "shop") == []
    assert shop.run("logs", "shop").out == ""
    assert shop.run("logs", "shop", "--build").out == ""
    assert [entry["action"] for entry in shop.json("audit", "shop")] == ["load"]


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("load", "shop"), Exit.INVALID, "already an app shop"),
        (("load", "Shop"), Exit.INVALID, "cannot be an app's name"),
        (("load", "../up"), Exit.INVALID, "cannot be an app's name"),
        (("unload", "shop", "--confirm", "other"), Exit.INVALID, "Nothing was changed"),
        (("rollback", "shop"), Exit.INVALID, "been deployed yet"),
        (("rollback", "shop", "x"), Exit.INVALID, "'x' is not a release"),
        (("deploy", "shop", "v9"), Exit.NOT_FOUND, "no release v9"),
        (("deploy", "shop", "nosuchbranch"), Exit.NOT_FOUND, "no commit 'nosuchbranch'"),
        (("deploy", "shop"), Exit.NOT_FOUND, "Nothing has been pushed to main or master"),
        (("deployments", "shop", "99"), Exit.NOT_FOUND, "no deployment 99"),
        (("logs", "shop", "--since", "soon"), Exit.INVALID, "is not a time"),
        (("logs", "shop", "--release", "x"), Exit.INVALID, "is not a release"),
        (("domains", "add", "shop", "a b"), Exit.INVALID, "is not a domain"),
        (("domains", "add", "shop", "https://shop.example:443/x"), Exit.INVALID,
         "Give the host name alone: shop.example."),
        (("domains", "remove", "shop", "a.example"), Exit.NOT_FOUND, "no domain a.example"),
        (("domains", "remove", "shop", "shop.localhost"), Exit.INVALID, "last domain"),
        (("settings", "set", "shop", "health.path"), Exit.INVALID, "has no '='"),
        (("settings", "set", "shop", "no.such=1"), Exit.INVALID, "no setting 'no.such'"),
        (("settings", "set", "shop", "x=1"), Exit.INVALID, "`gatling settings list shop` lists"),
        (("settings", "unset", "shop", "health.path"), Exit.NOT_FOUND, "has not set health.path"),
        (("run", "shop", "--", "eval", "1"), Exit.INVALID, "been deployed yet"),
        (("up", "--listen", "here"), Exit.INVALID, "not an address to listen on"),
    ],
)  # fmt: skip
def test_what_is_refused_says_why(
    shop: Shell, arguments: tuple[str, ...], status: Exit, why: str
) -> None:
    before = shop.json("status", "shop"), shop.json("settings", "list", "shop")
    said = shop.run(*arguments, status=status)
    assert why in said.err
    assert said.out == ""
    assert (shop.json("status", "shop"), shop.json("settings", "list", "shop")) == before


def test_nobody_who_could_be_asked(shop: Shell) -> None:
    said = shop.run("unload", "shop", status=Exit.INVALID)
    assert "Stop shop and delete its repository, releases, config and logs?" in said.err
    assert "Nothing was changed: there is no terminal to answer the question." in said.err
    assert "--confirm shop" in said.err
    assert [app["app"] for app in shop.json("apps")] == ["shop"]


def test_an_app_is_removed_when_its_name_is_given(shop: Shell) -> None:
    shop.run("unload", "shop", stdin=b"shop\n")
    assert shop.json("apps") == []
    assert list((shop.home / "apps").iterdir()) == []
    shop.run("load", "shop")
    shop.run("unload", "shop", "--confirm", "shop")
    assert shop.json("apps") == []


def test_settings_that_are_set_are_listed(shop: Shell) -> None:
    shop.run("settings", "set", "shop", "health.path=/up?a=b", "releases.keep=3")
    listed = shop.json("settings", "list", "shop")
    assert (listed["health.path"], listed["releases.keep"]) == ("/up?a=b", 3)
    shop.run("settings", "set", "shop", "health.timeout=5", "releases.keep=0", status=Exit.INVALID)
    assert shop.json("settings", "list", "shop") == listed
    shop.run("settings", "unset", "shop", "releases.keep")
    assert shop.json("settings", "list", "shop")["releases.keep"] == 10


def test_the_version_is_told_without_loading_anything() -> None:
    script = (
        "import sys; sys.argv = ['gatling', '--version']\n"
        "from gatling.__main__ import main; main()\n"
        "print([m for m in ('sqlite3', 'psutil', 'click', 'msgspec', 'supervisor')"
        " if m in sys.modules])"
    )
    done = subprocess.run(  # in an environment in which bin/test --coverage does not measure it
        [sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True, env={}
    )
    assert done.stdout == f"gatling {__version__}\n[]\n"


def test_the_long_way_to_the_version(shell: Shell) -> None:
    assert shell.run("--version").out == f"gatling {__version__}\n"


def test_a_home_that_cannot_be_one(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATLING_HOME", f"{shell.home}{'x' * 100}")
    assert "too long" in shell.run("apps", status=Exit.INVALID).err


def test_the_module_is_the_command() -> None:
    argv = [sys.executable, "-I", "-m", "gatling", "nope"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == Exit.USAGE
    assert "No such command 'nope'" in done.stderr


def test_the_audit_has_only_what_can_be_and_no_values(shop: Shell) -> None:
    shop.run("jobs", "run", "nobody", "report", status=4)
    shop.run("jobs", "run", "shop", "report", status=4)
    shop.run("settings", "set", "shop", "proxy.headers=X-Token: hunter2")
    actions = [(e["app"], e["action"], e["detail"]) for e in shop.json("audit")]
    assert actions[0] == ("shop", "settings", "proxy.headers")
    assert not [one for one in actions if one[1] == "jobs run"]


def test_logs_of_what_is_not_there(shop: Shell) -> None:
    said = shop.run("logs", "shop", "--release", "v99", status=Exit.NOT_FOUND)
    assert "v99" in said.err
    said = shop.run("logs", "shop", "--process", "worker", status=Exit.NOT_FOUND)
    assert "shop has no worker 'worker'" in said.err
    assert "web" in said.err
    assert shop.run("logs", "shop", "--process", "boot-check").out == ""


def test_an_app_without_passwords(shop: Shell) -> None:
    said = "shop has no passwords. All of its domains are public.\n"
    assert shop.run("auth", "list", "shop").out == said
    assert shop.json("auth", "list", "shop") == []
