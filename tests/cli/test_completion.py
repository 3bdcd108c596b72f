"""Completion: what is offered at each place, from records, from a server, and by real shells."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from gatling.cli import completing, targets
from gatling.cli.registry import COMMANDS
from gatling.host import completions
from gatling.project import settings
from gatling.project.setting_names import SETTING_NAMES
from gatling.state import apps, domains, known_names, releases
from gatling.state.config import write
from gatling.state.database import open_database
from tests.deploy.stage import release

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Shell


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with two apps, whose records are all that there is."""
    root = tmp_path / "home"
    root.mkdir()
    with contextlib.closing(open_database(root / "state.db")) as db:
        for name in ("shop", "blog"):
            apps.create(db, name, lambda _: True)
        for number in (1, 2, 11):
            releases.add(db, release(number))
        domains.add(db, "shop", "shop.example.com")
        with db.transaction():
            write(db, "shop", {"DATABASE_URL": "secret", "MAIL": "x"})
        given = {"schedule.report.cron": "@daily", "processes.mail.count": "2"}
        apps.change_settings(db, "shop", lambda _: given)
    monkeypatch.setenv("GATLING_HOME", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GATLING_HOST", raising=False)
    monkeypatch.chdir(tmp_path)
    return root


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("deploy", ["deploy", "deployments", "deploy-key"]),
        ("config ", ["list", "get", "set", "unset"]),
        ("xyzzy ", []), ("status ", ["blog", "shop"]), ("status s", ["shop"]),
        ("-a ", ["blog", "shop"]), ("status -a b", ["blog"]),
        ("rollback shop ", ["v11", "v2", "v1"]), ("rollback shop v1", ["v11", "v1"]),
        ("deploy --app shop v2", ["v2"]), ("-a shop rollback v2", ["v2"]),
        ("diff shop v1 ", ["v11", "v2", "v1"]),
        ("deploy shop v1 --strategy r", ["rolling", "restart"]), ("status --js", ["--json"]),
        ("config get shop ", ["DATABASE_URL", "MAIL"]),
        ("config unset shop MAIL D", ["DATABASE_URL"]), ("config set shop M", ["MAIL="]),
        ("domains remove shop shop.e", ["shop.example.com"]),
        ("settings set shop health.pa", ["health.path="]),
        ("settings unset shop proxy.hs", ["proxy.hsts"]), ("jobs run shop ", ["report"]),
        ("scale shop ", ["mail="]), ("help conf", ["config"]), ("help config un", ["unset"]),
        ("completion ", ["bash", "zsh", "fish"]), ("--host web1 --v", ["--version"]),
        ("domains list shop x", []), ("run shop -- ", []),
    ],
)  # fmt: skip
def test_what_is_offered(home: Path, typed: str, offered: list[str]) -> None:
    *words, unfinished = typed.split(" ")
    assert completing.complete(words, unfinished) == offered


def test_the_keys_of_settings_are_all_of_them() -> None:
    """Completion does not load the models of settings."""
    assert list(SETTING_NAMES) == [key for key in settings.known() if "NAME" not in key]


@pytest.mark.parametrize("typed", ["status ", "rollback shop ", "settings set shop health."])
def test_completion_loads_only_what_it_needs(home: Path, typed: str) -> None:
    """It stays within the time of `import click` and some milliseconds."""
    script = (
        f"import sys; sys.argv = ['gatling', 'complete', *{typed.split(' ')!r}]\n"
        "from gatling.__main__ import main; main()\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('msgspec', 'subprocess')"
        " or m.startswith('gatling.platform')])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True,
        env=os.environ,
    )  # fmt: skip
    *offered, loaded = done.stdout.splitlines()
    assert offered
    assert loaded == "[]"


def test_every_command_can_be_completed(home: Path) -> None:
    for name in COMMANDS:
        for rest in ([], ["shop"], ["-a"], ["shop", "-"]):
            completing.complete([name, *rest], "")


