"""Commands and pushes through the forced command, as sshd would start it for a key."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from gatling.errors import Exit

if TYPE_CHECKING:
    from tests.conftest import Project, World

SSH = """\
#!/bin/sh
# what sshd does for a key with a forced command; what it is called with ends in the command
for last; do :; done
SSH_ORIGINAL_COMMAND=$last exec {python} -I -m gatling ssh-command {name}
"""


def let_in(world: World, name: str, role: str, *named: str) -> None:
    file = world.root / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    options = [word for app in named for word in ("--app", app)]
    text = file.with_suffix(".pub").read_text()
    world.run("server", "keys", "add", name, "--role", role, *options, stdin=text)
    script = world.root / f"ssh-{name}"
    script.write_text(SSH.format(python=sys.executable, name=name))
    script.chmod(0o755)


def travel_as(project: Project, name: str) -> None:
    script = str(project.world.root / f"ssh-{name}")
    project.world.env |= {"GIT_SSH_COMMAND": script, "GIT_SSH_VARIANT": "ssh"}


def over_ssh(world: World, name: str, typed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [world.root / f"ssh-{name}", "gatling@box", typed], env=world.env, check=False,
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip


def test_a_push_makes_an_app_deploys_it_and_is_its_keys(world: World) -> None:
    let_in(world, "bob", "deployer", "shop")
    let_in(world, "rita", "reader")
    project = world.project("shop")
    project.git("remote", "set-url", "gatling", "gatling@box:shop")
    travel_as(project, "rita")
    refused = project.push(ok=False)
    assert "rita is a reader and may not use `git-receive-pack`" in refused
    assert world.json("apps") == []
    assert not (world.home / "apps/shop.git").exists()

    travel_as(project, "bob")
    text = project.push()
    assert "shop is new here: created it" in text
    assert "=====> shop v1" in text
    assert world.get("/").status == 200
    assert world.last()["actor"] == "bob"
    actors = {(entry["action"], entry["actor"]) for entry in world.json("audit", "shop")}
    assert actors >= {("load", "bob"), ("refused", "rita")}

    travel_as(project, "rita")
    project.git("clone", "--quiet", "ssh://gatling@box/~/shop", "copy")
    assert (project.directory / "copy/mix.exs").is_file()
    status = over_ssh(world, "rita", "status shop")
    assert (status.returncode, status.stderr) == (0, "")
    assert "running" in status.stdout
    stopped = over_ssh(world, "rita", "stop shop")
    assert stopped.returncode == Exit.REFUSED
    assert world.status()["state"] == "running"
    answered = over_ssh(world, "bob", "run shop -- rpc 'IO.puts(6 * 7)'")
    assert answered.stdout.strip() == "42"

    # git does not pass on what terminal the client has, so colours are asked for
    travel_as(project, "bob")
    project.write("gatling.toml", "[nonsense]\n")
    project.commit()
    assert "\x1b[" not in project.push(ok=False)
    assert "\x1b[" in project.push(ok=False, options=("--push-option=color",))


def test_a_deployer_sees_his_apps_only(world: World) -> None:
    let_in(world, "bob", "deployer", "shop")
    let_in(world, "ann", "admin")
    for app in ("shop", "blog"):
        assert over_ssh(world, "ann", f"load {app}").returncode == 0
    listed = over_ssh(world, "bob", "apps").stdout
    assert ("shop" in listed, "blog" in listed) == (True, False)
    assert "blog" in over_ssh(world, "ann", "apps").stdout
    assert over_ssh(world, "bob", "load more").returncode == Exit.REFUSED
    pub = (world.root / "bob.pub").read_text().replace("AAAA", "AAAB", 1)
    added = subprocess.run(
        [world.root / "ssh-ann", "gatling@box", "server keys add eve --role reader"],
        env=world.env, check=False, capture_output=True, text=True, input=pub,
    )  # fmt: skip
    assert added.returncode == Exit.INVALID
    removed = over_ssh(world, "ann", "server keys remove bob")
    assert removed.returncode == 0
    assert over_ssh(world, "bob", "apps").returncode == Exit.REFUSED
