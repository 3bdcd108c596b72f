"""`gatling init`: the jobs for CI are what the documentation shows, and push."""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from gatling.cli import targets
from gatling.errors import Exit
from gatling.project import ci
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Shell

URL = "gatling@server.example.com:shop"
GITHUB, GITLAB = ".github/workflows/deploy.yml", ".gitlab-ci.yml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "web"
    (made / "lib").mkdir(parents=True)
    monkeypatch.chdir(made)
    git("init", "--quiet", "--initial-branch=main")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first", "--allow-empty")
    git("remote", "add", "gatling", URL)
    return made


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], check=True, capture_output=True, text=True)
    targets.remotes.cache_clear()
    return done.stdout.strip()


def test_the_documentation_shows_the_files() -> None:
    page = (ROOT / "docs/how-to/ci.md").read_text()
    shown = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert shown == [ci.github(URL, "main"), ci.gitlab(URL, "main")]


def test_a_job_is_written_at_the_top_of_the_project(
    shell: Shell, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / "lib")
    said = shell.run("init", "--github-actions").out
    assert (project / GITHUB).read_text() == ci.github(URL, "main")
    assert said.startswith(f"{GITHUB} was written. It pushes main to shop on server.example.com.\n")
    for line in (
        "     ssh-keygen -t ed25519 -N '' -C ci-shop -f ~/ci-shop",
        "     gatling server keys add ci-shop --app shop < ~/ci-shop.pub",
        "     ssh-keyscan -t ed25519 server.example.com > ~/ci-shop-hosts",
        "     gh secret set GATLING_KEY < ~/ci-shop",
        "     gh secret set GATLING_KNOWN_HOSTS < ~/ci-shop-hosts",
    ):
        assert line in said.splitlines()
    assert not (project / "lib/gatling.toml").exists()


def test_an_existing_file_stays_and_the_job_is_printed(shell: Shell, project: Path) -> None:
    (project / GITLAB).write_text("test: {}\n")
    said = shell.run("init", "--github-actions", "--gitlab-ci", status=Exit.INVALID)
    assert (project / GITLAB).read_text() == "test: {}\n"
    assert said.out.endswith(ci.gitlab(URL, "main"))
    assert "There is already a .gitlab-ci.yml here. It was not changed." in said.err
    assert (project / GITHUB).exists()
    (project / GITLAB).unlink()
    assert "GATLING_KEY: the text of ~/ci-shop" in shell.run("init", "--gitlab-ci").out
    assert (project / GITLAB).read_text() == ci.gitlab(URL, "main")


def test_the_branch_is_the_one_that_deploys(shell: Shell, project: Path) -> None:
    git("branch", "-m", "master")
    assert "It pushes master to" in shell.run("init", "--gitlab-ci").out
    (project / "gatling.toml").write_text('[deploy]\nbranch = "release/1.0"\n')
    shell.run("init", "--github-actions")
    text = (project / GITHUB).read_text()
    assert '    branches: ["release/1.0"]\n' in text
    assert "HEAD:refs/heads/release/1.0\n" in text
    (project / GITLAB).unlink()
    for branch in ("a+b", "*", "'$x'", "a: b"):
        (project / "gatling.toml").write_text(f'[deploy]\nbranch = "{branch}"\n')
        assert "deploy.branch" in shell.run("init", "--gitlab-ci", status=Exit.INVALID).err
    assert not (project / GITLAB).exists()


@pytest.mark.parametrize(
    ("url", "pushed", "scan"),
    [
        ("ssh://gatling@[fe80::1]:2222/shop", "'ssh://gatling@[fe80::1]:2222/shop'",
         "-p 2222 fe80::1"),
        ("web1.example.com:shop", "gatling@web1.example.com:shop", "web1.example.com"),
        ("ssh://gatling@web1.example.com/~/shop.git", "gatling@web1.example.com:shop",
         "web1.example.com"),
    ],
)  # fmt: skip
def test_other_addresses(shell: Shell, project: Path, url: str, pushed: str, scan: str) -> None:
    git("remote", "set-url", "gatling", url)
    said = shell.run("init", "--gitlab-ci").out
    assert f"    - git push {pushed} HEAD:refs/heads/main\n" in (project / GITLAB).read_text()
    assert f"ssh-keyscan -t ed25519 {scan} > ~/ci-shop-hosts\n" in said


