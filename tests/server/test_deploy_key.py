"""A deploy key, with a real sshd as the git host: the server's own."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.conftest import Project
from tests.push.test_deploy_key import DEP

if TYPE_CHECKING:
    from tests.server.server import Person, Server


def private_repository(server: Server, person: Person) -> None:
    """`git@localhost:dep.git`, with a commit."""
    made = Project(person, "dep", person.root / "dep")  # type: ignore[arg-type]
    made.directory.mkdir()
    made.git("init", "--quiet", "--initial-branch", "main")
    made.write("mix.exs", DEP)
    made.write("lib/dep.ex", 'defmodule Dep do\n  def say, do: "private"\nend\n')
    made.commit()
    server.box.exec(["useradd", "--create-home", "git"])
    made.git("clone", "--quiet", "--bare", ".", str(person.root / "dep.git"))
    shutil.copytree(person.root / "dep.git", server.box.root / "home/git/dep.git")
    server.box.exec(["chown", "-R", "git:git", "/home/git"])


def test_a_private_dependency(server: Server) -> None:
    person = server.let_in("dora", "shop")
    private_repository(server, person)
    project = person.project()
    project.replace("mix.exs", "deps: []", 'deps: [{:dep, git: "git@localhost:dep.git"}]')
    project.replace("lib/counter/page.ex", "def title, do: ", "def title, do: Dep.say() # ")
    project.commit()
    refused = project.push(ok=False)
    assert "gatling deploy-key create shop" in refused
    assert "no deploy key" in person.run("deploy-key", "show", "shop", status=4)
    public = person.run("deploy-key", "create", "shop").strip()
    server.box.authorize("git", public)
    assert person.run("deploy-key", "show", "shop").strip() == public
    project.push()
    assert server.serves("private")
    directory = "/var/lib/gatling/apps/shop/build/ssh"
    listed = server.box.exec(["stat", "-c", "%U %a %n", f"{directory}/deploy_key"]).stdout
    assert listed.split()[:2] == ["gatling-shop", "600"]
    # neither Gatling nor the app's instances can read it
    server.box.exec(["runuser", "-u", "gatling", "--", "test", "-e", f"{directory}/deploy_key"])
    reading = ["runuser", "-u", "gatling", "--", "cat", f"{directory}/deploy_key"]
    assert server.box.exec(reading, check=False).returncode != 0
    seen = person.run("run", "shop", "--", "eval", f'IO.inspect(File.ls("{directory}"))')
    assert "enoent" in seen
    other = server.let_in("oscar", "other")
    for verb in ("create", "show", "remove"):
        other.run("deploy-key", verb, "shop", status=5)
    person.run("deploy-key", "remove", "shop")
    assert "no deploy key" in person.run("deploy-key", "show", "shop", status=4)
    actions = [entry["action"] for entry in server.json("audit", "shop")]
    assert {"deploy-key create", "deploy-key remove"} <= set(actions)


def test_what_a_hostile_app_puts_in_its_place(server: Server) -> None:
    """Its user may write there: no more than what he could read himself is ever told."""
    person = server.let_in("eve", "evil")
    person.run("load", "evil")
    person.run("deploy-key", "create", "evil")
    directory = "/var/lib/gatling/apps/evil/build/ssh"
    for target in ("/var/lib/gatling/home/state.db", "/etc/shadow", "/etc/passwd"):
        server.box.exec(["ln", "-sfn", target, f"{directory}/deploy_key"])
        shown = person.try_run("deploy-key", "show", "evil")
        assert shown.returncode in (1, 4)
        assert "root:" not in shown.stdout + shown.stderr
    server.box.exec(["rm", f"{directory}/deploy_key"])
    server.box.exec(["chmod", "0", directory])
    person.run("deploy-key", "create", "evil", status=1)
    server.box.exec(["chmod", "755", directory])
    person.run("deploy-key", "create", "evil")


def test_many_short_commands_of_an_app_in_a_row(server: Server) -> None:
    """systemd limits how often a unit starts: no unit that comes with an app's may count."""
    person = server.let_in("rob", "busy")
    person.run("load", "busy")
    person.run("deploy-key", "create", "busy")
    shown = {person.run("deploy-key", "show", "busy") for _ in range(12)}
    assert len(shown) == 1
    assert "ssh-ed25519 " in shown.pop()
