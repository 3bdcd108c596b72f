"""`gatling init`: the jobs for CI are what the documentation shows, and push."""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
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


@pytest.mark.parametrize("job", [ci.github, ci.gitlab])
def test_a_job_pushes_with_its_key_and_the_pinned_host(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Any
) -> None:
    home = tmp_path / "ci"
    (home / "bin").mkdir(parents=True)
    (home / "bin/ssh").write_text(SSH)
    (home / "bin/ssh").chmod(0o755)
    git("init", "--quiet", "--bare", str(home / "server/shop"))
    given = {"GATLING_KEY": "a key", "GATLING_KNOWN_HOSTS": "a host"}
    key, hosts = home / ".ssh/gatling", home / ".ssh/known_hosts"
    if job is ci.gitlab:
        key, hosts = home / "key", home / "hosts"
        key.write_text("a key\n")
        hosts.write_text("a host\n")
        given = {"GATLING_KEY": str(key), "GATLING_KNOWN_HOSTS": str(hosts)}
    path = f"{home / 'bin'}:{os.environ['PATH']}"
    subprocess.run(
        ["sh", "-euc", script(job(URL, "main"))], check=True, capture_output=True,
        env=os.environ | given | {"HOME": str(home), "PATH": path},
    )  # fmt: skip
    assert (key.read_text(), hosts.read_text()) == ("a key\n", "a host\n")
    assert key.stat().st_mode & 0o777 == 0o600
    argv = (home / "argv").read_text().splitlines()
    assert argv[argv.index("-i") + 1] == str(key)
    assert "IdentitiesOnly=yes" in argv
    assert (f"UserKnownHostsFile={hosts}" in argv) is (job is ci.gitlab)
    head = git("rev-parse", "HEAD")
    assert git("-C", str(home / "server/shop"), "rev-parse", "refs/heads/main") == head


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
