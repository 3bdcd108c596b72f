"""What comes over SSH: git, commands and refusals."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.cli import run_command_line
from gatling.errors import Exit
from gatling.platform.open import current_user
from gatling.ssh import access, policy
from tests.ssh.visits import HOLDERS, Server, new_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_server() as made:
        yield made


# -- git ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["shop", "shop.git", "/shop", "/shop.git", "~/shop", "~/shop.git", "/~/shop", "shop/"]
)
@pytest.mark.parametrize("service", ["git-receive-pack", "git receive-pack", "git-upload-pack"])
def test_git_is_served_what_it_asks_for(server: Server, service: str, path: str) -> None:
    became = server.visit("bob", f"{service} '{path}'").became
    assert became is not None
    assert Path(became.path).name == "git"
    assert became.argv == ["git", service[4:], server.repository("shop")]


@pytest.mark.parametrize(
    "typed",
    ["git-upload-archive 'shop'", "git upload-archive shop", "git", "git status", "git-shell",
     "git-upload-pack", "git-upload-pack shop blog", "git-upload-pack --strict shop",
     "git-receive-pack shop --upload-pack=x", "git --exec-path=/tmp receive-pack shop",
     "git-receive-pack", "git -c core.sshCommand=x upload-pack shop", "gitx shop"],
)  # fmt: skip
def test_of_git_nothing_else_is_served(server: Server, typed: str) -> None:
    seen = server.visit("ann", typed)
    assert (seen.status, seen.became, seen.ran) == (Exit.REFUSED, None, [])


@pytest.mark.parametrize(
    "path",
    ["../shop", "/../home/apps/shop", "/shop/../blog", "-x", "--upload-pack=x", "", "/", "~",
     "~ann/shop", "//shop", "shop.git.git", "shop.git/hooks", "$(id)", "Shop", "/tmp/x", "./shop",
     "shop;id"],
)  # fmt: skip
def test_no_other_path_is_a_repository(server: Server, path: str) -> None:
    seen = server.visit("ann", f"git-receive-pack {shlex.quote(path)}")
    assert (seen.status, seen.became) == (Exit.INVALID, None)
    assert server.apps() == ["blog", "shop"]


@pytest.mark.parametrize(
    ("name", "push", "fetch"),
    [("ann", True, True), ("eve", True, True), ("bob", False, False), ("rita", False, False),
     ("rob", False, True)],
)  # fmt: skip
def test_an_app_of_others(server: Server, name: str, push: bool, fetch: bool) -> None:
    for service, may in (("git-receive-pack", push), ("git-upload-pack", fetch)):
        seen = server.visit(name, f"{service} blog")
        assert (seen.became is not None, seen.status) == (may, None if may else Exit.REFUSED)
        # whether there is an app is not told to whom it does not concern
        assert may or server.visit(name, f"{service} none").status == Exit.REFUSED


def test_what_there_is_not_is_not_fetched(server: Server) -> None:
    assert server.visit("rob", "git-upload-pack none").status == Exit.NOT_FOUND
    assert server.visit("bob", "git-upload-pack new").status == Exit.NOT_FOUND
    assert server.apps() == ["blog", "shop"]


def test_git_gets_a_clean_environment(server: Server) -> None:
    sent = {
        "GIT_DIR": "/tmp", "GIT_CONFIG_COUNT": "1", "LD_PRELOAD": "/tmp/x.so", "BASH_ENV": "x",
        "PYTHONPATH": "x", "LC_ALL": "C.UTF-8", "GATLING_ACTOR": "root",
        "GATLING_APPS": "*", "GIT_PROTOCOL": "version=2", "SSH_AUTH_SOCK": "x",
        "https_proxy": "http://proxy",
    }  # fmt: skip
    became = server.visit("bob", "git-upload-pack shop", **sent).became
    assert became is not None
    env = became.env
    assert (env["GATLING_ACTOR"], env["GIT_PROTOCOL"]) == ("bob", "version=2")
    assert (env["LC_ALL"], env["https_proxy"]) == ("C.UTF-8", "http://proxy")
    assert env["PATH"] == os.environ["PATH"]
    rest = {"GIT_DIR", "GIT_CONFIG_COUNT", "LD_PRELOAD", "BASH_ENV", "PYTHONPATH",
            "SSH_AUTH_SOCK", "SSH_ORIGINAL_COMMAND", "GATLING_APPS"}  # fmt: skip
    assert not rest & set(env)
    became = server.visit("bob", "git-upload-pack shop", GIT_PROTOCOL="version=2:x").became
    assert became is not None
    assert "GIT_PROTOCOL" not in became.env


# -- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["", " ", "\t"])
def test_without_a_command_one_is_told_who_one_is(
    server: Server, capfd: pytest.CaptureFixture[str], typed: str
) -> None:
    for name, rights in (
        ("ann", "has full access"),
        ("bob", "can deploy new, shop"),
        ("rob", "can read all apps"),
    ):
        seen = server.visit(name, typed.strip("\t"))
        out, err = capfd.readouterr()
        assert (seen.status, seen.ran, err) == (Exit.OK, [], "")
        assert f"Hello, {name}! This key {rights}." in out
        assert ("git push" in out) == (name != "rob")


def test_a_command_is_run_as_it_is_typed(server: Server) -> None:
    seen = server.visit("bob", "config set shop 'A=two words; $(id)' --no-restart")
    ((path, given),) = seen.ran
    assert (path, given["app"]) == ("config set", "shop")
    assert given["assignments"] == ("A=two words; $(id)",)
    assert seen.environment["GATLING_ACTOR"] == "bob"
    assert seen.environment["GATLING_APPS"] == "new,shop"
    assert server.visit("ann", "apps").environment["GATLING_APPS"] == "*"
    assert server.visit("rob", "apps").environment["GATLING_APPS"] == "*"


def test_the_greeting_names_this_server(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    address = f"gatling@{os.uname().nodename}"
    server.visit("bob", "")
    out, _ = capfd.readouterr()
    for line in (f"ssh {address} help ", f"gatling --host {address} apps ",
                 f"git push {address}:APP main "):  # fmt: skip
        assert line in out
    assert "HOST" not in out


@pytest.mark.parametrize(
    ("typed", "path", "app"),
    [
        ("gatling status shop", "status", "shop"),
        ("gatling config:set shop A=1", "config set", "shop"),
        ("-a shop status", None, None),  # in front of the command it is for a laptop
        ("status -a shop", "status", "shop"),
        ("ps --app=shop", "status", "shop"),
        ("rollback v3 -a shop", "rollback", "shop"),
        ("config shop", "config list", "shop"),
    ],
)
def test_what_hands_know_works_over_ssh(
    server: Server, typed: str, path: str | None, app: str | None
) -> None:
    ran = server.visit("bob", typed).ran
    assert [(name, given["app"]) for name, given in ran] == ([(path, app)] if path else [])
    other = server.visit("bob", typed.replace("shop", "blog"))
    assert (other.status, other.ran) == (Exit.REFUSED, [])


def _help(name: str, *words: str) -> str:
    """The help that the holder of a key gets."""
    holder = next(one for one in HOLDERS if one[0] == name)
    grant = policy.Grant(name, holder[1], frozenset(holder[2]))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert run_command_line(words, policy.visitor(grant, "gatling@web1")) == Exit.OK
    return printed.getvalue()


@pytest.mark.parametrize(
    ("name", "who", "there", "not_there"),
    [
        ("ann", "ann is an admin.", {"status", "deploy", "unload", "server"},
         {"init", "up", "down"}),
        ("bob", "bob is a deployer of new and shop.", {"status", "deploy", "config"},
         {"unload", "server", "init"}),
        ("rita", "rita is a reader of shop.", {"status", "logs", "domains"},
         {"deploy", "config", "run", "server"}),
    ],
)  # fmt: skip
def test_help_has_what_the_key_may_do(
    server: Server, name: str, who: str, there: set[str], not_there: set[str]
) -> None:
    text = _help(name, "--help")
    assert who in text
    assert "ssh gatling@web1 COMMAND" in text
    assert "--host" not in text
    listed = set(re.findall(r"^  (\S+)", text.partition("Commands:")[2], re.MULTILINE))
    assert there <= listed
    assert not not_there & listed
    assert _help(name, "help") == text
    for typed in ("help", "gatling help", "help deploy", "domains help"):
        seen = server.visit(name, typed)
        assert (seen.status, [path for path, _ in seen.ran]) == (Exit.OK, ["help"])
    for typed in ("gatling --help", "deploy --help", "config -h", "--version"):
        assert server.visit(name, typed).status == Exit.OK


def test_help_of_a_group_has_what_the_key_may_do() -> None:
    assert "  add " in _help("bob", "domains", "--help")
    listed = _help("rita", "domains", "--help").partition("Commands:")[2]
    assert (" list " in listed, " add " in listed) == (True, False)


@pytest.mark.parametrize(
    ("name", "typed", "said"),
    [
        ("bob", "statuss shop", "There is no command 'statuss'. Did you mean 'status'?"),
        ("bob", "restrat shop", "There is no command 'restrat'. Did you mean 'restart'?"),
        ("rita", "rollbakc shop", "There is no command 'rollbakc'.\n"),
        ("ann", "destroy shop", "'destroy'. It is called `unload` here: `gatling unload shop`."),
        ("bob", "destroy shop", "There is no command 'destroy'.\n"),
        ("rita", "shop restart", "There is no command 'shop'.\n"),
        ("bob", "shop restart", "The command comes first: gatling restart shop"),
        ("bob", "shop recover", "There is no command 'shop'.\n"),
        ("bob", "config sett shop A=1", "There is no command 'config sett'. Did you mean 'set'?"),
        ("ann", "backup", "`gatling server backup FILE`"),
        ("bob", "deploy shop --yes", "No such option '--yes'. It is called --confirm APP here."),
    ],
)
def test_guesses_are_of_what_the_key_may_do(
    server: Server, capfd: pytest.CaptureFixture[str], name: str, typed: str, said: str
) -> None:
    assert server.visit(name, typed).status in (Exit.REFUSED, Exit.USAGE)
    err = capfd.readouterr().err
    assert said in err
    assert f"`ssh gatling@{os.uname().nodename} help`" in err or "Usage: gatling" in err


@pytest.mark.parametrize(
    ("name", "typed", "status"),
    [
        ("bob", "status blog", Exit.REFUSED),
        ("bob", "logs -n 5 blog", Exit.REFUSED),
        ("bob", "unload shop --confirm shop", Exit.REFUSED),
        ("bob", "audit", Exit.REFUSED),
        ("bob", "load other", Exit.REFUSED),
        ("rita", "deploy shop", Exit.REFUSED),
        ("rita", "config get shop A", Exit.REFUSED),
        ("ann", "up", Exit.REFUSED),
        ("ann", "receive shop", Exit.REFUSED),
        ("ann", "ssh-command ann", Exit.REFUSED),
        ("ann", "server install", Exit.REFUSED),
        ("ann", "config set shop --file A /etc/passwd", Exit.REFUSED),
        ("ann", "bash -c id", Exit.REFUSED),
        ("ann", "--host x apps", Exit.REFUSED),
        ("ann", "status 'shop", Exit.INVALID),
        ("ann", "status Shop", Exit.INVALID),
        ("ann", "status shop\nid", Exit.INVALID),
        ("ann", "status shop\x1b[2J", Exit.INVALID),
        ("ann", "status \udcff", Exit.INVALID),
        ("ann", f"config set shop A={'x' * access.MAX_BYTES}", Exit.INVALID),
        ("ann", f"config set shop A={'é' * (access.MAX_BYTES // 2)}", Exit.INVALID),
    ],
)
def test_a_refusal_is_put_on_record(
    server: Server, capfd: pytest.CaptureFixture[str], name: str, typed: str, status: Exit
) -> None:
    before = len(server.audit())
    seen = server.visit(name, typed)
    assert (seen.status, seen.ran, seen.became) == (status, [], None)
    assert " !     " in capfd.readouterr().err
    newest, *older = server.audit()
    assert len(older) == before
    assert (newest.actor, newest.action) == (name, "refused")
    assert 0 < len(newest.detail) < 80


def test_the_record_says_what_and_to_which_app_but_no_value(server: Server) -> None:
    server.visit("rita", "config set shop SECRET=hunter2")
    newest = server.audit()[0]
    assert (newest.actor, newest.app, newest.detail) == ("rita", "shop", "config set")


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("statsu shop", "no command: statsu"),
        ("bash -c 'echo hunter2'", "no command: bash"),
        ("config sett shop SECRET=hunter2", "no command: config sett"),
        ("SECRET=hunter2 apps", "no command: SECRET=…"),
        ("x" * 1000, f"no command: {'x' * 40}…"),
        ("rm\x1b[2J apps", r"no command: rm\x1b[2J"),
        ("status shop\x1b[2J", "status"),
        ("'stat", "no command: 'stat"),
        ("git-upload-archive shop", "no command: git-upload-archive"),
        ("\u202eenabled\udcff", r"no command: \u202eenabled\xff"),
    ],
)
def test_the_record_keeps_the_refused_word(server: Server, typed: str, kept: str) -> None:
    """Bounded, with control characters spelled out, and nothing that may be a secret after it."""
    server.visit("ann", typed)
    newest = server.audit()[0]
    assert (newest.actor, newest.app, newest.action) == ("ann", None, "refused")
    assert newest.detail == kept


def test_a_slip_of_the_pen(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    before = server.audit()
    assert server.visit("bob", "status").status == Exit.USAGE
    assert "Missing argument" in capfd.readouterr().err
    assert server.audit() == before


def test_a_terminal_is_for_console_and_run(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    for typed in ("status shop", "git-receive-pack shop", "logs --help"):
        seen = server.visit("bob", typed, SSH_TTY="/dev/pts/0")
        assert (seen.status, seen.ran, seen.became) == (Exit.INVALID, [], None)
        assert "Leave out ssh's option -t" in capfd.readouterr().err
    for typed in ("console shop", "run shop -- remote"):
        assert server.visit("bob", typed, SSH_TTY="/dev/pts/0").ran
    assert server.visit("bob", "", SSH_TTY="/dev/pts/0").status == Exit.OK


def test_a_key_that_was_removed(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("gone", "x" * 65, "../ann", "Ann", ""):
        for typed in ("", "apps", "git-receive-pack shop"):
            seen = server.visit(name, typed)
            assert (seen.status, seen.ran, seen.became) == (Exit.REFUSED, [], None)
            assert "not authorized" in capfd.readouterr().err
    assert {e.actor for e in server.audit() if e.detail == "key is not known"} == {"gone"}


def test_who_acts_is_the_key_when_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATLING_ACTOR", raising=False)
    user = current_user()
    monkeypatch.setenv("GATLING_ACTOR", "ann@laptop")
    assert current_user() == "ann@laptop"
    for wrong in ("", "Ann", "a\nb", "a b", "x" * 65):
        monkeypatch.setenv("GATLING_ACTOR", wrong)
        assert current_user() == user
