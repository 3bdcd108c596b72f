"""A sample of commands with a key of each role, through a real sshd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatling.errors import Exit
from tests.ssh.roles import COMMANDS, line, may

if TYPE_CHECKING:
    from tests.server.server import Person, Server

SAMPLE = ("whoami", "status", "config list", "server keys list", "server backup")
"""At least one for each role, and one that nobody may use."""


@pytest.fixture(scope="module")
def people(server: Server) -> dict[str, Person]:
    server.gatling("load", "shop")
    return {
        "reader": server.let_in("rita", "shop", role="reader"),
        "deployer": server.let_in("bob", "shop"),
        "admin": server.let_in("ann", role="admin"),
    }


def test_a_key_may_use_the_commands_of_its_role(server: Server, people: dict[str, Person]) -> None:
    refused = set()
    for role, person in people.items():
        for command in SAMPLE:
            done = person.try_run(*line(command).split())
            if may(role, command):
                assert (done.returncode, done.stderr) == (COMMANDS[command].status, "")
                continue
            refused.add((person.name, command))
            assert done.returncode == Exit.REFUSED
            why = (
                f"`gatling {command}` is not available over SSH."
                if COMMANDS[command].least == "nobody"
                else f"{person.name} is a {role} and may not use `gatling {command}`."
            )
            assert why in done.stderr
    entries = server.json("audit")
    assert refused == {
        (entry["actor"], entry["detail"]) for entry in entries if entry["action"] == "refused"
    }


def test_git_is_for_the_roles_that_may_push(people: dict[str, Person]) -> None:
    project = people["reader"].project()
    refused = project.push(ok=False)
    assert "rita is a reader and may not use `git-receive-pack`" in refused
    assert project.git("ls-remote", "gatling") == ""  # a reader may fetch
