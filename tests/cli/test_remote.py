"""From a laptop: what goes to the server, what stays here, and what ssh is called with.

ssh is a stand-in that writes down its arguments: no server is needed to see where a command goes.
"""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatling.cli import remote, targets
from gatling.cli.registry import COMMANDS
from gatling.cli.targets import Host
from gatling.errors import Exit, InvalidInput
from gatling.ssh.access import split
from tests.cli.conftest import FORWARDED
from tests.scale import scaled

if TYPE_CHECKING:
    from tests.cli.conftest import Laptop


@pytest.mark.parametrize(
    ("given_", "arguments"),
    [
        (["--host", "gatling@box"], ["gatling@box"]),
        (["--host=gatling@box"], ["gatling@box"]),
        (["--host", "box"], ["gatling@box"]),
        (["--host", "ann@box:2222"], ["-p", "2222", "ann@box"]),
        (["--host", "ssh://gatling@box.example.com:22/"], ["-p", "22", "gatling@box.example.com"]),
        (["--host", "gatling@[fe80::1]:22"], ["-p", "22", "gatling@fe80::1"]),
        (["--host", "first", "--host", "second"], ["gatling@second"]),
    ],
)
def test_a_host_that_is_named(laptop: Laptop, given_: list[str], arguments: list[str]) -> None:
    words = ["config", "set", "shop", "A=two words; $(id)"]
    assert laptop.sent(*given_, *words) == [*arguments, "--", shlex.join(words)]


def test_the_exit_status_is_that_of_ssh(laptop: Laptop) -> None:
    assert laptop.run("--host", "box", "status", "shop").returncode == FORWARDED


@pytest.mark.parametrize(
    "host",
    ["", "-oProxyCommand=id", "a b", "gatling@-x", "-x@box", "box;id", "box:0", "box:65536",
     "box:shop", "gatling@box/shop", "http://box", "ssh://-oProxyCommand=id/x", "$(id)", "box\n",
     "a@b@c", "%h", "bøx", "ssh://"],
)  # fmt: skip
def test_what_is_no_host(laptop: Laptop, host: str) -> None:
    with pytest.raises(InvalidInput, match="is not a host"):
        targets.parse(host)
    done = laptop.run("--host", host, "apps")
    assert (done.returncode, done.stdout) == (Exit.INVALID, "")
    assert not (laptop.root / "log").exists()


@settings(max_examples=scaled(100, 500))
@given(st.text(max_size=30) | st.text("-@:[]/.ab1%$ \n", max_size=15))
def test_no_host_becomes_an_option(text: str) -> None:
    try:
        host = targets.parse(text)
    except InvalidInput:
        return
    assert host.target[0] != "-"
    assert "@-" not in host.target
    assert not set(host.target) & set(" \t\n;$`|&<>()'\"\\%/[]")
    assert host.port is None or 0 < int(host.port) < 65536


def test_the_environment_names_a_host_and_the_option_wins(laptop: Laptop) -> None:
    assert laptop.sent("apps", GATLING_HOST="one") == ["gatling@one", "--", "apps"]
    sent = laptop.sent("--host", "two", "apps", GATLING_HOST="one", GATLING_HOME="/nowhere")
    assert sent == ["gatling@two", "--", "apps"]
    sent = laptop.sent("apps", GATLING_HOST="one", GATLING_HOME="/nowhere")
    assert sent == ["gatling@one", "--", "apps"]
    assert laptop.run("apps", GATLING_HOST="-x").returncode == Exit.INVALID


@pytest.mark.parametrize(
    ("url", "arguments"),
    [
        ("gatling@box:shop", ["gatling@box"]),
        ("ssh://gatling@box:2222/shop", ["-p", "2222", "gatling@box"]),
        ("ssh://gatling@box/~/shop.git", ["gatling@box"]),
        ("box:shop", ["box"]),
    ],
)
def test_the_remote_of_the_project_names_a_host(
    laptop: Laptop, url: str, arguments: list[str]
) -> None:
    laptop.remotes(gatling=url, origin="git@github.example:me/shop.git", other="gatling@two:shop")
    deep = laptop.project / "deep/er"
    assert laptop.sent("status", "shop", cwd=deep) == [*arguments, "--", "status shop"]
    assert laptop.sent("status", "shop", GATLING_HOME=str(laptop.root / "home")) is None
    sent = laptop.sent("--host", "three", "apps")
    assert sent == ["gatling@three", "--", "apps"]


def test_the_one_remote_of_our_user_will_do(laptop: Laptop) -> None:
    laptop.remotes(origin="git@github.example:me/shop.git", production="gatling@box:shop")
    assert laptop.sent("apps") == ["gatling@box", "--", "apps"]
    laptop.git("remote", "add", "staging", "gatling@box:shop-staging")
    assert laptop.sent("apps") == ["gatling@box", "--", "apps"]
    laptop.git("remote", "add", "elsewhere", "gatling@two:shop")
    assert laptop.sent("apps") is None