def test_the_app_that_a_project_names_needs_no_word(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATLING_APP", "shop")
    assert completing.complete(["rollback"], "") == ["v11", "v2", "v1", "blog", "shop"]


def test_no_home_offers_nothing_and_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATLING_HOME", str(tmp_path / "none"))
    assert completing.complete(["status"], "") == []
    assert not (tmp_path / "none").exists()
    assert known_names.read(tmp_path) == {}


def test_the_names_are_those_that_a_key_may_see(
    home: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATLING_HOME", str(home))
    names = known_names.read(home / "state.db", lambda app: app == "blog")
    assert list(names) == ["blog"]
    assert "secret" not in json.dumps(known_names.read(home / "state.db"))


def test_a_servers_names_are_kept_and_asked_for_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ssh` writes down that it was called, and answers as the server does."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncat {tmp_path}/answer\n', encoding="utf-8"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    answer, asked = tmp_path / "answer", tmp_path / "asked"
    answer.write_text('{"far": {"releases": ["v3"], "config": [], "x": 1}, "bad": 7}')
    for _ in range(3):
        assert completing.complete(["--host", "web1", "status"], "") == ["far"]
    assert completing.complete(["--host", "web1", "rollback", "far"], "") == ["v3"]
    assert len(asked.read_text().splitlines()) == 1
    assert asked.read_text().endswith("gatling@web1 -- completion --names\n")
    # an old answer is given at once, and the server asked beside that
    (kept,) = (tmp_path / "cache/gatling/names").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    os.utime(kept, (0, time.time() - 3600))
    answer.write_text('{"near": {}}')
    assert completing.complete(["--host", "web1", "status"], "") == ["far"]
    deadline = time.monotonic() + 60
    while completing.complete(["--host", "web1", "status"], "") != ["near"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(asked.read_text().splitlines()) == 2


def test_what_a_server_says_is_text_alone(home: Path, tmp_path: Path) -> None:
    kept = completing._kept(targets.Host("gatling@web1"))
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"a\x1b[2J": {}, "b\nrm -rf": {}, "fine": {"releases": ["$(id)"]}}))
    assert completing.complete(["--host", "web1", "status"], "") == ["fine"]


def test_what_goes_wrong_prints_nothing(
    home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATLING_HOST", "not a host")
    assert completing.main(["status", ""]) == 1
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The command line, in a directory of its own."""
    made = tmp_path / "bin" / "gatling"
    made.parent.mkdir()
    made.write_text(f'#!/bin/sh\nexec {sys.executable} -m gatling "$@"\n')
    made.chmod(0o755)
    return made


def test_bash_completes(home: Path, program: Path) -> None:
    bash = shutil.which("bash")
    assert bash
    text = (
        f"{completions.BASH}\n"
        "compopt() { :; }\n"
        'try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _gatling;'
        ' echo "${COMPREPLY[*]}"; }\n'
        "try gatling roll\ntry gatling rollback shop v1\ntry gatling config set shop M\n"
        "try gatling nonsense ''\n"
    )
    done = subprocess.run(
        [bash, "--norc", "-c", text], capture_output=True, text=True, check=True,
        env=os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["rollback", "v11 v1", "MAIL=", ""]
    assert done.stderr == ""


TYPED = ("gatling roll", "gatling rollback shop v1", "gatling config set shop M", "gatling nosuch ")
OFFERED = [["rollback"], ["v11", "v1"], ["MAIL="], []]


def test_zsh_completes(home: Path, program: Path, tmp_path: Path) -> None:
    """Its function, with stand-ins for what zsh gives to it and takes from it in a terminal."""
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("zsh is not installed")
    functions = tmp_path / "functions"
    functions.mkdir()
    (functions / "_gatling").write_text(completions.ZSH)
    text = (
        f"fpath=({functions} $fpath)\n"
        "compdef() { :; }\n"
        'compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -r -- "offered $*"; }\n'
        "autoload -Uz _gatling\n"
        'try() { words=("$@"); CURRENT=$#; print -r -- "typed"; _gatling; }\n'
        + "".join(f"try {words(line)}\n" for line in TYPED)
    )
    done = subprocess.run(
        [zsh, "-f", "-c", text], capture_output=True, text=True, check=False,
        env=os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.stderr == ""
    tries = [part.split() for part in done.stdout.split("typed\n")[1:]]
    assert [found[1:] for found in tries] == OFFERED


def test_fish_completes(home: Path, program: Path, tmp_path: Path) -> None:
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("fish is not installed")
    tries = "".join(f"complete -C '{line}'; echo .\n" for line in TYPED)
    done = subprocess.run(
        [fish, "--no-config", "-c", f"{completions.FISH}\n{tries}"],
        capture_output=True, text=True, check=True,
        env=os.environ | {
            "PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path),
        },
    )  # fmt: skip
    assert done.stderr == ""
    found = [part.split() for part in done.stdout.split(".\n")[:-1]]
    assert [sorted(words) for words in found] == [sorted(words) for words in OFFERED]


def words(line: str) -> str:
    """The words of a command line, quoted, with the unfinished one."""
    return " ".join(f"'{word}'" for word in line.split(" "))


def test_a_script_or_the_names(shell: Shell) -> None:
    assert shell.run("completion", "fish").out == completions.FISH
    assert shell.run("completion", "--names").out.strip() == "{}"
    assert "Give a shell, or --names." in shell.run("completion", status=2).err
