"""Packages are installed also while apt-get is at work already: on a new machine it is."""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.errors import CommandFailed
from gatling.host import debian
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable

APT_SH = Path(__file__).parents[2] / "bin" / "apt.sh"
CONFIG = """\
Dir::State "{0}";
Dir::State::lists "{0}/lists";
Dir::State::status "{0}/status";
Dir::Cache "{0}/cache";
Dir::Etc::sourcelist "{1}";
Dir::Etc::sourceparts "-";
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An apt of its own, with its own locks and nothing that could be installed."""
    for directory in ("lists/partial", "cache/archives/partial"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "status").touch()
    (tmp_path / "apt.conf").write_text(CONFIG.format(tmp_path, tmp_path / "sources.list"))
    (tmp_path / "sources.list").touch()
    return {**os.environ, "APT_CONFIG": str(tmp_path / "apt.conf"), "LC_ALL": "C"}


def by_shell(env: dict[str, str], seconds: int = 300) -> str:
    script = APT_SH.read_text()
    assert "+ 300)" in script
    script = script.replace("+ 300)", f"+ {seconds})")
    script += 'say() { echo "$*"; }; sudo=(); apt_install; echo status $?'
    done = subprocess.run(["bash", "-euc", f"set +e; {script}"], env=env, text=True, check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    return done.stdout


def by_python(env: dict[str, str]) -> str:
    debian.update_lists(env)
    return "status 0\n"


@pytest.mark.parametrize("update", [by_shell, by_python])
def test_another_apt_is_waited_for(
    env: dict[str, str], tmp_path: Path, update: Callable[[dict[str, str]], str]
) -> None:
    assert update(env).endswith("status 0\n")
    tries = tmp_path / "tries"
    counting = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    (tmp_path / "bin").mkdir()
    apt_get = tmp_path / "bin" / "apt-get"
    apt_get.write_text(f'#!/bin/sh\necho >>{shlex.quote(str(tries))}\nexec /usr/bin/apt-get "$@"\n')
    apt_get.chmod(0o755)
    with (tmp_path / "lists/lock").open("w") as file, ThreadPoolExecutor() as pool:
        fcntl.lockf(file, fcntl.LOCK_EX)
        waiting = pool.submit(update, env | counting)
        until(lambda: tries.exists() and len(tries.read_text()) >= 2, "a second try")
        assert not waiting.done()
        file.close()  # and the lock is gone
        said = waiting.result(timeout=30)
    assert said.endswith("status 0\n")
    if update is by_shell:
        assert said.count("waiting for another apt-get to end\n") == 1


def test_but_not_for_ever(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "APT_SECONDS", 0)
    with (tmp_path / "lists/lock").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        with pytest.raises(CommandFailed) as refused:
            by_python(env)
        assert "Could not get lock" in "".join(refused.value.log)
        said = by_shell(env, seconds=0)
    assert "Could not get lock" in said
    assert said.endswith("status 1\n")


def test_what_else_goes_wrong_is_told_at_once(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("nonsense\n")
    begun = time.monotonic()
    with pytest.raises(CommandFailed):
        by_python(env)
    assert by_shell(env).endswith("status 1\n")
    assert time.monotonic() - begun < 60
