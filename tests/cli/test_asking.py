"""Commands that run on this machine and ask the server: help, version, open; and whoami, info."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gatling import __version__
from gatling.cli import afar, targets
from gatling.errors import Exit
from tests.conftest import until

if TYPE_CHECKING:
    from tests.cli.conftest import Shell
    from tests.cli.far import Far


def test_help_is_the_help_of_what_is_named(shell: Shell, far: Far) -> None:
    assert shell.run("help").out == shell.run("--help").out
    for words in (["status"], ["config", "set"], ["config"]):
        assert shell.run("help", *words).out == shell.run(*words, "--help").out
    assert "Did you mean 'status'?" in shell.run("help", "satus", status=Exit.USAGE).err
    assert "has no command 'x'" in shell.run("help", "status", "x", status=Exit.USAGE).err
    assert "No such command 'sett'" in shell.run("help", "config", "sett", status=Exit.USAGE).err


@pytest.mark.parametrize("words", [["help"], ["help", "version"], ["version"]])
def test_help_and_version_import_nothing_that_opens_a_home(words: list[str]) -> None:
    """They stay within twice the time of `import click`."""
    script = (
        f"import sys; sys.argv = ['gatling', *{words!r}]\n"
        "from gatling.__main__ import main; main()\n"
        "print([m for m in sys.modules if m.startswith(('gatling.platform', 'gatling.state'))])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True, cwd="/"
    )
    assert done.stdout.rstrip().endswith("[]")


HEAVY = (
    "gatling.build", "gatling.deploy", "gatling.proxy.nginx", "gatling.project.manifest",
    "gatling.platform.server", "gatling.platform.interface", "gatling.platform.services",
    "hashlib", "tomllib",
    "psutil", "tempfile", "supervisor",
)  # fmt: skip


@pytest.mark.parametrize(
    "words", [["apps"], ["status", "shop"], ["releases", "shop"], ["config", "list", "shop"]]
)
def test_commands_that_read_import_nothing_that_deploys(shop: Shell, words: list[str]) -> None:
    """Loading it took more time than the command itself."""
    script = (
        f"import sys; sys.argv = ['gatling', *{words!r}]\n"
        "from gatling.__main__ import main; main()\n"
        f"print([m for m in sys.modules if m.startswith({HEAVY!r})])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True, cwd="/"
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_version_of_both_sides(shell: Shell, far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    far.answers("gatling 1.9.0\n")
    said = shell.run("version")
    assert said.out == f"gatling {__version__}\ngatling@web1: gatling 1.9.0\n"
    assert "differ" in said.err
    assert far.asked()[-2:] == ["--", "--version"]
    far.answers(f"gatling {__version__}\n")
    assert shell.run("version").err == ""
    assert shell.run("--host", "ann@web2:2222", "version").out.endswith(f"{__version__}\n")
    assert far.asked()[-5:] == ["-p", "2222", "ann@web2", "--", "--version"]
    far.answers("", "ann@web2: Permission denied (publickey).\n", status=255)
    server = shell.json("version")["server"]
    assert server["version"] is None
    assert "Permission denied (publickey)" in server["error"]
    monkeypatch.delenv("GATLING_HOST")
    assert shell.run("version").out == f"gatling {__version__}\n"
    assert shell.json("version") == {"version": __version__, "server": None}


def test_open_asks_the_server_for_the_address(
    shell: Shell, far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    far.answers({"url": "https://shop.example.com"})
    seen = far.place / "seen"
    browser = far.place / "bin/browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {seen}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", "browser")
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert shell.run("open", "shop", "/admin?a=1").out == ""
    until(lambda: seen.exists() and seen.read_text().endswith("a=1"), "the browser")
    assert seen.read_text() == "https://shop.example.com/admin?a=1"
    assert far.asked()[-3:] == ["gatling@web1", "--", "info shop --json"]
    assert shell.run("open", "shop", "--print").out == "https://shop.example.com\n"
    monkeypatch.setenv("GATLING_ROLE", "reader")  # over SSH: the browser is elsewhere
    assert shell.run("open", "shop").out == "https://shop.example.com\n"


def test_open_starts_a_browser_with_an_address_alone(shell: Shell, far: Far) -> None:
    for url in ("file:///etc/passwd", "javascript:x", "--help", "http://a b", "https://a\x1b[1m"):
        far.answers({"url": url})
        assert "no URL that a browser can open" in shell.run("open", "shop", status=3).err
    far.answers({"url": "https://[2001:db8::5]:8443"})
    assert shell.run("open", "shop", "--print").out == "https://[2001:db8::5]:8443\n"
    far.answers({"url": "http://shop.example.com"})
    assert "is not a path" in shell.run("open", "shop", "admin", status=Exit.INVALID).err


def test_an_error_of_the_server_is_the_command_s(shell: Shell, far: Far) -> None:
    error = {"error": {"code": "not-found", "message": "There is no app 'shop'.", "hint": "See x."}}
    far.answers("", json.dumps(error, indent=2), status=Exit.NOT_FOUND)
    said = shell.run("open", "shop", status=Exit.NOT_FOUND)
    assert said.err == " !     There is no app 'shop'.\n !     See x.\n"
    far.answers("no JSON")
    assert "did not answer with JSON" in shell.run("open", "shop", status=1).err
    far.answers("", "ssh: connect to host web1 port 22: Connection refused\n", status=255)
    said = shell.run("open", "shop", status=Exit.HOST)
    assert "gatling@web1 could not be reached: ssh: connect to host web1" in said.err
    assert "ssh-add" in said.err
    far.answers("", " !     Something.\n", status=127)
    with pytest.raises(afar.Answered) as caught:
        afar.ask(targets.Host("gatling@web1"), ["x"])
    assert (caught.value.what, caught.value.exit_status) == ("Something.", Exit.FAILURE)


def test_lock_and_unlock(shell: Shell) -> None:
    shell.run("load", "shop")
    shell.run("lock", "shop", "-m", "Freeze")
    said = shell.run("lock", "shop", status=Exit.INVALID).err
    assert re.search("shop was locked by .* at 20.*Z: Freeze", said)
    assert re.search("lock +locked by .*: Freeze\n", shell.run("info", "shop").out)
    assert "takes deployments again" in shell.run("unlock", "shop").out
    assert "is not locked" in shell.run("unlock", "shop", status=Exit.NOT_FOUND).err
    assert "lock " not in shell.run("info", "shop").out
    for reason in ("x" * 201, "two\nlines"):
        assert "one line" in shell.run("lock", "shop", "-m", reason, status=Exit.INVALID).err
    assert [each["action"] for each in shell.json("audit", "shop")] == ["unlock", "lock", "load"]


def test_who_one_is_at_the_machine(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shell.json("whoami")
    assert (found["role"], found["apps"], found["fingerprint"]) == ("admin", ["*"], None)
    assert found["home"] == str(shell.home)
    assert "apps     all" in shell.run("whoami").out
    assert not shell.home.exists()


def test_who_one_is_over_ssh(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = "AAAAC3NzaC1lZDI1NTE5AAAAIA6MpnUEBJ4pyY5o5bC0zRkQg6qIZ0bcQhP0YAl3bHTg"
    shell.run("load", "shop")
    shell.run("server", "keys", "add", "rita", "--role", "reader", "--app", "shop",
              stdin=f"ssh-ed25519 {blob} x\n".encode())  # fmt: skip
    monkeypatch.setenv("GATLING_ACTOR", "rita")
    monkeypatch.setenv("GATLING_ROLE", "reader")
    found = shell.json("whoami")
    assert (found["name"], found["role"], found["apps"]) == ("rita", "reader", ["shop"])
    assert found["fingerprint"].startswith("SHA256:")
    said = shell.run("whoami").out
    assert "apps     shop\n" in said
    assert found["fingerprint"] in said


def test_what_is_set_for_an_app(shell: Shell) -> None:
    shell.run("load", "shop")
    shell.run("config", "set", "shop", "DATABASE_URL=ecto://u:secret@h/db")
    shell.run("settings", "set", "shop", "deploy.branch=live", "health.path=/ok")
    found = shell.json("info", "shop")
    assert found["url"] == "http://shop.localhost:9080"
    assert found["branches"] == ["live"]
    assert found["config"] == ["DATABASE_URL", "RELEASE_COOKIE", "SECRET_KEY_BASE"]
    assert found["settings"] == {"deploy.branch": "live", "health.path": "/ok"}
    assert (found["release"], found["releases"], len(found["ports"])) == (None, 0, 2)
    said = shell.run("info", "shop").out
    for line in ("deploy branch    live", "settings         deploy.branch=live, health.path=/ok"):
        assert f"{line}\n" in said
    assert "secret" not in said
    assert shell.run("open", "shop", "--print").out == "http://shop.localhost:9080\n"
    assert "no app 'blog'" in shell.run("info", "blog", status=Exit.NOT_FOUND).err
