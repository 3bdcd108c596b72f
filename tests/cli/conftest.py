"""The command line in this process, on a home of its own in which nothing runs."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from gatling.cli import cli, run_command_line
from tests.cli.far import Far

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Said:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


class Shell:
    """Somebody who types commands."""

    def __init__(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.home = home
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def run(self, *arguments: str, stdin: bytes = b"", status: int = 0) -> Said:
        """A command that ends with this exit status."""
        said = self.try_run(*arguments, stdin=stdin)
        assert said.status == status, said
        return said

    def try_run(self, *arguments: str, stdin: bytes = b"") -> Said:
        """A command, however it ends."""
        self._monkeypatch.setattr(sys, "argv", ["gatling", *arguments])
        with io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8") as given:
            self._monkeypatch.setattr(sys, "stdin", given)
            ended = run_command_line()
        said = Said(ended, *self._capfd.readouterr())
        assert "Traceback" not in said.err
        return said

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").out)


def tree(command: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below this one, with the words that call it."""
    if not isinstance(command, click.Group):
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield (*names, name), below
        yield from tree(below, *names, name)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    root = Path(tempfile.mkdtemp(prefix="gt-", dir="/tmp"))
    monkeypatch.setenv("GATLING_HOME", str(root / "home"))
    monkeypatch.setenv("GATLING_LISTEN", "127.0.0.1:9080")
    for _, command in tree(cli):
        # click keeps the help option that the first caller saw; the next test may look otherwise
        monkeypatch.setattr(command, "_help_option", None, raising=False)
    for name in ("GATLING_PORTS", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    yield Shell(root / "home", monkeypatch, capfd)
    shutil.rmtree(root)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Far:
    """A server that is meant by every command."""
    made = Far(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("GATLING_HOST", "web1")
    return made


@pytest.fixture
def shop(shell: Shell) -> Shell:
    """With an app to which nothing has been pushed yet."""
    shell.run("load", "shop")
    return shell


SSH = """\
#!{python}
import json, os, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv) + "\\n")
sys.exit(7)
"""
FORWARDED = 7
"""The stand-in's exit status, which no command of ours has here."""


@dataclass
class Laptop:
    """Somebody who types commands in a directory."""

    root: Path
    env: dict[str, str]

    @property
    def project(self) -> Path:
        return self.root / "project"

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.project, env=self.env, check=True)

    def remotes(self, **urls: str) -> None:
        self.git("init", "--quiet")
        for name, url in urls.items():
            self.git("remote", "add", name, url)

    def run(
        self, *words: str, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-I", "-m", "gatling", *words],
            cwd=cwd or self.project, env=self.env | environment, check=False,
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done

    def sent(self, *words: str, cwd: Path | None = None, **environment: str) -> list[str] | None:
        """What ssh was called with; None when the command stayed here."""
        log = self.root / "log"
        log.unlink(missing_ok=True)
        done = self.run(*words, cwd=cwd, **environment)
        if not log.exists():
            return None
        assert done.returncode == FORWARDED
        (line,) = log.read_text().splitlines()
        argv: list[str] = json.loads(line)
        return argv[1:]


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short path: a home has sockets in it."""
    path = Path(tempfile.mkdtemp(prefix="gt-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def laptop(short: Path) -> Laptop:
    programs = short / "bin"
    programs.mkdir()
    (short / "project/deep/er").mkdir(parents=True)
    ssh = programs / "ssh"
    ssh.write_text(SSH.format(python=sys.executable, log=str(short / "log")))
    ssh.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "GATLING_"))}
    return Laptop(
        short,
        kept
        | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(short),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CEILING_DIRECTORIES": str(short),
        },
    )