@pytest.mark.parametrize(
    "urls",
    [
        {"gatling": "/home/me/.gatling/apps/shop.git", "other": "gatling@box:shop"},
        {"gatling": "https://box/shop"},
        {"origin": "git@github.example:me/shop.git"},
        {"origin": "https://gatling@box/shop"},
        {"origin": "ssh://-oProxyCommand=id/shop"},
        {},
    ],
)
def test_where_no_remote_names_a_host_it_is_this_machine(
    laptop: Laptop, urls: dict[str, str]
) -> None:
    laptop.remotes(**urls)
    assert laptop.sent("apps") is None
    assert laptop.run("apps").returncode == Exit.OK


def test_git_is_asked_in_a_checkout_only(laptop: Laptop) -> None:
    git = laptop.root / "bin/git"
    git.write_text(f"#!/bin/sh\ntouch {laptop.root}/asked\nexit 1\n")
    git.chmod(0o755)
    assert laptop.run("apps").returncode == Exit.OK
    (laptop.project / ".git").mkdir()
    for words in (("--version",), ("init",), ("apps", "--help"), ("--help",)):
        laptop.run(*words)
    laptop.run("apps", GATLING_HOME=str(laptop.root / ".gatling"))
    assert not (laptop.root / "asked").exists()
    assert laptop.run("apps").returncode == Exit.OK  # what fails there keeps nobody from working
    assert (laptop.root / "asked").exists()


@pytest.mark.parametrize(
    ("words", "goes"),
    [
        (["init"], False),
        (["up"], False),
        (["down"], False),
        (["receive", "shop"], False),
        (["ssh-command", "ann"], False),
        (["server", "backup"], False),
        (["server", "keys", "list"], True),
        (["server", "keys", "--help"], False),
        (["--help"], False),
        (["--version"], False),
        ([], False),
        (["deplyo", "shop"], False),
        (["config", "sett", "shop"], False),
        (["config"], False),
        (["deploy", "shop", "--help"], False),
        (["run", "shop", "--", "--help"], True),
        (["config", "set", "shop", "--stdin", "A"], True),
        (["unload", "shop"], True),
    ],
)
def test_what_stays_here(laptop: Laptop, words: list[str], goes: bool) -> None:
    if words[:1] not in (["receive"], ["up"], ["down"]):
        sent = laptop.sent(*words, GATLING_HOST="box")
        assert sent == (["gatling@box", "--", shlex.join(words)] if goes else None)


def test_every_command_but_few_can_be_used_from_afar() -> None:
    here = {name for name in COMMANDS if not remote.is_remote([name])}
    assert here == {*remote.HERE, *remote.ASKING, "server"} & set(COMMANDS)


def test_a_host_for_what_is_for_this_machine(laptop: Laptop) -> None:
    done = laptop.run("--host", "box", "init")
    assert done.returncode == Exit.INVALID
    assert "only on this machine" in done.stderr
    assert list(laptop.project.iterdir()) == [laptop.project / "deep"]
    assert laptop.run("--host", "box", "--help").returncode == Exit.OK
    assert laptop.run("--host", "box", "apps", "--help").returncode == Exit.OK
    done = laptop.run("--host")
    assert done.returncode == Exit.USAGE
    assert "requires an argument" in done.stderr


def test_a_terminal_is_asked_for_where_it_is_of_use(laptop: Laptop) -> None:
    assert laptop.sent("--host", "box", "console", "shop") == [
        "-t", "gatling@box", "--", "console shop",
    ]  # fmt: skip
    words = ["run", "shop", "--", "remote"]
    assert laptop.sent("--host", "box", *words) == ["gatling@box", "--", shlex.join(words)]
    controller, terminal = pty.openpty()
    try:
        psql = ["db", "psql", "shop"]
        for command, flags in ((words, ["-t"]), (psql, ["-t"]), (["apps"], [])):
            (laptop.root / "log").unlink(missing_ok=True)
            subprocess.run(
                [sys.executable, "-I", "-m", "gatling", "--host", "box", *command],
                env=laptop.env, cwd=laptop.project, check=False, stdin=terminal, stdout=terminal,
                timeout=60,
            )  # fmt: skip
            argv = json.loads((laptop.root / "log").read_text())[1:]
            assert argv == [*flags, "gatling@box", "--", shlex.join(command)]
    finally:
        os.close(controller)
        os.close(terminal)


def test_without_ssh(laptop: Laptop) -> None:
    done = laptop.run("--host", "box", "apps", PATH=str(laptop.root))
    assert done.returncode == Exit.HOST
    assert "ssh is not installed" in done.stderr


@settings(max_examples=scaled(75, 300))
@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20), max_size=5))
def test_the_server_reads_the_words_that_were_typed(words: list[str]) -> None:
    typed = ["run", "shop", "--", *words]
    assert split(shlex.join(typed)) == typed


@pytest.mark.parametrize(
    ("listing", "host"),
    [
        ("gatling\tgatling@box:shop (fetch)\ngatling\tgatling@two:shop (push)", "gatling@two"),
        ("o\tgatling@box:a (fetch)\no\tgatling@box:a (push) [blob:none]", "gatling@box"),
        ("o\tann@box:a (push)", None),
        ("o\t/gatling@box:a (push)", None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_what_git_lists(listing: str, host: str | None) -> None:
    assert targets.choose(listing.splitlines()) == (Host(host) if host else None)