def test_a_server_and_an_app_must_be_known(
    shell: Shell, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("remote", "set-url", "gatling", "gatling@web1:shop")
    assert "the name web1, which has no domain" in shell.run("init", "--gitlab-ci").err
    (project / GITLAB).unlink()
    git("remote", "set-url", "gatling", str(tmp_path / "apps/shop.git"))
    said = shell.run("init", "--gitlab-ci", status=Exit.INVALID).err
    assert "name no app on a server" in said
    assert "gatling remote add gatling@SERVER" in said
    git("remote", "rename", "gatling", "a")
    for name, app in (("b", "blog"), ("c", "shop")):
        git("remote", "add", name, f"gatling@web1:{app}")
    said = shell.run("init", "--gitlab-ci", status=Exit.INVALID).err
    assert "name several apps: blog, shop" in said
    monkeypatch.chdir(tmp_path)
    targets.remotes.cache_clear()
    assert "in no git repository" in shell.run("init", "--gitlab-ci", status=Exit.INVALID).err
    assert not (project / GITLAB).exists()


SSH = """\
#!/bin/sh
printf '%s\\n' "$@" > "$HOME/argv"
for word in "$@"; do last=$word; done
cd "$HOME/server" && exec sh -c "$last"
"""


def script(text: str) -> str:
    """The commands of a job, without the installation of packages."""
    if "run: |\n" in text:
        return textwrap.dedent(text.partition("run: |\n")[2])
    lines = text.partition("  script:\n")[2].splitlines()
    return "\n".join(line.removeprefix("    - ") for line in lines if "apk add" not in line)


@dataclass
class Runner:
    """A machine of a CI service, and the server that its jobs push to by a script for `ssh`."""

    home: Path
    job: Any

    def __post_init__(self) -> None:
        (self.home / "bin").mkdir(parents=True)
        (self.home / "bin/ssh").write_text(SSH)
        (self.home / "bin/ssh").chmod(0o755)
        git("init", "--quiet", "--bare", str(self.home / "server/shop"))
        self.key, self.hosts = self.home / ".ssh/gatling", self.home / ".ssh/known_hosts"
        self.given = {"GATLING_KEY": "a key", "GATLING_KNOWN_HOSTS": "a host"}
        if self.job is ci.gitlab:
            self.key, self.hosts = self.home / "key", self.home / "hosts"
            self.key.write_text("a key\n")
            self.hosts.write_text("a host\n")
            self.given = {"GATLING_KEY": str(self.key), "GATLING_KNOWN_HOSTS": str(self.hosts)}

    def run(self, project: Path, commands: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.home / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            ["sh", "-euc", commands], check=False, cwd=project, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | self.given | {"HOME": str(self.home), "PATH": path},
        )  # fmt: skip

    def live(self) -> str:
        return git("-C", str(self.home / "server/shop"), "rev-parse", "refs/heads/main")


@pytest.fixture(params=[ci.github, ci.gitlab])
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    return Runner(tmp_path / "ci", request.param)


def test_a_job_pushes_with_its_key_and_the_pinned_host(project: Path, runner: Runner) -> None:
    done = runner.run(project, script(runner.job(URL, "main")))
    assert done.returncode == 0, done.stdout
    assert (runner.key.read_text(), runner.hosts.read_text()) == ("a key\n", "a host\n")
    assert runner.key.stat().st_mode & 0o777 == 0o600
    argv = (runner.home / "argv").read_text().splitlines()
    assert argv[argv.index("-i") + 1] == str(runner.key)
    assert "IdentitiesOnly=yes" in argv
    assert (f"UserKnownHostsFile={runner.hosts}" in argv) is (runner.job is ci.gitlab)
    assert runner.live() == git("rev-parse", "HEAD")


def test_a_job_in_a_shallow_clone_fetches_the_rest(project: Path, runner: Runner) -> None:
    """Its checkout may be older than the job, or made by another one; a server takes none."""
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "second", "--allow-empty")
    clone = runner.home / "clone"
    git("clone", "--quiet", "--depth=1", f"file://{project}", str(clone))
    assert (clone / ".git/shallow").exists()
    commands = script(runner.job(URL, "main"))
    plain = "\n".join(line for line in commands.splitlines() if "--unshallow" not in line)
    refused = runner.run(clone, plain)
    assert (refused.returncode != 0, "shallow" in refused.stdout) == (True, True), refused.stdout
    done = runner.run(clone, commands)
    assert done.returncode == 0, done.stdout
    assert runner.live() == git("rev-parse", "HEAD")
    assert git("-C", str(runner.home / "server/shop"), "rev-list", "--count", "main") == "2"


LOADED = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout, default=str)"


def yaml(text: str) -> Any:
    """The text as a YAML parser of the system's reads it. Skips the test where there is none."""
    done = subprocess.run(
        ["/usr/bin/python3", "-c", LOADED], input=text, capture_output=True, text=True, check=False
    )
    if "No module named" in done.stderr:
        pytest.skip("the system's Python has no YAML parser")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_files_are_yaml() -> None:
    url = "ssh://gatling@[fe80::1]:2222/shop"
    found = yaml(ci.github(url, "1.0"))
    on = found.get("on") or found["true"]  # YAML 1.1 reads the word as a truth value
    assert on == {"push": {"branches": ["1.0"]}}
    assert found["permissions"] == {"contents": "read"}
    checkout, push = found["jobs"]["deploy"]["steps"]
    assert checkout["with"] == {"fetch-depth": 0}
    assert push["env"]["GATLING_KEY"] == "${{ secrets.GATLING_KEY }}"
    assert push["run"].endswith(f"\ngit push '{url}' HEAD:refs/heads/1.0\n")
    job = yaml(ci.gitlab(url, "1.0"))["deploy"]
    assert job["variables"] == {"GIT_DEPTH": "0"}
    assert job["rules"] == [{"if": '$CI_COMMIT_BRANCH == "1.0"'}]
    assert job["script"][-1] == f"git push '{url}' HEAD:refs/heads/1.0"
    assert all(isinstance(line, str) for line in job["script"])
